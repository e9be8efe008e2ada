"""What a tool is given and what it gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct, field

from poolcli.process import Finished


class ToolError(Exception):
    """The tool could not do what was asked; the text goes to the model and says what to do instead."""


class Output(Struct, frozen=True):
    """A tool's result: `text` for the model, `show` for people, `ok` for both.

    `show` items are JSON values: {"type": "text", "text"}, {"type": "diff", "path", "diff"},
    {"type": "exit", "code", "timed_out"}, {"type": "checks", "status", "counts"}.
    """

    text: str
    show: tuple[Mapping[str, Any], ...] = ()
    ok: bool = True


class Files(Protocol):
    """The part of a workspace that tools use. Paths are as the model wrote them, relative to `root`."""

    @property
    def root(self) -> Path:
        """The worktree."""

    @property
    def seen(self) -> Path:
        """Where commands see the worktree; it is `root` unless the sandbox mounts it elsewhere."""

    def pinned(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Options and environment for asking git about the files; without them it would obey what commands wrote."""

    def resolve(self, path: str) -> Path:
        """The file behind a path, never outside the worktree or in its `.git`. Raises ToolError-worthy ValueError."""

    async def run(
        self,
        command: str,
        *,
        timeout: float,
        log: Path,
        on_output: Callable[[str], None] | None = None,
    ) -> Finished:
        """Run a shell command in the worktree, sandboxed as configured; its whole output goes to `log`."""


class Ctx(Struct, frozen=True):
    """All that a tool may touch. Five fields, for ever."""

    workspace: Files
    #: Runs the checks; its Output is what `run_tests` gives back.
    checks: Callable[[], Awaitable[Output]]
    #: Shows a live piece of output to people.
    note: Callable[[str], None]
    #: Folder for what is too long for a reply. `read` and `search` reach it as `@output/NAME`.
    outputs: Path
    #: Programs that outlive one call (`terminal`, background commands), by name; closed when the run ends.
    sessions: dict[str, Any] = field(default_factory=dict)
