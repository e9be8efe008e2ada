"""Chunks of a chat-completions stream to one reply, forgiving all the ways in which servers differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, field

from poolcli.errors import ModelError
from poolcli.messages import Call, Message, Part, Text, Think
from poolcli.models.arguments import mend, parse_arguments
from poolcli.models.base import Piece, Usage
from poolcli.models.dialects.native import REASONING
from poolcli.models.repetition import Watch, shorten

#: Calls in one reply; a model that wants more is stuck in a loop.
MAX_CALLS = 64
#: The longest call id or tool name that we take from a server, in characters.
MAX_NAME = 200


class _Building(Struct):
    """A call as far as it has come."""

    index: int | None
    id: str = ""
    name: str = ""
    written: list[str] = field(default_factory=list)

    @property
    def raw(self) -> str:
        return "".join(self.written)

    def ends_before(self, new: _Building) -> bool:
        """Whether a delta for this call's place is another call: some servers number every call 0."""
        if not (new.name and self.name):
            return False
        if new.id and self.id and new.id != self.id:
            return True
        if new.index is None and not new.id:
            return True  # nothing numbers them, so each name is a call of its own
        # Within JSON, one object never follows another directly.
        return bool(new.written and self.written) and (
            self.written[-1].rstrip().endswith("}") and new.written[0].lstrip().startswith("{")
        )

    def go_on(self, new: _Building) -> None:
        self.id = self.id or new.id
        if new.name != self.name:
            self.name += new.name
        self.written += new.written


class Assembler:
    """Takes a reply's chunks. `finish` is '' until the server has said why it stopped."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """`schemas` are the tools' function schemas by name: broken arguments are mended by them."""
        self._schemas = schemas or {}
        self.finish = ""
        self.usage: Mapping[str, Any] = {}
        self.timings: Mapping[str, Any] = {}
        self._text: list[str] = []
        self._think: list[str] = []
        self._field = ""
        self._calls: list[_Building] = []
        self._watch = Watch()

    @property
    def cut(self) -> bool:
        """Whether the reply ends where the model did not mean it to: what its last call says is not whole."""
        return bool(self.repeating) or self.finish == "length"

    @property
    def repeating(self) -> str:
        """The kind of what repeats itself without end: text, think, call; '' for none."""
        return self._watch.found

    @property
    def written(self) -> int:
        """Characters of all that has come."""
        texts = (self._text, self._think, *(call.written for call in self._calls))
        return sum(len(piece) for text in texts for piece in text)

    @property
    def begun(self) -> bool:
        """Whether anything of the reply has come."""
        return bool(self._text or self._think or self._calls)

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Piece]:
        """The pieces in a chunk of a stream, or in a reply sent whole. Wrong types count as absent."""
        if isinstance(usage := chunk.get("usage"), dict):
            self.usage = usage
        if isinstance(timings := chunk.get("timings"), dict):
            self.timings = timings
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        if isinstance(finish := choice.get("finish_reason"), str):
            self.finish = finish
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            yield from self._delta(delta)

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[Piece]:
        # Some servers send the same reasoning under both names.
        for name in REASONING:
            if isinstance(think := delta.get(name), str) and think:
                self._field = self._field or name
                self._think.append(think)
                self._watch.feed("think", think)
                yield Piece("think", think)
                break
        if text := _plain(delta.get("content")):
            self._text.append(text)
            self._watch.feed("text", text)
            yield Piece("text", text)
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._call(call)

    def _call(self, delta: Mapping[str, Any]) -> None:
        function = delta.get("function")
        function = function if isinstance(function, dict) else {}
        index, written = delta.get("index"), function.get("arguments")
        if written is not None and not isinstance(written, str):
            written = json.dumps(written, ensure_ascii=False)
        new = _Building(
            index if isinstance(index, int) else None,
            _word(delta.get("id")),
            _word(function.get("name")),
            [written] if written else [],
        )
        self._watch.feed("call", written or "")
        known = self._known(new)
        if known is None or known.ends_before(new):
            if len(self._calls) >= MAX_CALLS:
                raise ModelError(f"the model made more than {MAX_CALLS} calls in one reply", retryable=True)
            self._calls.append(new)
        else:
            known.go_on(new)

    def _known(self, new: _Building) -> _Building | None:
        """The call that a delta seems to go on with."""
        if new.index is not None:
            return next((c for c in reversed(self._calls) if c.index == new.index), None)
        if new.id:
            return next((c for c in reversed(self._calls) if c.id == new.id), None)
        return self._calls[-1] if self._calls else None

    def message(self, used: set[str]) -> Message:
        """The reply as far as it has come. Calls get ids that are not in `used`, the same ones every time."""
        parts: list[Part] = []
        if self._think:
            parts.append(Think(self._whole("think", self._think), {"field": self._field}))
        if self._text:
            parts.append(Text(self._whole("text", self._text)))
        taken = set(used)
        for building in self._calls:
            raw = building.raw
            if not (building.name or raw.strip()):
                continue
            id = building.id if building.id and building.id not in taken else _fresh(taken)
            taken.add(id)
            args = self._arguments(building)
            parts.append(Call(id, building.name, args, raw if args is None else ""))
        return Message("assistant", tuple(parts))

    def _arguments(self, call: _Building) -> dict[str, Any] | None:
        if self._is_torn(call):
            return None
        args = parse_arguments(call.raw)
        if args is None:
            # A server that never says why it stopped may have stopped in the middle of the call.
            args = mend(call.raw, self._schemas.get(call.name), cut=not self.finish)
        return args

    def _whole(self, kind: str, pieces: list[str]) -> str:
        text = "".join(pieces)
        return shorten(text) if kind == self.repeating else text

    def _is_torn(self, call: _Building) -> bool:
        """Whether the call was being written when the reply was cut. It must not run, whatever could be made of it."""
        if not self.cut or call is not self._calls[-1]:
            return False
        # Only what is an object by itself, unmended, was written to its end.
        return not (call.raw.rstrip().endswith("}") and isinstance(_loaded(call.raw), dict))

    def tokens(self) -> Usage:
        """The tokens, as the server counts them; llama.cpp's timings where it leaves usage out."""
        usage, timings = self.usage, self.timings
        details = usage.get("prompt_tokens_details")
        cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
        prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        reused, computed = _count(timings.get("cache_n")), _count(timings.get("prompt_n"))
        if cached is None:
            cached = reused
        if prompt is None and computed is not None:
            prompt = computed + (reused or 0)
        if completion is None:
            completion = _count(timings.get("predicted_n"))
        return Usage(prompt, completion, cached)


def _loaded(raw: str) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _fresh(taken: set[str]) -> str:
    number = len(taken)
    while f"call_{number}" in taken:
        number += 1
    return f"call_{number}"


def _plain(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return ""


def _word(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= MAX_NAME else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
