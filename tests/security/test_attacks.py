"""Every attack of the table twice: without its protection it succeeds, with it it does not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolcli.sandbox import detect, limits
from poolcli.tools import registry
from tests.nodes import missing
from tests.security.case import Case, Field
from tests.security.table import ALL, GROUPS


def _lacking(need: str) -> str:
    match need:
        case "bubblewrap":
            return detect.bubblewrap().reason if not detect.bubblewrap().works else ""
        case "root":
            return (
                "" if os.geteuid() == 0 else "only root could do this without a sandbox, so nothing is shown"
            )
        case "groups":
            return "" if os.geteuid() or limits.own_groups() else "no control groups can be made here"
        case program:
            return "" if shutil.which(program) else f"{program} is not on this machine"


@pytest.fixture
def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    it = Field(tmp_path, monkeypatch.setenv)
    yield it
    it.close()


CASES = [case for case in ALL if case.attack]


@pytest.mark.parametrize("protected", [False, True], ids=["without", "with"])
@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.id, marks=[pytest.mark.slow] if c.slow else []) for c in CASES]
)
def test_attack(case: Case, protected: bool, field: Field) -> None:
    for need in case.needs:
        if reason := _lacking(need):
            pytest.skip(reason)
    assert case.attack is not None
    assert case.attack(field, protected) is not protected


@pytest.mark.parametrize(
    ("id", "reason"), [(id, reason) for group in GROUPS for id, _, reason in group.left_out]
)
def test_what_cannot_be_tried_here(id: str, reason: str) -> None:
    pytest.skip(f"{id}: {reason}")


def test_each_case_is_there_once_and_says_what_it_is() -> None:
    ids = [case.id for case in ALL] + [id for group in GROUPS for id, _, _ in group.left_out]
    assert len(ids) == len(set(ids))
    assert all(case.title and case.off and (case.attack or case.tests) for case in ALL)


def test_the_tests_that_are_named_exist() -> None:
    assert missing(test for case in ALL for test in case.tests) == []


def test_no_tool_takes_an_address() -> None:
    """NET-13: nothing that a model calls fetches from an address of the model's choice."""
    for tool in registry.load().values():
        for param in tool.contract.params:
            assert not any(word in param.name.lower() for word in ("url", "uri", "href", "host", "link"))
