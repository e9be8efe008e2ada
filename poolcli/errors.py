"""The one error tree. Each error knows its exit code and, where there is one, the next step to take."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every `pool` command. The table in README.md is checked against this."""

    VERIFIED = 0
    INTERNAL = 1
    USAGE = 2
    NOT_VERIFIED = 3
    GAVE_UP = 4
    BUDGET = 5
    MODEL = 6
    TAMPERED = 7
    REFUSED = 8
    INTERRUPTED = 130
    TERMINATED = 143


class PoolError(Exception):
    """What happened (`str(error)`), what to do about it (`hint`) and the exit code it ends with."""

    exit_code: Exit = Exit.INTERNAL

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PoolError):
    """The command line asks for something that cannot be."""

    exit_code = Exit.USAGE


class ConfigError(UsageError):
    """A configuration file or variable cannot be used; names the file, line and key where known."""


class RepositoryError(UsageError):
    """Not a repository, or one in a state that a run cannot start from."""


class UnknownRunError(UsageError):
    """No run of that id in this repository."""


class ChecksError(UsageError):
    """The checks command cannot be started at all (as opposed to failing)."""


class WorkspaceError(PoolError):
    """The worktree could not be made, read or landed."""


class StoreError(PoolError):
    """The trace cannot be written or read."""


class InterruptedByUser(PoolError):
    """A signal came before the run had begun; nothing was done yet."""

    def __init__(self, exit_code: Exit) -> None:
        super().__init__("interrupted before the run began; nothing was done")
        self.exit_code = exit_code


class BudgetError(PoolError):
    """A budget (turns, tokens, time, rounds) ran out."""

    exit_code = Exit.BUDGET


class ModelError(PoolError):
    """The model server failed or cannot serve this. `retryable` says whether the same bytes may be sent again."""

    exit_code = Exit.MODEL

    def __init__(
        self, message: str, hint: str = "", *, retryable: bool = False, retry_after: float = 0.0
    ) -> None:
        super().__init__(message, hint)
        self.retryable = retryable
        #: Seconds the server asked us to wait (its Retry-After), 0 when it did not say.
        self.retry_after = retry_after


class RefusedError(PoolError):
    """Refused by policy or by a missing sandbox."""

    exit_code = Exit.REFUSED
