"""The documentation says what is so: exit codes, commands, links, generated pages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from poolcli.ending import EXIT_CODES
from poolcli.errors import Exit

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)


def test_the_table_of_exit_codes_is_the_error_tree() -> None:
    table = (ROOT / "README.md").read_text().split("### Exit codes")[1].split("## How")[0]
    listed = {int(n) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.M) for n in row.split(",")}
    assert listed == {int(code) for code in Exit}
    assert set(EXIT_CODES.values()) <= set(Exit)


def test_commands_in_the_readme_exist() -> None:
    said = subprocess.run([sys.executable, "-m", "poolcli", "--help"], capture_output=True, text=True).stdout
    known = set(re.findall(r"^  (\w+)  ", said.split("Commands:")[1], re.M))
    used = set(re.findall(r"`pool (\w+)", (ROOT / "README.md").read_text()))
    used |= set(re.findall(r"^pool (\w+)", (ROOT / "README.md").read_text(), re.M))
    assert used and used <= known, used - known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_instructions_and_tools_stay_small() -> None:
    """The head of every prompt: a small model has to read it each time. Four characters to a token."""
    import json

    from poolcli import prompts
    from poolcli.tools import contract, registry

    schemas = [contract.schema(tool.contract) for tool in registry.load().values()]
    assert (len(prompts.load("system")) + len(json.dumps(schemas))) / 4 < 1300
