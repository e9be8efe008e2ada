"""`pool models serve`, `stop` and `logs`, as processes: served in the foreground, joined, ended, read."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from poolcli import config, trust
from poolcli.commands import model_servers
from poolcli.errors import UsageError
from poolcli.models import llama_worker as files
from poolcli.models import local, opening, shared_server
from poolcli.models.base import ModelInfo

pytest.importorskip("xllamacpp")

#: The command as the command line calls it; errors as it prints them.
RUN = """
import json, sys
from poolcli.commands import model_servers
from poolcli.errors import PoolError
try:
    sys.exit(getattr(model_servers, sys.argv[1])(*json.loads(sys.argv[2]), **json.loads(sys.argv[3])))
except PoolError as error:
    sys.stderr.write(f"{error} | {error.hint}\\n")
    sys.exit(int(error.exit_code))
"""
FLAGS = {"context": 1024, "threads": 1, "server": None}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "POOL_STATE"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    file = tmp_path / "mine.gguf"
    shutil.copy(local.demo_model(), file)
    yield file
    for running in shared_server.running():
        shared_server.stop(running.folder)


@pytest.fixture
def run(tmp_path: Path, file: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started = []

    def start(name: str, *args: Any, **more: Any) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", RUN, name, json.dumps(args), json.dumps(more)]
        root = str(Path(local.__file__).parents[2])
        process = subprocess.Popen(
            argv,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def served(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return dict(json.loads(line))


def test_serving_for_other_programs_until_interrupted(run: Callable[..., Any], file: Path) -> None:
    process = run("serve", str(file), FLAGS, json=True)
    facts = served(process)
    assert facts["model"] == "mine" and facts["context"] == 1024 and facts["started"] is True
    key = Path(facts["key_file"]).read_text().strip()
    assert "key" not in facts
    request = urllib.request.Request(
        facts["base_url"] + "/chat/completions",
        data=json.dumps({"messages": [{"role": "user", "content": "fix"}], "max_tokens": 4}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert json.load(reply)["choices"][0]["message"]["content"]
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0 and "stopped" in said
    assert not files.started(facts["pid"]) and shared_server.running() == []


def test_a_second_one_joins_and_leaves_it_to_the_first(run: Callable[..., Any], file: Path) -> None:
    first = run("serve", str(file), FLAGS, json=True)
    facts = served(first)
    second = run("serve", str(file), {**FLAGS, "show_key": True}, port=1)
    assert second.stdout is not None
    lines = [second.stdout.readline() for _ in range(2)]
    assert lines[0] == f"joined the server of mine at {facts['base_url']}\n"
    assert Path(facts["key_file"]).read_text().strip() in lines[1]
    second.terminate()
    _, said = second.communicate(timeout=30)
    assert "port 1 was not to be had" in said and "fit into" in said
    assert files.started(facts["pid"])


def test_interrupting_the_first_leaves_it_to_the_second(run: Callable[..., Any], file: Path) -> None:
    first = run("serve", str(file), FLAGS, json=True)
    facts = served(first)
    served(run("serve", str(file), FLAGS, json=True))
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=30)
    assert "other processes use it" in said and files.started(facts["pid"])


def test_pool_do_finds_what_is_served(run: Callable[..., Any], file: Path, tmp_path: Path) -> None:
    flags = {**FLAGS, "slots": 3, "kv_type": "q8_0"}
    facts = served(run("serve", str(file), flags, json=True))
    settings = config.load(
        None, flags={**{k: v for k, v in flags.items() if v is not None}, "model": str(file)}
    )

    async def use() -> int:
        model: Any = await opening.open_reference(settings, [], log=tmp_path / "log")
        pid = model.server.pid
        await model.aclose()
        return int(pid)

    assert asyncio.run(use()) == facts["pid"]


def test_a_port_of_ones_own_choice(run: Callable[..., Any], file: Path) -> None:
    port = files.free_port()
    facts = served(run("serve", str(file), FLAGS, port=port, json=True))
    assert facts["base_url"] == f"http://127.0.0.1:{port}/v1"


def test_a_served_model_that_crashes_is_back_at_its_address(run: Callable[..., Any], file: Path) -> None:
    process = run("serve", str(file), FLAGS, json=True)
    facts = served(process)
    os.kill(facts["pid"], signal.SIGKILL)
    for _ in range(1000):
        found = shared_server.running()
        if found and found[0].state.pid != facts["pid"] and found[0].state.port:
            break
        time.sleep(0.02)
    assert found[0].state.base_url == facts["base_url"]
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "killed" in said and "starting it again" in said


def test_stop_ends_what_is_served(run: Callable[..., Any], file: Path) -> None:
    process = run("serve", str(file), FLAGS, json=True)
    facts = served(process)
    stopping = run("stop")
    _, said = stopping.communicate(timeout=30)
    assert stopping.returncode == 0 and "stopped the server of mine" in said
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0 and "the server was stopped" in said
    assert not files.started(facts["pid"])


def test_stop_without_a_server(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no model server runs"):
        model_servers.stop()
    assert model_servers.stop(all=True) == 0
    assert "no model server runs" in capsys.readouterr().err


def test_several_servers_need_a_name(run: Callable[..., Any], file: Path) -> None:
    served(run("serve", str(file), FLAGS, json=True))
    other = served(run("serve", str(file), {**FLAGS, "context": 2048}, json=True))
    with pytest.raises(UsageError, match="several model servers run") as caught:
        model_servers.stop()
    names = caught.value.hint.removeprefix("name one: ").split(", ")
    assert len(names) == 2
    with pytest.raises(UsageError, match="no model server called nothing"):
        model_servers.stop("nothing")
    (one,) = [r.folder.name for r in shared_server.running() if r.state.pid == other["pid"]]
    assert model_servers.stop(one) == 0
    assert not files.started(other["pid"]) and len(shared_server.running()) == 1
    assert model_servers.stop(all=True) == 0 and shared_server.running() == []


def test_logs_are_printed_clean_also_of_one_that_ended(
    run: Callable[..., Any], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = served(run("serve", str(file), FLAGS, json=True))
    following = run("logs", "mine", follow=True, lines=1)
    assert following.stdout is not None and following.stdout.readline(), "it has begun to follow"
    with Path(facts["log"]).open("a") as log:
        log.write("an \x1b]0;evil\x07 escape\n")
    assert "an  escape\n" in following.stdout
    assert model_servers.stop() == 0
    following.communicate(timeout=30)
    assert following.returncode == 0, "nothing more can come"
    capsys.readouterr()
    assert model_servers.logs(lines=2) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2 and "an  escape" in out
    with pytest.raises(UsageError, match="no log of a server called nothing"):
        model_servers.logs("nothing")


@pytest.mark.parametrize(
    ("reference", "word"),
    [
        ("none.gguf", "cannot be read"),
        ("unknown-name", "is no model file"),
        ("scripted:x.toml", "is served elsewhere"),
    ],
)
def test_what_cannot_be_served(run: Callable[..., Any], reference: str, word: str) -> None:
    process = run("serve", reference, FLAGS)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2 and word in said


def test_idle_is_a_setting_also_of_pool_do(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_IDLE", "2s")
    settings = config.load(flags={"model": f"local:{file}", "threads": 1})

    async def use() -> int:
        model = await opening.open_reference(settings, [], log=Path("/dev/null"))
        (running,) = shared_server.running()
        assert running.users == 1 and running.says.endswith(f"(process {running.state.pid}, 1 user)")
        await model.aclose()
        return running.state.pid

    pid = asyncio.run(use())
    end = time.monotonic() + 20
    while files.started(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not files.started(pid), "it did not end when idle"


def test_a_project_cannot_set_idle(tmp_path: Path) -> None:
    (tmp_path / ".pool").mkdir()
    (tmp_path / ".pool" / "config.toml").write_text("idle = 5\n")
    trust.trust(tmp_path, trust.read(tmp_path))
    settings = config.load(tmp_path, environ={})
    assert settings.idle == 600 and "`idle` is ignored" in "".join(settings.notices)


def test_users_are_counted(run: Callable[..., subprocess.Popen[str]], file: Path) -> None:
    both = [run("serve", str(file), FLAGS, json=True) for _ in range(2)]
    pids = {served(process)["pid"] for process in both}
    (found,) = shared_server.running()
    assert pids == {found.state.pid} and found.users == (2 if Path("/proc/locks").exists() else 1)


def test_a_full_disk_is_said_in_one_sentence(file: Path, tmp_path: Path) -> None:
    """No file may grow: what a full disk does, without one."""
    argv = [sys.executable, "-m", "poolcli", "models", "serve", str(file)]
    done = subprocess.run(
        argv,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(local.__file__).parents[2])},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert done.returncode == 6 and "for the model server cannot be used: File too large" in done.stderr


def test_an_adapter_that_is_not_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_LORA", "/no/such/adapter.gguf:1")
    with pytest.raises(UsageError, match="the adapter /no/such/adapter"):
        model_servers.serve(str(file), {})


def test_adapters_are_given_as_in_the_configuration(file: Path, tmp_path: Path) -> None:
    """The whole command: its options are settings, checked as such."""
    argv = [sys.executable, "-m", "poolcli", "models", "serve", str(file), "--lora", "/no/such.gguf:0.5"]
    env = {**os.environ, "PYTHONPATH": str(Path(local.__file__).parents[2])}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "the adapter /no/such.gguf cannot be read" in done.stderr


def test_the_tools_are_chosen_for_the_window_that_was_planned(file: Path) -> None:
    """The file was trained for 4,096 tokens: that is what its server gets, whatever is usual."""
    windows = []

    def tools(info: ModelInfo) -> list[dict[str, Any]]:
        windows.append(info.window)
        return []

    async def use() -> int:
        settings = config.load(flags={"model": f"local:{file}", "threads": 1})
        model = await opening.open_reference(settings, tools, log=Path("/dev/null"))
        await model.aclose()
        return model.info.window

    assert asyncio.run(use()) == 4096 and windows == [4096]


def test_a_file_whose_name_is_no_text(tmp_path: Path, file: Path) -> None:
    bad = os.fsencode(tmp_path) + b"/\xff.gguf"
    shutil.copy(file, bad)
    env = {**os.environ, "PYTHONPATH": str(Path(local.__file__).parents[2])}
    for command in (["models", "use"], ["models", "get"], ["models", "serve"], ["doctor", "--model"]):
        argv = [sys.executable, "-m", "poolcli", *command, os.fsdecode(bad)]
        done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 2 and "is not UTF-8 text" in done.stdout + done.stderr, done.stderr
