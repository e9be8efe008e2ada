"""Writes the pages that repeat what the code says: python docs/generate.py [--check]

With --check nothing is written; the exit code says whether the pages are current.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from poolcli.commands.config import document
from poolcli.events import CATALOGUE, LOG_VERSION, EventType

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "tests" / "golden" / f"events-v{LOG_VERSION}.jsonl"

EVENTS_TOP = """\
# Events

<!-- Made by docs/generate.py from poolcli/events.py; change it there. -->

A run is one log, `events.jsonl` in the run's folder: one JSON object per line, appended and never changed.
`pool do --json` writes the same lines to standard output. Everything that people and programs see of a run
is a reader of this log, and so can yours be.

## A line

```json
{example}
```

| field | meaning |
| --- | --- |
| `run` | id of the run |
| `seq` | counts stored events from 1, without gaps, also across `pool resume` |
| `t` | wall time in seconds since the epoch, for people; it may jump. Durations in `data` are monotonic |
| `type` | one of the types below |
| `data` | what this type carries |

## What a reader can rely on

- This is version {version} of the format (`data.log` of `run.started`). It is raised only when a reader of
  the earlier one would be wrong; new types and fields come without that. **Skip types and fields that you do
  not know, and give every field a default.**
- A line is written before anything is shown. A line without its newline was cut off by a kill: drop it.
- Every call in a `model.replied` gets exactly one `tool.done`, in the order of the calls. One with
  `tool.started` and no `tool.done` was running when the process died: its outcome is unknown.
- `run.ended` is the last event, unless `run.resumed` follows. `applied` and `undone` may come after it, whenever
  a person lands the patch.
- Live types (marked *live*) are shown but not stored and not numbered; nothing depends on them.
- A log of every released version is in `tests/golden` and stays readable.

```console
$ pool do "fix the failing test" --json | jq -r 'select(.type == "tool.done") | .data.title'
$ pool do "fix the failing test" --json | tail -n 1 | jq .data.status
```

## The types

| type | meaning |
| --- | --- |
{table}
"""


def events_page() -> str:
    """docs/events.md."""
    example = next(e for e in read_golden() if e["type"] == "tool.started")
    table = "\n".join(
        f"| [`{name}`](#{_anchor(name)}){_live(spec)} | {spec.meaning} |" for name, spec in CATALOGUE.items()
    )
    parts = [
        EVENTS_TOP.replace("{example}", json.dumps(example, ensure_ascii=False))
        .replace("{version}", str(LOG_VERSION))
        .replace("{table}", table)
    ]
    parts += [_section(name, spec) for name, spec in CATALOGUE.items()]
    return "\n".join(parts)


def read_golden() -> list[dict[str, object]]:
    """The golden log as plain objects."""
    return [json.loads(line) for line in GOLDEN.read_bytes().splitlines()]


def _section(name: str, spec: EventType) -> str:
    rows = "\n".join(
        f"| `{field}` | {meaning.replace('|', chr(92) + '|')} |" for field, meaning in spec.fields.items()
    )
    return f"### {name}\n\n{spec.meaning}{_live(spec)}\n\n| field | meaning |\n| --- | --- |\n{rows}\n"


def _live(spec: EventType) -> str:
    return " *live*" if spec.live else ""


def _anchor(name: str) -> str:
    return name.replace(".", "")


def configuration_page() -> str:
    """docs/configuration.md: prose with a table of the options inside."""
    return document((HERE / "configuration.md").read_text(encoding="utf-8"))


def models_page() -> str:
    """docs/models.md: prose with three tables made from the data that pool reads."""
    page = (HERE / "models.md").read_text(encoding="utf-8")
    page = _between(page, "servers: generated from models/servers.toml", "end of servers", _servers())
    page = _between(page, "advice: generated from models/servers.toml", "end of advice", _advice())
    return _between(page, "families: generated from models/families.toml", "end of families", _families())


def security_page() -> str:
    """docs/security.md: prose, and the table of attacks that the tests try."""
    from tests.security import table

    page = (HERE / "security.md").read_text(encoding="utf-8")
    return _between(page, "attacks: generated from tests/security", "end of attacks", table.page())


def faults_page() -> str:
    """docs/faults.md: prose, and the table of faults with their tests."""
    from tests.faults import table

    page = (HERE / "faults.md").read_text(encoding="utf-8")
    return _between(page, "faults: generated from tests/faults/table.py", "end of faults", table.page())


def _between(page: str, begin: str, end: str, text: str) -> str:
    before, mark, rest = page.partition(f"<!-- {begin} -->\n")
    _, close, after = rest.partition(f"<!-- {end} -->\n")
    if not mark or not close:
        raise ValueError(f"a page lacks the marks around: {begin}")
    return f"{before}{mark}{text}{close}{after}"


def _shipped(file: str, key: str) -> list[dict[str, Any]]:
    # Not through poolcli: a table of the user's must not get into the page.
    with (HERE.parent / "models" / file).open("rb") as handle:
        entries: list[dict[str, Any]] = tomllib.load(handle)[key]
    return entries


def _servers() -> str:
    lines = [
        "| server | port | tested | context from | sampling beyond temperature, top_p, seed | grammar | pinned slots "
        "| prefill progress | adapters |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in _shipped("servers.toml", "server"):
        places = ", ".join(f"`{q['path']}`" for q in one["ask"] if "window" in q or "parameters" in q)
        fields = ", ".join(one["sampling"]) or "none"
        cells = [
            one["title"],
            ", ".join(map(str, one["ports"])),
            "run" if one.get("run") else "dialect",
            places,
            fields,
            *("measured" if one.get(name) else "no" for name in ("grammar", "pin", "progress")),
            "yes" if one.get("lora") else "no",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _advice() -> str:
    lines = [
        "| server | started as | a larger context | tool calls | prefix cache |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in _shipped("servers.toml", "server"):
        lines.append(
            f"| {one['title']} | `{one['start']}` | {one['context']} | {one['tools']} | {one['caching']} |"
        )
    return "\n".join(lines) + "\n"


def _families() -> str:
    lines = ["| family | sampling | told how much to think by |", "| --- | --- | --- |"]
    the_servers = "the server's"
    for one in _shipped("families.toml", "family"):
        sampling = ", ".join(f"{name} {value:g}" for name, value in one.get("sampling", {}).items())
        way = one.get("reasoning", {}).get("high", {})
        told = [
            f"`{name}.{inner}`" for name, value in way.items() if isinstance(value, dict) for inner in value
        ] + [f"`{name}`" for name, value in way.items() if not isinstance(value, dict)]
        lines.append(f"| {one['name']} | {sampling or the_servers} | {', '.join(told) or 'nothing known'} |")
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "events.md": events_page,
    "configuration.md": configuration_page,
    "models.md": models_page,
    "security.md": security_page,
    "faults.md": faults_page,
}


def main() -> int:
    """The command line."""
    stale = [name for name, page in PAGES.items() if not _current(HERE / name, page())]
    if "--check" in sys.argv[1:]:
        for name in stale:
            sys.stderr.write(f"docs/{name} is not current: run python docs/generate.py\n")
        return 1 if stale else 0
    for name in stale:
        (HERE / name).write_text(PAGES[name](), encoding="utf-8")
    return 0


def _current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
