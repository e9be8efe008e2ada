"""Which folders with tools stay readable, in homes that are made for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from poolcli.sandbox import toolchains


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path.resolve() / "home/ada"
    place.mkdir(parents=True)
    return place


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def found(home: Path, *path: Path | str, checkout: Path | None = None, **variables: str) -> set[str]:
    environ = {"PATH": ":".join(map(str, path)), **variables}
    places = toolchains.readable(environ, home=home, hidden=[home], checkout=checkout)
    return {str(place.relative_to(home)) for place in places}


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (".pyenv/shims/python", ".pyenv"),
        (".nvm/versions/node/v20/bin/node", ".nvm"),
        (".cargo/bin/cargo", ".cargo/bin"),
        (".rustup/toolchains/x/bin/rustc", ".rustup"),
        (".local/share/uv/python/cpython-3.12/bin/python", ".local/share/uv"),
        (".sdkman/candidates/java/21/bin/java", ".sdkman/candidates"),
        ("go/bin/tool", "go/bin"),
        ("go/pkg/mod/x/file", "go/pkg/mod"),
        (".local/bin/tool", ".local/bin"),
    ],
)
def test_tool_managers(made: str, shown: str, home: Path) -> None:
    program(home / made)
    (home / ".cargo").mkdir(exist_ok=True)
    (home / ".cargo/credentials.toml").write_text("token")
    (home / "go").mkdir(exist_ok=True)
    assert found(home) == {shown}


def test_a_folder_of_path_and_the_installation_around_it(home: Path) -> None:
    program(home / "tools/node-20/bin/node")
    (home / "tools/node-20/lib").mkdir()
    program(home / "bin/script")
    assert found(home, home / "tools/node-20/bin", home / "bin") == {"tools/node-20", "bin"}


def test_a_project_on_path_shows_its_programs_and_not_its_code(home: Path) -> None:
    program(home / "work/app/bin/run")
    (home / "work/app/lib").mkdir()
    (home / "work/app/.git").mkdir()
    assert found(home, home / "work/app/bin") == {"work/app/bin"}


def test_what_links_lead_to(home: Path) -> None:
    target = program(home / "opt/thing/run.sh")
    (home / "bin").mkdir()
    (home / "bin/thing").symlink_to(target)
    (home / "bin/key").symlink_to(program(home / ".ssh/agent.sh"))
    assert found(home, home / "bin") == {"bin", "opt/thing/run.sh"}


@pytest.mark.parametrize("name", [".ssh", ".aws/bin", ".config/x/bin", ".gnupg", ".mozilla/bin", ".kube"])
def test_folders_with_keys_never(name: str, home: Path) -> None:
    program(home / name / "tool")
    assert found(home, home / name, VIRTUAL_ENV=str(home / name)) == set()


@pytest.mark.parametrize("name", ["", ".", ".local", ".local/share", ".cargo", "x/..", ".cache"])
def test_home_itself_and_folders_that_hold_everything_never(name: str, home: Path) -> None:
    (home / "x").mkdir()
    (home / name).mkdir(parents=True, exist_ok=True)
    assert found(home, f"{home}/{name}", JAVA_HOME=f"{home}/{name}") == set()
    assert found(home, home.parent, "relative/bin", "", VIRTUAL_ENV=str(home.parent)) == set()


def test_a_link_to_home_is_home(home: Path) -> None:
    (home / "all").symlink_to(home)
    assert "" not in found(home, home / "all") and "." not in found(home, home / "all")
    (home / "keys").symlink_to(home / ".ssh")
    program(home / ".ssh/tool")
    assert ".ssh" not in found(home, home / "keys")
    # Not under the other name either.
    assert found(home, home / "all", home / "keys") == set()


def test_virtual_environments_bring_what_they_were_made_from(home: Path) -> None:
    base = program(home / "pythons/3.12.4/bin/python3")
    program(home / "pythons/3.12.4/lib/python3.12/os.py")
    (home / "pythons/3.12").symlink_to(home / "pythons/3.12.4")
    for place in ("code/.venv", "envs/tools"):
        (home / place / "bin").mkdir(parents=True)
        (home / place / "pyvenv.cfg").write_text(
            f"home = {base.parent.parent.parent}/3.12/bin\nversion = 3.12\n"
        )
    expected = {"pythons/3.12.4", "pythons/3.12"}
    # The checkout's own is seen in the worktree: only its base is needed.
    assert found(home, checkout=home / "code") == expected
    assert found(home, home / "code/.venv/bin", checkout=home / "code") == expected
    assert found(home, home / "envs/tools/bin") == {*expected, "envs/tools"}


def test_nothing_around_or_in_the_checkout(home: Path) -> None:
    program(home / "go/src/app/bin/tool")
    (home / "go/src/app/lib").mkdir()
    checkout = home / "go/src/app"
    assert found(home, checkout / "bin", VIRTUAL_ENV=str(home / "go/src"), checkout=checkout) == set()


def test_a_path_with_links_in_it_is_there_under_both_names(home: Path) -> None:
    program(home / "versions/1/bin/tool")
    (home / "current").symlink_to(home / "versions/1")
    shown = found(home, home / "current/bin")
    assert {"versions/1/bin"} <= shown


def test_none_inside_another(home: Path) -> None:
    program(home / ".pyenv/versions/3.11/bin/python")
    assert found(home, home / ".pyenv/versions/3.11/bin", home / ".pyenv/shims") == {".pyenv"}


def test_variables_lead_tools_to_the_user_s_home(home: Path) -> None:
    assert toolchains.variables(home) == {}
    (home / ".rustup").mkdir()
    assert toolchains.variables(home) == {"RUSTUP_HOME": str(home / ".rustup")}


def python(prefix: Path) -> Path:
    """What looks like an installed Python."""
    program(prefix / "bin/python3")
    program(prefix / "lib/python3.12/os.py")
    return prefix


def named(checkout: Path, home: Path) -> Path:
    (checkout / ".venv").mkdir(parents=True, exist_ok=True)
    (checkout / ".venv/pyvenv.cfg").write_text(f"home = {home}\n")
    return checkout


@pytest.mark.parametrize(
    "place",
    ["Documents/x", "Documents/bin", ".vault-token/x", "state/x", "x", "code/../x", ".conf/bin", "d/l/bin"],
)
def test_a_checkout_names_no_folder_that_is_not_a_python(place: str, home: Path) -> None:
    (home / "Documents/bin").mkdir(parents=True)
    (home / "state").mkdir()
    (home / ".vault-token").write_text("token")
    python(home / ".conf")
    python(home)  # HOME itself, even with a Python in it
    (home / "d").mkdir()
    (home / "d/l").symlink_to(home / "Documents")
    checkout = named(home / "code", home / place)
    assert found(home, checkout / ".venv/bin", checkout=checkout, VIRTUAL_ENV=f"{checkout}/.venv") == set()
    # The control: a Python there is shown.
    assert found(home, checkout=named(checkout, python(home / "py") / "bin")) == {"py"}


def test_an_environment_that_git_tracks_is_not_asked(home: Path) -> None:
    checkout = named(home / "code", python(home / "py") / "bin")
    environ = {"PATH": ""}
    places = toolchains.readable(environ, home=home, hidden=[home], checkout=checkout, environments=())
    assert places == () and found(home, checkout=checkout) == {"py"}


def test_a_settings_file_that_is_a_pipe_is_not_waited_for(home: Path) -> None:
    (home / "code/.venv").mkdir(parents=True)
    os.mkfifo(home / "code/.venv/pyvenv.cfg")
    assert found(home, checkout=home / "code") == set()


def test_links_of_the_checkout_lead_nowhere(home: Path) -> None:
    (home / ".vault-token").write_text("token")
    (home / "Documents/lib").mkdir(parents=True)
    program(home / "Documents/bin/tool")
    checkout = home / "code"
    (checkout / "bin").mkdir(parents=True)
    (checkout / "bin/t").symlink_to(home / ".vault-token")
    (checkout / "tools").symlink_to(home / "Documents/bin")
    (checkout / "all").symlink_to(home / "Documents")
    (home / "mine").mkdir()
    (home / "mine/t").symlink_to("../code/bin/t")
    (home / "over").symlink_to("code/tools")
    path = [checkout / name for name in ("bin", "tools", "all/bin", "x/../bin")]
    environ = {"VIRTUAL_ENV": str(checkout / "all"), "JAVA_HOME": str(checkout / "all")}
    # By way of the user's own links as well.
    assert found(home, *path, home / "mine", home / "over", checkout=checkout, **environ) == {"mine"}
    # The control: the same links elsewhere are the user's.
    other = home / "other"
    other.mkdir()
    assert ".vault-token" in found(home, *path, checkout=other)


def test_pool_s_own_folders_and_those_around_them_never(home: Path) -> None:
    for name in ("tools/state/bin", "tools/other/bin"):
        program(home / name / "tool")
    (home / "link").symlink_to(home / "tools/state")
    path = {"PATH": f"{home}/tools/state/bin:{home}/tools:{home}/link:{home}/tools/other/bin"}

    def shown(*private: Path) -> set[Path]:
        return set(toolchains.readable(path, home=home, hidden=[home], private=private))

    assert shown(home / "tools/state") == {home / "tools/other/bin"}
    assert home / "tools" in shown()
