"""All attacks, by chapter; what cannot be expressed here, with the reason."""

from __future__ import annotations

from tests.security import (
    approvals,
    arguments,
    filesystem,
    gits,
    networks,
    processes,
    protocol,
    secrets_,
    terminal_,
    trust_,
)
from tests.security.case import Case, Group

GROUPS: tuple[Group, ...] = tuple(
    module.GROUP
    for module in (
        filesystem, gits, networks, secrets_, processes, trust_, arguments, approvals, terminal_, protocol,
    )
)  # fmt: skip
ALL: tuple[Case, ...] = tuple(case for group in GROUPS for case in group.cases)


def page() -> str:
    """The tables of docs/security.md."""
    lines: list[str] = []
    for group in GROUPS:
        lines += [
            f"### {group.title}",
            "",
            "| case | what is tried | without | with | also in |",
            "| --- | --- | --- | --- | --- |",
        ]
        for case in group.cases:
            also = ", ".join(
                dict.fromkeys(f"`{test.split('::')[0].removeprefix('tests/')}`" for test in case.tests)
            )
            lines.append(f"| {case.id} | {case.title} | succeeds ({case.off}) | fails | {also} |")
        lines.append("")
    lines += ["### Not expressed", "", "| case | what is tried | why it is not here |", "| --- | --- | --- |"]
    lines += [f"| {id} | {title} | {why} |" for group in GROUPS for id, title, why in group.left_out]
    return "\n".join(lines) + "\n"
