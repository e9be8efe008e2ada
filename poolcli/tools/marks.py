"""Marks that stand in a secret's place: a file must never get one where the secret was."""

from __future__ import annotations

import re

from poolcli import redact
from poolcli.tools.base import ToolError


def refuse(text: str, before: str, *, what: str) -> None:
    """Raise ToolError for a text of the model that holds a mark which the file `before` does not hold itself.

    A file about such marks may go on holding them.
    """
    if "[redacted: " not in text:
        return
    for match in re.finditer(redact.MARKED, text):
        if match[0] not in before:
            raise ToolError(
                f"{what} holds {match[0]}: pool put that in the place of a secret, which you cannot see or write. "
                "Leave that line as it is and edit around it; for a new value, read it from the environment"
            )
