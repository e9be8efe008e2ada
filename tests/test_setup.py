"""Recipes, and a real setup: a package of a real index, by a real pip, in a network of its own."""

from __future__ import annotations

import asyncio
import http.server
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poolcli import process, recipes, registries, setup
from poolcli.errors import StoreError
from poolcli.network import forwarder, hosts
from poolcli.network.proxy import Decision, Proxy
from poolcli.process import Finished
from poolcli.recipes import Recipe, configured, propose
from poolcli.setup import SetupError
from tests.network.test_forwarder import bubblewrap


def reader(files: dict[str, str]) -> Callable[[str], str | None]:
    return files.get


@pytest.mark.parametrize(
    ("files", "run", "installers", "keeps"),
    [
        ({"requirements.txt": ""}, ("python3 -m venv .venv", ".venv/bin/python -m pip install -r requirements.txt"),
         ("pip",), (".venv",)),
        ({"pyproject.toml": "[project]\nname='x'\n[project.optional-dependencies]\ntest=[]\ndev=[]\ndocs=[]"},
         ("python3 -m venv .venv", ".venv/bin/python -m pip install -e '.[test,dev]'"), ("pip",), (".venv",)),
        ({"uv.lock": "", "pyproject.toml": "[project]"}, ("uv sync --frozen",), ("pip",), (".venv",)),
        ({"package-lock.json": "", "package.json": ""}, ("npm ci",), ("npm",), ("node_modules",)),
        ({"yarn.lock": "", "package.json": ""}, ("yarn install --frozen-lockfile",), ("yarn",),
         ("node_modules",)),
        ({"Cargo.toml": "", "Cargo.lock": ""}, ("cargo fetch --locked",), ("cargo",), ()),
        ({"go.mod": ""}, ("go mod download",), ("go",), ()),
    ],
)  # fmt: skip
def test_what_is_proposed(
    files: dict[str, str], run: tuple[str, ...], installers: tuple[str, ...], keeps: tuple[str, ...]
) -> None:
    recipe = propose(files, reader(files), have=lambda name: True, environ={})
    assert recipe is not None and (recipe.run, recipe.installers, recipe.keeps) == (run, installers, keeps)


def test_nothing_and_both() -> None:
    assert (
        propose(
            ["README.md", "pyproject.toml"], reader({"pyproject.toml": "[tool.ruff]"}), have=bool, environ={}
        )
        is None
    )
    files = {"requirements.txt": "", "package-lock.json": "", "requirements; rm -rf x.txt": ""}
    recipe = propose(files, reader(files), have=lambda name: False, environ={})
    assert (
        recipe is not None
        and recipe.keeps == (".venv", "node_modules")
        and "rm -rf" not in " ".join(recipe.run)
    )


def test_a_registry_of_the_users_own() -> None:
    files = {"requirements.txt": ""}
    environ = {
        "PIP_INDEX_URL": "https://pypi.corp.example/simple",
        "UV_INDEX_URL": "http://mirror.example:8080/simple",
        "PIP_EXTRA_INDEX_URL": "https://me:secret@private.example/simple",
        "GOPROXY": "direct",
    }
    recipe = propose(files, reader(files), have=bool, environ=environ)
    assert recipe is not None
    assert recipe.hosts[-2:] == ("pypi.corp.example", "mirror.example:8080")
    assert dict(recipe.variables).keys() == {"PIP_INDEX_URL", "UV_INDEX_URL"}
    assert "secret" not in recipes.shown(recipe)


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({}, "`run` must name"),
        ({"run": "make"}, "`run` must be a list"),
        ({"run": ["x"], "net": []}, "unknown key `net`"),
        ({"run": ["x"], "allow_net": ["http://x"]}, "is no host"),
        ({"run": ["x"], "keep": ["../x"]}, "no path within"),
        ({"run": ["x"], "keep": ["/etc"]}, "no path within|'etc'"),
        ({"run": ["x"], "cache_key": ["/etc/passwd"]}, "no path within"),
    ],
)
def test_a_table_that_means_nothing(table: dict[str, object], what: str) -> None:
    if table.get("keep") == ["/etc"]:
        assert configured(table, "o").keeps == ("etc",)  # of the project
        return
    with pytest.raises(ValueError, match=what):
        configured(table, "o")


def test_a_key_changes_with_all_that_matters() -> None:
    recipe = configured({"run": ["x"], "cache_key": ["lock"]}, "o")
    keys = {
        recipes.fingerprint(recipe, reader({"lock": "1"}), ("m",)),
        recipes.fingerprint(recipe, reader({"lock": "2"}), ("m",)),
        recipes.fingerprint(recipe, reader({}), ("m",)),
        recipes.fingerprint(recipe, reader({"lock": "1"}), ("n",)),
        recipes.fingerprint(
            configured({"run": ["y"], "cache_key": ["lock"]}, "o"), reader({"lock": "1"}), ("m",)
        ),
    }
    assert len(keys) == 5
    assert recipes.fingerprint(recipe, reader({"lock": "1"}), ("m",)) in keys


# Running one


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POOL_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "repo"


def plain(root: Path) -> setup.Runner:
    async def run(command: str) -> Finished:
        return await process.run(["sh", "-c", command], cwd=root, env=dict(os.environ), timeout=60)

    return run


def worktree(tmp_path: Path, name: str = "w") -> Path:
    root = tmp_path / name
    root.mkdir()
    return root


def test_a_setup_is_made_once(tmp_path: Path, state: Path) -> None:
    recipe = Recipe(("mkdir -p .venv a/node_modules && date +%N > .venv/made", "echo x > a/node_modules/y"), (), (),
                    (".venv", "a/node_modules", "gone"), "o")  # fmt: skip
    first = asyncio.run(setup.make(recipe, (root := worktree(tmp_path)), state, "k", plain(root)))
    assert set(first.folders) == {".venv", "a/node_modules"} and not (root / ".venv").exists()
    made = (first.folders[".venv"] / "made").read_text()
    again = asyncio.run(setup.make(recipe, (root := worktree(tmp_path, "v")), state, "k", plain(root)))
    assert (again.folders[".venv"] / "made").read_text() == made and not (root / ".venv").exists()
    assert setup.find(state, "other") is None


def test_a_setup_that_fails_leaves_nothing(tmp_path: Path, state: Path) -> None:
    root = worktree(tmp_path)
    recipe = Recipe(
        ("mkdir .venv", "echo no such package >&2; exit 3", "touch never"), (), (), (".venv",), "o"
    )
    with pytest.raises(SetupError, match=r"exit code 3.*\n.*no such package"):
        asyncio.run(setup.make(recipe, root, state, "k", plain(root)))
    assert setup.find(state, "k") is None and not (root / "never").exists()
    assert [p.name for p in (state / "setup").iterdir()] == ["k.lock"]


def test_a_link_is_not_kept(tmp_path: Path, state: Path) -> None:
    root = worktree(tmp_path)
    (tmp_path / "private").mkdir()
    recipe = Recipe(
        (f"ln -s {tmp_path}/private .venv; ln -s {tmp_path} a",), (), (), (".venv", "a/private"), "o"
    )
    assert asyncio.run(setup.make(recipe, root, state, "k", plain(root))).folders == {}
    assert (tmp_path / "private").is_dir()


def test_two_at_once(tmp_path: Path, state: Path) -> None:
    root = worktree(tmp_path)

    async def test() -> None:
        recipe = Recipe(("sleep 0.3; mkdir .venv",), (), (), (".venv",), "o")
        first = asyncio.ensure_future(setup.make(recipe, root, state, "k", plain(root)))
        await asyncio.sleep(0.1)
        with pytest.raises(StoreError, match="another process"):
            await setup.make(recipe, root, state, "k", plain(root))
        assert (await first).folders

    asyncio.run(test())


def test_only_the_newest_are_kept(tmp_path: Path, state: Path) -> None:
    for n in range(5):
        root = worktree(tmp_path, str(n))
        asyncio.run(
            setup.make(Recipe(("mkdir .venv",), (), (), (".venv",), "o"), root, state, f"k{n}", plain(root))
        )
        os.utime(state / "setup" / f"k{n}", (n, n))
    setup.collect(state)
    assert [setup.find(state, f"k{n}") is not None for n in range(5)] == [False, False, True, True, True]


def test_what_a_kill_left_is_removed_later(tmp_path: Path, state: Path) -> None:
    old, new = state / "setup" / "old.part", state / "setup" / "new.part"
    for place in (old, new):
        (place / "stores").mkdir(parents=True)
    os.utime(old, (1, 1))
    setup.collect(state)
    assert not old.exists() and new.exists()


def test_made_anew(tmp_path: Path, state: Path) -> None:
    def make(command: str, name: str) -> setup.Ready:
        recipe = Recipe((command,), (), (), (".venv",), "o")
        root = worktree(tmp_path, name)
        return asyncio.run(setup.make(recipe, root, state, "k", plain(root), again=True))

    assert (make("mkdir .venv && echo 1 > .venv/x", "a").folders[".venv"] / "x").read_text() == "1\n"
    with pytest.raises(SetupError):
        make("exit 1", "b")
    kept = setup.find(state, "k")
    assert kept is not None and (kept.folders[".venv"] / "x").read_text() == "1\n"
    assert (make("mkdir .venv && echo 2 > .venv/x", "c").folders[".venv"] / "x").read_text() == "2\n"
    assert sorted(path.name for path in (state / "setup").iterdir()) == ["k", "k.lock"]


def test_a_line_break_makes_no_line() -> None:
    text = recipes.shown(configured({"run": ["a\n  reach  nothing"], "allow_net": ["h.example"]}, "o"))
    assert [line for line in text.split("\n") if line.startswith("  reach")] == ["  reach  h.example"]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A package index with one package; what it was asked for."""
    asked: list[str] = []
    place = tmp_path / "index" / "simple" / "tidy-demo"
    place.mkdir(parents=True)
    wheel = place / "tidy_demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("tidy_demo.py", "VALUE = 42\n")
        info = "tidy_demo-1.0.dist-info"
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tidy-demo\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(
            f"{info}/RECORD", f"tidy_demo.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    (place / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "index"))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    # Not 127.0.0.1, which programs ask without a proxy; for this machine the same.
    server = http.server.ThreadingHTTPServer(("127.0.0.2", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.2:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_a_package_comes_through_the_proxy_and_works_offline(
    tmp_path: Path, state: Path, index: tuple[str, list[str]]
) -> None:
    sandbox = bubblewrap()
    place, asked = index
    root = worktree(tmp_path)
    python = f"{sys.base_prefix}/bin/python3"  # the one with pip, and no shim of a version manager
    recipe = Recipe(
        (
            f"{python} -m venv --without-pip .venv",
            f"{python} -m pip --python .venv/bin/python install tidy-demo",
        ),
        (place,),
        ("requirements.txt",),
        (".venv",),
        "a test",
        (("PIP_INDEX_URL", f"http://{place}/simple/"),),
    )
    decided: list[Decision] = []

    async def ready(allowed: tuple[str, ...]) -> setup.Ready:
        proxy = Proxy(hosts.allowed(allowed), decided.append)
        await proxy.start(tmp_path / "proxy")
        variables, _ = setup.environment(state, "k", recipe)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_RETRIES": "0",
            **variables,
        }

        async def run(command: str) -> Finished:
            inside = [sys.executable, "-I", "-S", forwarder.__file__, "0", str(tmp_path / "proxy"), "--"]
            bound = [*sandbox[:-1], "--bind", str(tmp_path), str(tmp_path), "--"]
            argv = [*bound, *inside, "sh", "-c", command]
            return await process.run(argv, cwd=root, env=env, timeout=120)

        try:
            return await setup.make(recipe, root, state, "k", run)
        finally:
            await proxy.close()

    # The control: with no host on the list the very same recipe gets nowhere.
    with pytest.raises(SetupError, match="tidy-demo"):
        asyncio.run(ready(()))
    assert asked == [] and decided and not any(d.allowed for d in decided)
    subprocess.run(["rm", "-rf", str(root / ".venv")], check=True)
    made = asyncio.run(ready(recipe.hosts))
    assert any(path.endswith(".whl") for path in asked)
    # Back where it was made, as the overlay of a later run has it, without a network.
    os.symlink(made.folders[".venv"], root / ".venv")
    done = subprocess.run(
        [*sandbox, str(root / ".venv/bin/python"), "-c", "import tidy_demo; print(tidy_demo.VALUE)"],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "42\n", done.stderr


def test_installers_say_where_they_fetch_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked where no repository has a say: a program of that name in the checkout is not run."""
    tools, checkout = tmp_path / "tools", tmp_path / "checkout"
    for folder in (tools, checkout):
        folder.mkdir()
    (tools / "npm").write_text("#!/bin/sh\npwd >&2; echo https://npm.registry.example:8443/x/\n")
    (tools / "go").write_text("#!/bin/sh\necho https://go.example,direct; echo sum.example\n")
    (checkout / "npm").write_text("#!/bin/sh\necho https://evil.example\n")
    for file in (tools / "npm", tools / "go", checkout / "npm"):
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{checkout}:{tools}:/usr/bin:/bin")
    assert registries.hosts("npm", not_in=[checkout]) == ("npm.registry.example:8443",)
    assert registries.hosts("go", not_in=[checkout]) == ("go.example", "sum.example")
    assert registries.hosts("yarn", not_in=[checkout, Path("/usr/bin")]) == ()
    index = tmp_path / "cargo/registry/index/index.example-1a2b"
    index.mkdir(parents=True)
    (index / "config.json").write_text('{"dl": "https://static.example/crates"}')
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "cargo"))
    assert registries.hosts("cargo", not_in=[]) == ("index.example", "static.example")


def test_pip_says_it_by_itself(tmp_path: Path) -> None:
    found = registries.hosts("pip", not_in=[tmp_path])
    assert found and hosts.allowed(found)
