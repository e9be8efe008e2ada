"""The views: same content everywhere, right without live events, safe on every stream."""

import io
import os
import re
import subprocess
import sys
import termios
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from poolcli.events import Event, to_line
from poolcli.views.choose import choose
from poolcli.views.jsonl import JsonlView
from poolcli.views.plain import PlainView
from poolcli.views.terminal import TerminalView
from tests.views.screen import Screen

SGR = re.compile(r"\x1b\[[0-9;]*m")


def live(type, **data):
    return Event("r", 0, 0.0, type, data)


def plain(events, **options):
    out = io.StringIO()
    view = PlainView(out, **options)
    for event in events:
        view(event)
    view.close()
    return out.getvalue()


def terminal(events, width=100, **options):
    out = io.StringIO()
    view = TerminalView(out, width, live=False, **options)
    for event in events:
        view(event)
    view.close()
    return out.getvalue()


class Pty:
    """A real terminal device; what is written to it is collected."""

    def __init__(self, columns=100, rows=40):
        self.master, slave = os.openpty()
        termios.tcsetwinsize(slave, (rows, columns))
        self.stream = open(slave, "w", encoding="utf-8")  # noqa: SIM115
        self._bytes = bytearray()
        self._seen = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        try:
            while piece := os.read(self.master, 65536):
                self._bytes += piece
        except OSError:
            return

    @property
    def text(self):
        return self._bytes.decode("utf-8", "ignore")

    def wait_for(self, words):
        """Until these words were written after the ones waited for last."""
        deadline = time.monotonic() + 30
        while (found := SGR.sub("", self.text).find(words, self._seen)) < 0:
            assert time.monotonic() < deadline, f"{words!r} never came:\n{self.text[-2000:]}"
            time.sleep(0.01)
        self._seen = found + len(words)

    def close(self):
        self.stream.close()
        self._reader.join()
        os.close(self.master)
        return self.text


def play(view, events, pty=None):
    """The events as a running engine sends them: with live ones in between."""
    for event in events:
        if event.type == "model.replied":
            for part in event.data["message"]["parts"]:
                text = part.get("text", "")
                for start in range(0, len(text), 7):
                    view(live("delta", kind=part["type"], text=text[start : start + 7]))
            if pty is not None and any(p["type"] == "text" for p in event.data["message"]["parts"]):
                pty.wait_for("writing")
        if event.type == "tool.done" and event.data["name"] == "shell":
            for n in range(9):
                view(live("tool.output", id=event.data["id"], text=f"output line {n}\n"))
            if pty is not None:
                pty.wait_for("output line 8")
        view(event)


@pytest.mark.parametrize("columns", [60, 100])
def test_watching_leaves_the_same_text_as_replaying(golden, columns):
    pty = Pty(columns)
    view = TerminalView(pty.stream)
    play(view, golden, pty)
    view.close()
    raw = pty.close()
    screen = Screen(columns).feed(raw)
    again = Pty(columns)
    view = TerminalView(again.stream, live=False)
    for event in golden:
        view(event)
    view.close()
    assert screen.text == Screen(columns).feed(again.close()).text
    assert not screen.cursor_hidden
    # The test would mean little if nothing had moved.
    seen = SGR.sub("", raw)
    assert "waiting for the model" in seen and "turn 4 · " in seen and "% cached" in seen


def test_plain_is_the_same_with_and_without_live_events(golden):
    out = io.StringIO()
    view = PlainView(out)
    play(view, golden)
    view.close()
    assert out.getvalue() == plain(golden)
    assert "\x1b" not in out.getvalue()


def test_plain_and_terminal_say_the_same_in_the_same_order(golden):
    wanted = [
        "add() is wrong", "2 uncommitted files", "qwen3-coder-30b", "python -m unittest", "no sandbox yet",
        "2 failed, 10 passed", "test_calc.TestCalc.test_add_negative", "The test says that", "2 more lines",
        "tests first.", "test_calc.py", "One character", "+1 −1", "return a * b", "1 failed, 11 passed",
        "Addition, not multiplication", "return a + b", "yes, for this run", "git diff --stat", "exit 1",
        "0.3s", "AssertionError", "answered 503", "3,900 → 1,200 tokens", "My quick check", "negative", "12 passed",
        "goes on with", "VERIFIED", "2 failing → all 12 passing", "1 file  +1 −1", "78% cached", "patch.diff",
        "pool apply 4f2a",
    ]  # fmt: skip
    for text in (plain(golden), Screen(100).feed(terminal(golden).replace("\n", "\r\n")).text):
        position = 0
        for words in wanted:
            found = text.find(words, position)
            assert found >= 0, f"{words!r} is missing or out of order in\n{text}"
            position = found


def test_a_log_cut_anywhere_is_shown(golden):
    for n in range(len(golden) + 1):
        text = plain(golden[:n])
        assert ("the log ends here" in text) == (0 < n < len(golden))
    assert "the log ends here" in terminal(golden[:9])


def hostile(value, poison):
    if isinstance(value, str):
        return poison + value + poison
    if isinstance(value, list):
        return [hostile(item, poison) for item in value]
    if isinstance(value, dict):
        keep = ("type", "role", "status", "phase", "level", "why")
        return {k: v if k in keep else hostile(v, poison) for k, v in value.items()}
    return value


POISON = "\x1b]0;evil\x07\x1b[2J\x9b31m\u202e\u200b\x00\r\x08\ud800"


def test_nothing_untrusted_reaches_the_terminal_raw(golden):
    events = [replace(e, run=POISON + e.run, data=hostile(e.data, POISON)) for e in golden]
    text = plain(events)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u200b\ud800]", text)
    # In commands and changes, which a person judges, sequences are shown; elsewhere they are taken out.
    assert "0;evil" not in text.replace("\\x1b]0;evil\\x07", "")
    assert "python -m unittest\\x1b]0;evil\\x07" in text
    # The screen fails on any control character or sequence but those of styles and the footer.
    Screen(100).feed(terminal(events).replace("\n", "\r\n"))


def test_streaming_pieces_are_cleaned_across_their_borders(golden):
    pty = Pty()
    view = TerminalView(pty.stream)
    view(golden[0])
    for char in "before\x1b]0;evil title\x07\x1b[31mbetween\x1b[0m\nafter":
        view(live("delta", kind="text", text=char))
    pty.wait_for("beforebetween")
    pty.wait_for("after")
    view(live("tool.output", id="none", text="ignored"))
    view.close()
    raw = pty.close()
    assert "evil" not in raw
    Screen(100).feed(raw)


def test_a_broken_stream_that_starts_again_leaves_nothing_twice(golden):
    pty = Pty()
    view = TerminalView(pty.stream)
    view(golden[0])
    view(live("delta", kind="text", text="half a sen"))
    pty.wait_for("half a sen")
    view(Event("r", 2, 0.0, "notice", {"level": "warning", "text": "trying again", "code": "retry"}))
    view(live("delta", kind="text", text="half a sentence"))
    pty.wait_for("half a sentence")
    message = {"role": "assistant", "parts": [{"type": "text", "text": "half a sentence"}]}
    view(Event("r", 3, 0.0, "model.replied", {"message": message, "usage": {}}))
    view.close()
    assert Screen(100).feed(pty.close()).text.count("half a sen") == 1


def test_a_fast_replay_never_shows_the_moving_rows(golden):
    pty = Pty()
    view = TerminalView(pty.stream)
    first = [e for e in golden if e.type == "run.started"]
    view(*first)
    view.close()
    assert "\x1b[?25l" not in pty.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=st.integers(32, 200), words=st.text(st.sampled_from("ab `*#-\n\t漢🙂1.")))
def test_no_row_is_wider_than_asked_for(golden, width, words):
    message = {"parts": [{"type": "text", "text": words}, {"type": "think", "text": words}]}
    events = [*golden, Event("r", 99, 0.0, "model.replied", {"message": message})]
    from rich.cells import cell_len

    for row in SGR.sub("", terminal(events, width)).split("\n"):
        assert cell_len(row) <= width, row


@pytest.mark.parametrize("columns", [1, 5, 20])
def test_absurdly_narrow_terminals_are_survived(golden, columns):
    pty = Pty(columns, 2)
    view = TerminalView(pty.stream)
    play(view, golden[:12])
    view.close()
    assert pty.close()


def test_colour_obeys_no_color(golden, monkeypatch):
    def colours(text):
        return {code for codes in re.findall(r"\x1b\[([0-9;]*)m", text) for code in codes.split(";")} & {
            "31",
            "32",
            "36",
        }

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for wanted in (True, False):
        pty = Pty()
        view = TerminalView(pty.stream, live=False)
        for event in golden:
            view(event)
        view.close()
        assert bool(colours(pty.close())) == wanted
        monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize("make", [PlainView, lambda stream: TerminalView(stream, 80, live=False)])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_streams_without_unicode_get_ascii_signs(golden, make, encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, write_through=True)
    view = make(stream)
    for event in golden:
        view(event)
    view.close()
    text = raw.getvalue().decode(encoding)
    assert "2 failing -> all 12 passing" in text
    assert text.isascii()


def test_quiet_leaves_warnings_and_the_end(golden):
    lines = plain(golden, quiet=True).splitlines()
    assert lines[0].startswith("warning: ") and "VERIFIED" in lines[2]
    assert not any(line.split()[1:2] == ["read"] for line in lines)


def test_recalled_events_count_but_are_not_shown(golden):
    for make in (PlainView, lambda stream: TerminalView(stream, 100, live=False)):
        out = io.StringIO()
        view = make(out)
        for event in golden[:-1]:
            view.recall(event)
        assert out.getvalue() == ""
        view(golden[-1])
        assert "2 failing → all 12 passing" in out.getvalue()


def test_json_is_the_log(golden):
    out = io.BytesIO()
    view = JsonlView(out)
    play(view, golden)
    view.close()
    assert out.getvalue() == b"".join(map(to_line, golden))


@pytest.mark.parametrize("make", [lambda fd: JsonlView(open(fd, "wb")), lambda fd: PlainView(open(fd, "w"))])  # noqa: SIM115
def test_a_closed_pipe_is_the_callers_to_handle(golden, make):
    reading, writing = os.pipe()
    view = make(writing)
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        view(golden[0])


class Stream(io.TextIOWrapper):
    def __init__(self, tty):
        super().__init__(io.BytesIO(), "utf-8", write_through=True)
        self._tty = tty

    def isatty(self):
        return self._tty


@pytest.mark.parametrize(
    ("options", "tty", "term", "kind"),
    [
        ({}, True, "xterm", TerminalView),
        ({}, True, "dumb", PlainView),
        ({}, True, "", PlainView),
        ({}, False, "xterm", PlainView),
        ({"plain": True}, True, "xterm", PlainView),
        ({"quiet": True}, True, "xterm", PlainView),
        ({"json": True}, True, "xterm", JsonlView),
    ],
)
def test_choosing(options, tty, term, kind, monkeypatch):
    monkeypatch.setenv("TERM", term)
    given_options = {"json": False, "plain": False, "quiet": False, "patch_to_stdout": False} | options
    view = choose(stdout=Stream(tty), stderr=Stream(tty), **given_options)
    assert type(view) is kind


@pytest.mark.parametrize("json", [True, False])
def test_standard_output_belongs_to_the_patch(golden, json):
    out, err = Stream(False), Stream(False)
    view = choose(json=json, plain=False, quiet=False, stdout=out, stderr=err, patch_to_stdout=True)
    for event in golden:
        view(event)
    assert out.buffer.getvalue() == b""
    assert b"verified" in err.buffer.getvalue().lower()
    assert json or b"pool apply" not in err.buffer.getvalue()


def test_only_the_terminal_view_imports_rich(golden, tmp_path):
    script = """
import sys, io
from poolcli.events import from_line
from poolcli.views.choose import choose
out, err = sys.stdout, sys.stderr
view = choose(json=False, plain=False, quiet=False, stdout=out, stderr=err, patch_to_stdout=False)
for line in open(sys.argv[1], "rb"):
    view(from_line(line))
import poolcli.views.terminal
sys.exit(any(name.partition(".")[0] in ("rich", "pygments", "asyncio") for name in sys.modules))
"""
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"".join(map(to_line, golden)))
    done = subprocess.run([sys.executable, "-c", script, str(log)], stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert b"VERIFIED" in done.stdout


def test_a_picture_of_a_run_is_bounded_and_needs_no_network(golden, tmp_path):
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"".join(map(to_line, golden)))
    tool = os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "render_run.py")
    subprocess.run([sys.executable, tool, str(log), str(tmp_path / "out.svg"), "--rows", "40"], check=True)
    picture = (tmp_path / "out.svg").read_text()
    assert "VERIFIED" in picture and "font-face" not in picture
    assert picture.count('<clipPath id="') <= 43
