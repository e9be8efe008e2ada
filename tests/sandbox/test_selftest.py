"""A sandbox tried on itself: one that holds, one that does not, one that does not start."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from poolcli.errors import Exit, RefusedError
from poolcli.sandbox import NONE, Sandbox, selftest
from poolcli.sandbox.environment import confined_environment
from poolcli.sandbox.selftest import Check, SelfTest
from tests.sandbox.inside import Place, bubblewrap, why_not


def trial(sandbox: Sandbox, tmp: Path) -> SelfTest:
    environment = confined_environment(os.environ, run_id="trial", home="/run/pool/home")
    return asyncio.run(selftest.run(sandbox, Place(tmp).confinement, environment))


def leftovers() -> list[Path]:
    places = (Path.home(), Path("/tmp"), Path("/run"), Path("/var/tmp"))
    return [
        path
        for place in places
        if os.access(place, os.R_OK)
        for path in place.glob(f".pool-trial-*-{os.getpid()}-*")
    ]


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "runs")
def test_bubblewrap_holds(tmp_path: Path) -> None:
    result = trial(bubblewrap(), tmp_path)
    assert {check.name: check.held for check in result.checks} == dict.fromkeys(
        ("write", "read", "connect", "service"), True
    )
    assert not result.failed and not leftovers()
    selftest.require(result)
    assert msgspec.json.decode(msgspec.json.encode(result), type=SelfTest) == result


def test_without_a_sandbox_everything_is_reached(tmp_path: Path) -> None:
    result = trial(NONE, tmp_path)
    assert not any(check.held for check in result.checks)
    assert all(check.line.startswith("NOT held: ") for check in result.checks)
    assert not leftovers()
    selftest.require(result)  # it promised nothing


def test_a_broken_promise_is_refused_with_what_it_is() -> None:
    result = SelfTest("bubblewrap", (Check("write", True, "fine"), Check("read", False, "HOME is open")))
    with pytest.raises(RefusedError, match="HOME is open") as refused:
        selftest.require(result)
    assert refused.value.exit_code == Exit.REFUSED and refused.value.hint
    # A weaker sandbox never said that sockets of services are out of reach.
    selftest.require(SelfTest("landlock", (Check("service", False, "open"),)))


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true", "/nowhere/bwrap"])
def test_one_that_does_not_run_anything_is_refused(program: str, tmp_path: Path) -> None:
    """Also one that ends well without having run the trial: silence is no proof."""
    with pytest.raises(RefusedError) as refused:
        trial(Sandbox("bubblewrap", "", program), tmp_path)
    assert refused.value.exit_code == Exit.REFUSED
    assert not leftovers()


def test_what_a_killed_trial_left_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    code = """
        import os, signal, sys
        from pathlib import Path
        from poolcli.sandbox import Confinement, selftest
        here = Path(sys.argv[1])
        with selftest._canaries(Confinement(here, here, here), "mark"):
            if sys.argv[2] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            print("ready", flush=True)
            sys.stdin.read()
    """
    words = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    top = Path(__file__).parents[2]
    subprocess.run([*words, "killed"], cwd=top)
    (left,) = home.iterdir()  # the control: it does stay
    assert (left / "secret").exists()
    with subprocess.Popen([*words, "lives"], cwd=top, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        (living,) = home.iterdir()  # the dead one's is gone already
        assert living != left
        dead = left.name.rpartition("-")[0]
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        (theirs / "file").write_text("kept")
        kept = {
            living.name,
            f"{dead}-linked00",
            f"{dead}-file0000",
            f"{dead}-ab",
            ".pool-trial-0a0a0a0a-1-1-abcdefgh",
        }
        (home / f"{dead}-linked00").symlink_to(theirs)
        (home / f"{dead}-file0000").write_text("")
        (home / f"{dead}-ab").mkdir()
        # From another start of the machine: it has to be old.
        (home / ".pool-trial-0a0a0a0a-1-1-abcdefgh").mkdir()
        old = home / ".pool-trial-0b0b0b0b-1-1-abcdefgh"
        old.mkdir()
        os.utime(old, (1, 1))
        inner = home / f"{dead}-inner000"
        inner.mkdir()
        (inner / "link").symlink_to(theirs)
        selftest._sweep(home)
        assert {path.name for path in home.iterdir()} == kept and (theirs / "file").exists()
        other.communicate()
