"""Notes which lines of some files run. Never imported by pool: it works inside the project's own interpreter.

A copy of this file, named `sitecustomize.py`, lies in a folder that PYTHONPATH names, beside `files.txt` with the
paths to watch. Every interpreter that the checks start writes there: `executable.txt`, the lines that hold code as
this version of Python counts them, and `lines.txt`, each line when it first runs. What is written at once outlives
`os._exit`, a crash and a kill. Python 3.6 has to understand this file.
"""

import gc
import os
import sys
from typing import Any, Callable  # noqa: UP035

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


def _start(folder: str) -> None:
    with open(os.path.join(folder, "files.txt"), "rb") as file:  # noqa: PTH118, PTH123
        names = [os.fsdecode(name) for name in file.read().split(b"\0") if name]
    note = _noter(folder, names)
    monitoring: Any = getattr(sys, "monitoring", None)
    free = [tool for tool in (4, 3, 5, 2) if monitoring and monitoring.get_tool(tool) is None]
    if not free:
        _trace(note, lambda: _put(os.path.join(folder, "displaced.txt"), "1\n"))  # noqa: PTH118
        return

    # Beside any other tracer, and each place costs something only once.
    def line_event(code: Any, line: int) -> Any:
        note(code.co_filename, line)
        return monitoring.DISABLE

    monitoring.use_tool_id(free[0], "pool")
    monitoring.register_callback(free[0], monitoring.events.LINE, line_event)
    monitoring.set_events(free[0], monitoring.events.LINE)


def _put(
    path: str, text: str, *, opened: Any = os.open, write: Any = os.write, closed: Any = os.close
) -> None:
    """Append to a file. Opened anew each time: a descriptor that stays could be closed by the project and be
    another file then. The functions are held fast here: tests replace them by their own."""
    try:
        target = opened(path, _FLAGS, 0o600)
        try:
            write(target, text.encode("ascii"))
        finally:
            closed(target)
    except OSError:
        pass


def _noter(folder: str, names: "list[str]") -> "Callable[[str, int], bool]":
    """A function that notes a line of a file (0: none) and says whether that file is watched."""
    wanted = {name: number for number, name in enumerate(names)}
    known: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    lines, realpath = os.path.join(folder, "lines.txt"), os.path.realpath  # noqa: PTH118
    _put(os.path.join(folder, "executable.txt"), _executable(names))  # noqa: PTH118

    def note(name: str, line: int) -> bool:
        number = known.get(name)
        if number is None:
            try:
                number = wanted.get(realpath(name), -1)
            except (OSError, ValueError):
                number = -1
            known[name] = number
        if number >= 0 and line and (number, line) not in seen:
            seen.add((number, line))
            _put(lines, f"{number} {line}\n")
        return number >= 0

    return note


def _trace(note: "Callable[[str, int], bool]", displaced: "Callable[[], None]") -> None:
    """The way before Python 3.12, where there is one tracer only. `displaced` is called when it was not ours."""
    settrace = sys.settrace
    others: list[Any] = []

    def local(frame: Any, event: str, arg: Any) -> Any:
        if event == "line":
            note(frame.f_code.co_filename, frame.f_lineno)
        return local

    def trace(frame: Any, event: str, arg: Any) -> Any:
        return local if note(frame.f_code.co_filename, 0) else None

    def set_by_project(function: Any) -> None:
        if function is not trace:  # a new thread sets it for itself
            others.append(function)
        settrace(function)

    def revive(phase: str, info: "dict[str, int]") -> None:
        # At the end of the stack the tracer itself cannot be called, and Python takes it away for that.
        if phase == "stop" and not others and sys.gettrace() is None:
            settrace(trace)

    def at_exit() -> None:
        # A coverage plugin or a debugger was in this one's place: what ran meanwhile is not known.
        if others or sys.gettrace() not in (trace, None) or "coverage.collector" in sys.modules:
            displaced()

    import atexit
    import threading

    atexit.register(at_exit)
    threading.settrace(trace)
    sys.settrace = set_by_project
    gc.callbacks.append(revive)
    settrace(trace)


def _executable(names: "list[str]") -> str:
    """`number line` of every line that holds code, for those of the files that compile."""
    import dis

    rows: list[str] = []
    for number, name in enumerate(names):
        try:
            with open(name, "rb") as file:  # noqa: PTH123
                codes = [compile(file.read(), name, "exec", dont_inherit=True)]
        except (OSError, SyntaxError, ValueError):
            continue
        found: set[int] = set()
        while codes:
            code = codes.pop()
            # From Python 3.14 on annotations are code of their own, which runs only for those who ask.
            if code.co_name != "__annotate__":
                found.update(line for _, line in dis.findlinestarts(code) if line)
                codes.extend(part for part in code.co_consts if hasattr(part, "co_code"))
        rows.extend(f"{number} {line}\n" for line in sorted(found))
    return "".join(rows)


def _begin() -> None:
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    try:
        _start(folder)
    except Exception as error:
        sys.stderr.write(f"pool: lines are not noted: {error!r}\n")
    # What would have been imported instead of this, had it not been here.
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    rest = [entry for entry in sys.path if os.path.abspath(entry) != folder]  # noqa: PTH100
    spec = PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


if __name__ == "sitecustomize":
    _begin()
