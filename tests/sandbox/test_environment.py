"""What commands see of the user's environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolcli.errors import RefusedError
from poolcli.sandbox import Confinement, Launch, Sandbox, command_environment, default, wrap
from poolcli.sandbox.environment import confined_environment

CONFINEMENT = Confinement(root=Path("/w"), seen=Path("/w"), home=Path("/h"))

USER = {
    "HOME": "/home/ada",
    "PATH": "/usr/bin",
    "USER": "ada",
    "LANG": "de_DE.UTF-8",
    "TZ": "UTC",
    "CUDA_HOME": "/cuda",
}


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "POOL_API_KEY",
        "POOL_MODEL",
        "GITHUB_TOKEN",
        "MY_SECRET",
        "DB_PASSWORD",
        "db_passwd",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "SSH_AUTH_SOCK",
        "GIT_DIR",
        "GIT_CONFIG_COUNT",
        "AWS_PROFILE",
        "BASH_ENV",
        "BASH_FUNC_ls%%",
        "DBUS_SESSION_BUS_ADDRESS",
        "FORCE_COLOR",
        "LC_ALL",
    ],
)
def test_withheld(name: str) -> None:
    assert name not in command_environment({**USER, name: "value"}, run_id="r")


def test_a_password_in_a_url_is_withheld_whatever_its_name() -> None:
    base = {
        "DATABASE": "postgres://ada:hunter2@db/x",
        "SITE": "https://example.org/a:b@c",
        "PROXY": "http://proxy:80",
    }
    seen = command_environment(base, run_id="r")
    assert "DATABASE" not in seen and {"SITE", "PROXY"} <= set(seen)


def test_the_rest_is_kept_and_nothing_can_ask_or_page() -> None:
    seen = command_environment({**USER, "PAGER": "less", "TOKENIZERS_PARALLELISM": "false"}, run_id="run-7")
    assert {name: seen[name] for name in ("HOME", "PATH", "USER", "TZ", "CUDA_HOME")} == {
        name: USER[name] for name in ("HOME", "PATH", "USER", "TZ", "CUDA_HOME")
    }
    assert seen["TOKENIZERS_PARALLELISM"] == "false"
    assert seen["PAGER"] == seen["GIT_PAGER"] == "cat"
    assert seen["GIT_TERMINAL_PROMPT"] == "0" and seen["TERM"] == "dumb" and seen["LANG"] == "C.UTF-8"
    assert seen["POOL_RUN"] == "run-7"


def test_extra_wins_but_not_over_the_mark() -> None:
    seen = command_environment(USER, run_id="r", extra={"PATH": "/venv/bin", "POOL_RUN": "other"})
    assert seen["PATH"] == "/venv/bin" and seen["POOL_RUN"] == "r"


def test_without_a_sandbox_the_command_is_what_it_was() -> None:
    launch = wrap(default(), ["/bin/sh", "-c", "x"], CONFINEMENT, {"A": "1"})
    assert launch == Launch(["/bin/sh", "-c", "x"], {"A": "1"}, ())
    assert default().name == "none" and default().note


def test_an_unknown_sandbox_never_runs_unconfined() -> None:
    with pytest.raises(RefusedError):
        wrap(Sandbox("cardboard", ""), ["true"], CONFINEMENT, {})


def test_in_a_sandbox_only_what_is_listed_passes() -> None:
    base = {
        **USER,
        "PATH": ".:/usr/bin::bin:/opt/bin",
        "LD_PRELOAD": "/x.so",
        "BASH_ENV": "/x",
        "SOMETHING": "canary",
        "MY_FLAG": "1",
        "DEPLOY_TOKEN": "t",
        "GIT_DIR": "/x",
    }
    seen = confined_environment(base, run_id="r", home="/h", keep=["MY_FLAG"], extra={"VIRTUAL_ENV": "/v"})
    assert not {"LD_PRELOAD", "BASH_ENV", "SOMETHING", "DEPLOY_TOKEN", "GIT_DIR"} & set(seen)
    assert seen["PATH"] == "/usr/bin:/opt/bin", "no folder that depends on where a command is"
    assert seen["HOME"] == "/h" and seen["XDG_CACHE_HOME"] == "/h/.cache" and seen["TMPDIR"] == "/tmp"
    assert seen["USER"] == seen["LOGNAME"] == "ada" and seen["TERM"] == "dumb"
    assert seen["GIT_AUTHOR_NAME"] == seen["GIT_COMMITTER_NAME"] == "pool"
    assert seen["MY_FLAG"] == "1" and seen["VIRTUAL_ENV"] == "/v" and seen["POOL_RUN"] == "r"
    assert confined_environment({}, run_id="r", home="/h")["PATH"]
