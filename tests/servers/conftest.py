"""The example repository and the command, as the end-to-end tests have them, and short waits for one question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from poolcli import asking
from tests.e2e.conftest import Pool, make_pool, pool  # noqa: F401  (fixtures)
from tests.models.misbehaving import Misbehaving, Play
from tests.servers.harness import serving


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of this process, not of the command: as many as always, and each a hundredth as long."""
    monkeypatch.setattr(asking, "RETRIES", tuple(pause / 100 for pause in asking.RETRIES))
    monkeypatch.setattr(asking, "LOADING_PAUSES", (0.005, 0.05))
    monkeypatch.setattr(asking, "LONGEST_WAIT", 0.5)


@dataclass
class Done:
    """What came of `pool do`."""

    pool: Pool
    server: Misbehaving
    code: int
    out: str

    @property
    def why(self) -> str:
        return str(self.pool.result()["why"])

    def events(self, type: str) -> list[dict]:
        return [e["data"] for e in self.pool.events() if e["type"] == type]

    def notices(self, code: str) -> list[str]:
        return [data["text"] for data in self.events("notice") if data["code"] == code]

    @property
    def same_bytes(self) -> list[int]:
        """The places of requests whose bytes are those of the one before."""
        bodies = self.server.bodies
        return [n for n in range(1, len(bodies)) if bodies[n] == bodies[n - 1]]


@pytest.fixture
def do(pool: Pool) -> Iterator[Callable[..., Done]]:  # noqa: F811
    """Runs the real command against a server that plays these."""

    def run(
        *plays: Play, args: tuple[str, ...] = (), facts: Mapping[str, Play] | None = None, **env: str
    ) -> Done:
        pool.env.update(env)
        with serving(*plays, facts=facts) as server:
            done = pool("do", "fix add", "--base-url", server.base_url, "--model", "m", *args, timeout=120)
        assert "Traceback" not in done.stderr
        return Done(pool, server, done.returncode, done.stdout + done.stderr)

    yield run
