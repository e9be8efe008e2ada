"""The configuration: layers, origins, what a project may say, and errors that name file, line and key."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli import config, paths, trust
from poolcli.commands import config as command
from poolcli.config import BY_NAME, OPTIONS, Config, line_of, load
from poolcli.errors import ConfigError, Exit
from poolcli.models.endpoint import Limits

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of its own, so that nobody's real configuration is read."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    return folder


@pytest.fixture
def user_file(home: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = home / ".config" / "pool" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        top = tmp_path / "repo"
        (top / ".pool").mkdir(parents=True, exist_ok=True)
        (top / ".pool" / "config.toml").write_text(text)
        trust.trust(top, trust.read(top))
        return top

    return write


def test_the_table_and_the_class_name_the_same_settings() -> None:
    fields = list(Config.__struct_fields__)
    assert fields == [option.name for option in OPTIONS] + ["origins", "notices"]
    for option in OPTIONS:
        if option.default is not None and not option.choices:
            assert config.checked(option, option.default, "default") == option.default


def test_nothing_configured() -> None:
    settings = load(environ={})
    assert settings.model == "" and settings.max_turns == 50 and settings.deny == ()
    assert set(settings.origins.values()) == {"default"} and settings.notices == ()


def test_deadlines_are_those_of_the_client() -> None:
    settings, limits = load(environ={}), Limits()
    deadlines = (settings.first_deadline, settings.idle_deadline, settings.reply_deadline)
    assert deadlines == (limits.first, limits.idle, limits.total)


def test_each_layer_wins_over_the_one_before(
    user_file: Callable[[str], Path], project: Callable[[str], Path]
) -> None:
    user_file("# mine\nmax_turns = 1\nmax_rounds = 1\nmax_tokens = 1\n\nmax_reply = 1\n")
    top = project("max_turns = 2\nmax_rounds = 2\nmax_tokens = 2\n")
    environ = {"POOL_MAX_TURNS": "3", "POOL_MAX_ROUNDS": "3"}
    settings = load(top, flags={"max_turns": 4, "seed": None}, environ=environ)
    assert settings.max_turns == 4 and settings.origins["max_turns"] == "--max-turns"
    assert settings.max_rounds == 3 and settings.origins["max_rounds"] == "POOL_MAX_ROUNDS"
    assert settings.max_tokens == 2 and settings.origins["max_tokens"] == "project file .pool/config.toml:3"
    assert settings.max_reply == 1
    assert settings.origins["max_reply"] == "user file ~/.config/pool/config.toml:6"
    assert settings.seed is None and settings.origins["seed"] == "default"


@pytest.mark.parametrize("model", ["demo", "local:/x.gguf", "scripted:s.toml", "x.GGUF"])
def test_a_server_named_later_is_meant(user_file: Callable[[str], Path], model: str) -> None:
    user_file(f'model = "{model}"\n')
    for settings in (
        load(flags={"base_url": "http://127.0.0.1:1/v1"}),
        load(environ={"POOL_BASE_URL": "http://127.0.0.1:1/v1"}),
    ):
        assert (settings.model, settings.base_url) == ("", "http://127.0.0.1:1/v1")


def test_a_model_without_a_server_named_later_is_meant(user_file: Callable[[str], Path]) -> None:
    user_file('model = "qwen3"\nbase_url = "http://127.0.0.1:1/v1"\n')
    settings = load(flags={"model": "demo"})
    assert (settings.model, settings.base_url) == ("demo", "")
    settings = load(flags={"model": "other"})
    assert (settings.model, settings.base_url) == ("other", "http://127.0.0.1:1/v1")
    settings = load(flags={"model": "remote:demo"})
    assert (settings.model, settings.base_url) == ("remote:demo", "http://127.0.0.1:1/v1")


def test_the_place_of_the_users_file_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xdg" / "pool").mkdir(parents=True)
    (tmp_path / "xdg" / "pool" / "config.toml").write_text("max_turns = 7\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert load(environ={}).max_turns == 7


def test_an_empty_variable_is_not_set() -> None:
    assert load(environ={"POOL_MAX_TURNS": "", "POOL_TEST": ""}).max_turns == 50


@pytest.mark.parametrize("option", [o for o in OPTIONS if not o.project], ids=lambda o: o.name)
def test_a_project_cannot_set_the_endpoint_or_safety(option: Any, project: Callable[[str], Path]) -> None:
    example = {
        "text": '"auto"',
        "whole number": "5",
        "number": "5",
        "seconds": "5",
        "list of words": '["edit"]',
        "table": "{ x = 1 }",
        "patterns": '["x+"]',
    }
    value = f'"{option.choices[0]}"' if option.choices else example[option.kind]
    settings = load(project(f"{option.name} = {value}\n"), environ={})
    assert getattr(settings, option.name) == option.default
    (notice,) = settings.notices
    assert notice.startswith(f"project file .pool/config.toml:1: `{option.name}` is ignored")
    assert "model endpoint" in notice if option.endpoint else "safety" in notice


def test_commands_come_from_a_table(user_file: Callable[[str], Path], project: Callable[[str], Path]) -> None:
    user_file("[checks]\ntest = 'mine'\nlint = 'ruff check'\ntypes = 'mypy'\n")
    top = project("max_turns = 5\n\n[checks]\ntest = 'make test'\nlint = 'make lint'\n")
    settings = load(top, environ={})
    assert settings.test == "make test" and settings.origins["test"] == "project file .pool/config.toml:3"
    assert settings.checks == {"lint": "make lint", "types": "mypy"}
    assert load(top, flags={"test": "x"}, environ={}).test == "x"
    assert load(environ={}).test == "mine"


def test_fields_of_requests_come_from_a_table(user_file: Callable[[str], Path]) -> None:
    user_file('lora = ["0:0.5"]\n\n[request]\nrepeat_last_n = 64\nx = { y = [1, "a", true] }\n')
    settings = load(environ={"POOL_REQUEST": "x"})
    assert settings.request == {"repeat_last_n": 64, "x": {"y": [1, "a", True]}}
    assert settings.origins["request"].endswith("config.toml:3") and settings.lora == ("0:0.5",)
    for bad in (
        "request = 1",
        "[request]\nwhen = 2026-01-01",
        "[request]\nx = inf",
        "[request]\nx = [[nan]]",
    ):
        user_file(bad + "\n")
        with pytest.raises(ConfigError, match="a table of text"):
            load(environ={})


def test_a_project_can_name_the_checks_and_budgets(project: Callable[[str], Path]) -> None:
    settings = load(project('test = "make test"\nchecks_timeout = "2m"\ntimeout = 90\n'), environ={})
    assert (settings.test, settings.checks_timeout, settings.timeout) == ("make test", 120.0, 90.0)
    assert settings.notices == ()


# Keys


KEY_FILE = 'base_url = "http://127.0.0.1:1/v1"\napi_key = "s3cret"\n'


def test_a_key_in_the_users_file_goes_to_that_files_server(user_file: Callable[[str], Path]) -> None:
    user_file(KEY_FILE)
    assert load(environ={}).api_key == "s3cret"
    assert load(environ={}, flags={"base_url": "http://127.0.0.1:1/v1"}).api_key == "s3cret"


def test_a_key_in_the_users_file_does_not_travel(user_file: Callable[[str], Path]) -> None:
    user_file(KEY_FILE)
    settings = load(environ={}, flags={"base_url": "http://127.0.0.1:2/v1"})
    assert settings.api_key == "" and settings.origins["api_key"] == "default"
    assert "--base-url" in settings.notices[0] and "s3cret" not in settings.notices[0]
    settings = load(environ={"POOL_API_KEY": "other"}, flags={"base_url": "http://127.0.0.1:2/v1"})
    assert settings.api_key == "other" and not settings.notices


def test_a_key_that_others_can_read_is_said_so(user_file: Callable[[str], Path]) -> None:
    user_file(KEY_FILE).chmod(0o644)
    assert any("chmod 600" in notice for notice in load(environ={}).notices)


def test_a_key_is_never_shown(user_file: Callable[[str], Path]) -> None:
    user_file(KEY_FILE)
    assert "s3cret" not in repr(load(environ={}))
    user_file("api_key = 5\n")
    with pytest.raises(ConfigError) as caught:
        load(environ={})
    assert "5" not in str(caught.value)


# Errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_turn = 5\n", [":1: unknown key `max_turn`", "did you mean `max_turns`?"]),
        ("\n# x\nxyzzy = 1\n", [":3: unknown key `xyzzy`", "known keys: model, base_url"]),
        ("[check]\ntest = 'x'\n", [":1: unknown table `check`", "did you mean `test`, without a table?"]),
        ("[checks]\ntests = 'x'\n", [":2: unknown key `tests` in `[checks]`; did you mean `test`?"]),
        (
            "[checks]\nlint = 'x'\n\nlnt = 'x'\n",
            [":4: unknown key `lnt` in `[checks]`; did you mean `lint`?"],
        ),
        ("[checks]\nlint = 1\n", [":1: `checks` must be a table of commands"]),
        ("[checks]\nlint = ' '\n", [":1: `checks` must be a table of commands"]),
        ("checks = 'pytest'\n", [":1: `checks` must be a table of commands"]),
        ("test = 'x'\n[checks]\ntest = 'y'\n", ["`test` is set twice"]),
        ("a.b = 1\n", [":1: unknown table `a`"]),
        (
            'seed = 1\nmax_turns = "many"\n',
            [":2: `max_turns` must be a whole number of at least 0, not 'many'"],
        ),
        ("max_turns = -1\n", [":1: `max_turns` must be a whole number of at least 0, not -1"]),
        ("max_turns = 1.5\n", ["a whole number"]),
        ("max_turns = true\n", ["a whole number", "not True"]),
        ("temperature = nan\n", ["a number of at least 0"]),
        ("timeout = 'soon'\n", ['a number of seconds (or text such as "90s", "10m", "2h")']),
        ("server = 'lmstudio'\n", ["one of auto, xllamacpp, llama-server, vllm, ollama"]),
        ("deny = 'shell'\n", ["a list of words"]),
        ("deny = ['shel']\n", [":1: `deny` names `shel`", "known: read"]),
        ("model = ['a']\n", ["`model` must be text"]),
        ("model = \n", [":1: not valid TOML"]),
        ("test = [\n", ["not valid TOML"]),
        ('model = """\nmax_turns = 3\n"""\nmax_turns = -3\n', [":4: `max_turns`"]),
        ("test = 'a\\0b'\nseed = 'x'\n", [":2: `seed`"]),
    ],
)
def test_an_error_names_file_line_key_and_what_is_allowed(
    text: str, words: list[str], user_file: Callable[[str], Path]
) -> None:
    user_file(text)
    with pytest.raises(ConfigError) as caught:
        load(environ={})
    said = f"{caught.value} {caught.value.hint}"
    assert caught.value.exit_code == Exit.USAGE and said.startswith("~/.config/pool/config.toml")
    assert caught.value.hint and "\n" not in said
    for word in words:
        assert word in said


def test_errors_of_variables_and_flags_name_them() -> None:
    with pytest.raises(ConfigError, match="POOL_MAX_TURNS: `max_turns` must be a whole number"):
        load(environ={"POOL_MAX_TURNS": "a few"})
    with pytest.raises(ConfigError, match="--timeout: `timeout` must be"):
        load(flags={"timeout": -1.0}, environ={})


def test_a_misspelt_variable_is_said_so() -> None:
    (notice,) = load(environ={"POOL_BASEURL": "x"}).notices
    assert "POOL_BASEURL" in notice and "did you mean `POOL_BASE_URL`?" in notice
    assert load(environ={"POOL_STATE": "/x", "POOL_DEBUG": "1", "POOL_SWIMMERS": "4"}).notices == ()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("0", 0), ("10 m", 600)]
)
def test_seconds_may_have_a_unit(text: str, seconds: float) -> None:
    assert load(environ={"POOL_TIMEOUT": text}).timeout == seconds


def test_words_in_a_variable() -> None:
    assert load(environ={"POOL_DENY": "execute, edit"}).deny == ("execute", "edit")


def test_a_file_that_cannot_be_used(user_file: Callable[[str], Path]) -> None:
    path = user_file("")
    path.write_bytes(b"model = '\xff'\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(environ={})
    path.write_bytes(b"#" * (config.LARGEST + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load(environ={})
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="not a regular file"):
        load(environ={})
    path.rmdir()
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="not a regular file"):
        load(environ={})
    path.unlink()
    assert load(environ={}).test == ""


def test_without_a_file_no_toml_is_loaded() -> None:
    code = "import sys; from poolcli import config; config.load(environ={}); print('tomllib' in sys.modules)"
    argv = [sys.executable, "-c", code]
    assert subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT).stdout == "False\n"


@given(st.dictionaries(st.sampled_from([o.env for o in OPTIONS]), st.text(max_size=20)))
def test_any_environment_is_a_configuration_or_an_error(environ: dict[str, str]) -> None:
    try:
        settings = load(environ=environ)
    except ConfigError as error:
        assert str(error).startswith("POOL_") and error.hint
        return
    for option in OPTIONS:
        value = getattr(settings, option.name)
        assert option.minimum is None or value is None or value >= option.minimum


names = st.sampled_from([*BY_NAME, "unknown"])


@given(st.lists(names, unique=True, max_size=8), st.data())
def test_line_of_finds_every_key(keys: list[str], data: st.DataObject) -> None:
    lines, where = [], {}
    for key in keys:
        lines += data.draw(st.lists(st.sampled_from(["", "# model = 1", "  ", "#\tseed"]), max_size=3))
        lines.append(data.draw(st.sampled_from([f"{key} = 1", f"  {key}=1", f'"{key}" = "x = 1"'])))
        where[key] = len(lines)
        if data.draw(st.booleans()):
            lines[-1] = f"{key} = '''"
            lines += ["model = 1", "'''"]
    text = "\n".join(lines)
    assert {key: line_of(text, key) for key in keys} == where


# pool config show, and the page


def shown(**more: Any) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = command.show(**more)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def repository(tmp_path: Path, project: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    top = project('test = "make test"\nmodel = "evil"\n')
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(top)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    (top / "deep").mkdir()
    monkeypatch.chdir(top / "deep")
    return top


def test_show_prints_every_value_and_its_origin(
    repository: Path, user_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file(KEY_FILE)
    monkeypatch.setenv("POOL_MAX_TURNS", "9")
    code, out, err = shown()
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0 and set(rows) == {*BY_NAME, "(state"}
    assert "make test" in rows["test"] and "project file .pool/config.toml:1" in rows["test"]
    assert rows["max_turns"].split()[1:] == ["9", "POOL_MAX_TURNS"]
    assert "(hidden)" in rows["api_key"] and "s3cret" not in out + err
    assert str(paths.state_dir()) in rows["(state"] and "POOL_STATE" in rows["(state"]
    assert "evil" not in out and "`model` is ignored" in err


def test_show_as_json(repository: Path, user_file: Callable[[str], Path]) -> None:
    user_file(KEY_FILE)
    _, out, _ = shown(json=True)
    values = json.loads(out)
    assert values["test"] == {"value": "make test", "origin": "project file .pool/config.toml:1"}
    assert values["api_key"]["value"] == "(hidden)" and values["seed"]["value"] is None
    assert set(values) == set(BY_NAME)


def test_show_works_outside_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown()[0] == 0


def test_every_flag_of_the_table_is_one_of_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "poolcli", "do", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    for option in OPTIONS:
        assert option.flag in done.stdout


def test_the_page_is_current() -> None:
    """When this fails: python docs/generate.py."""
    page = ROOT / "docs" / "configuration.md"
    assert page.read_text() == command.document(page.read_text())


def test_show_fits_into_a_narrow_terminal(tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    argv = [sys.executable, "-m", "poolcli", "config", "show"]
    done = subprocess.Popen(argv, cwd=tmp_path, env={**env, "PYTHONPATH": str(ROOT)}, stdout=theirs)
    os.close(theirs)
    text = b""
    with contextlib.suppress(OSError):  # Linux' way of saying that nobody holds the other end any more
        while piece := os.read(ours, 65536):
            text += piece
    os.close(ours)
    assert done.wait() == 0
    lines = text.decode().split("\r\n")
    assert max(map(len, lines)) < 60 and "model, 16384 for other local files)" in text.decode()


def test_a_task_without_quotes(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "poolcli", "do", "fix", "the", "test"]
    done = subprocess.run(
        argv, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2 and "put the task in quotes" in done.stderr


def test_a_state_folder_that_cannot_be(repository: Path, tmp_path: Path) -> None:
    for state, code, said in (
        ("~no-such-user-here/x", 2, "POOL_STATE: ~no-such-user-here is no home folder"),
        ("/dev/null/x", 1, "set POOL_STATE to a folder of yours"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "poolcli", "do", "x", "--model", "demo"],
            cwd=repository,
            env={**os.environ, "POOL_STATE": state, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code and said in done.stderr, done.stderr


def test_patterns_and_hosts_are_checked_where_they_are_written(user_file: Callable[[str], Path]) -> None:
    user_file(
        "redact = ['ACME-\\d{3,4}', '(?m)^x y$']\nallow_net = ['pkgs.example', '*.example.org', '10.0.0.5:8080']\n"
    )
    settings = load()
    assert settings.redact == ("ACME-\\d{3,4}", "(?m)^x y$") and len(settings.allow_net) == 3
    for text, what in (
        ("redact = ['(']", "`redact` must be a list of regular expressions"),
        ("redact = ['x*']", "`redact` must be a list of regular expressions"),
        ("allow_net = ['https://pkgs.example']", "`allow_net`: 'https://pkgs.example' is no host"),
    ):
        user_file(text)
        with pytest.raises(ConfigError, match=what):
            load()


def test_what_is_taken_out_of_everything(user_file: Callable[[str], Path]) -> None:
    user_file("redact = ['ACME-\\d+']\n")
    settings = load(environ={"POOL_API_KEY": "abcd-1234-key"})
    shown = config.redactor(settings, {"MY_TOKEN": "tok-998877"}).text("ACME-12 abcd-1234-key tok-998877 x")
    assert shown == "[redacted: your pattern] [redacted: API key] [redacted: environment] x"
