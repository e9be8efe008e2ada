"""A sandbox tried on itself: one that holds, one that does not, one that does not start."""

from __future__ import annotations

import asyncio
import os
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
    return [path for place in places if os.access(place, os.R_OK) for path in place.glob(".pool-trial-*")]


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
