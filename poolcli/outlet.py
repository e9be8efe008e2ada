"""The way out of a run's sandbox: opened where hosts are allowed, closed with the run, every request an event."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from poolcli.errors import RefusedError
from poolcli.network.inside import PROGRAM
from poolcli.run import Run
from poolcli.sandbox import ownership
from poolcli.sandbox.base import Confinement
from poolcli.workspace import Confine, Workspace

if TYPE_CHECKING:
    from poolcli.network.proxy import Proxy as _Proxy

#: Different requests that a run records: an install asks for tens of hosts, a scan of ports for thousands.
RECORDED = 200


class Outlet:
    """A proxy that runs for one run. `confine` adds it to what commands may reach."""

    def __init__(self, run: Run, path: Path) -> None:
        self._run, self._path = run, path
        self._told: set[tuple[str, int, bool]] = set()
        self._proxy: _Proxy | None = None

    async def open(self, entries: Sequence[str]) -> None:
        """Begin to listen. Raises OSError."""
        from poolcli.network import hosts
        from poolcli.network.proxy import Decision, Proxy

        def decided(decision: Decision) -> None:
            # Once each: a package manager opens tens of connections to the same host.
            what = (decision.host, decision.port, decision.allowed)
            if what not in self._told and len(self._told) < RECORDED:
                self._told.add(what)
                self._run.emit("network.asked", **decision.to_json())

        proxy = Proxy(hosts.allowed(entries), decided)
        await proxy.start(self._path)
        self._proxy = proxy

    def confine(self, confinement: Confinement) -> Confinement:
        """The confinement with this way out."""
        return replace(confinement, proxy=self._path, readable=(*confinement.readable, PROGRAM.parent))

    async def close(self) -> None:
        """End it; open connections break. More than once is fine."""
        if self._proxy is not None:
            await self._proxy.close()
            self._proxy = None


async def open_for(run: Run, space: Workspace, entries: Sequence[str]) -> Outlet | None:
    """Give a workspace's commands a way out to the listed hosts; None where none is needed.

    Raises RefusedError where the sandbox can have none: it must not become a wider one silently.
    """
    if not entries:
        return None
    name = space.sandbox.name
    if name in ("none", "external"):
        run.notice(
            "--allow-net limits nothing here: commands have the network of what they run in",
            level="warning",
            code="network",
        )
        return None
    if name != "bubblewrap":
        raise RefusedError(
            f"the {name} sandbox can let no single host through",
            "install bubblewrap, or leave --allow-net out",
        )
    outlet = Outlet(run, run.dir / "proxy")
    await outlet.open(entries)
    if owner := ownership.foreign_owner(space.repo.top):  # commands have that user's rights
        os.chown(run.dir / "proxy", *owner)
    before: Confine | None = space.confine
    space.confine = lambda whole: outlet.confine(before(whole) if before else whole)
    return outlet
