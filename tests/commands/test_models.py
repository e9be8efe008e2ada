"""`pool models` and `pool models use`: the real command, real servers; what it writes, and what it never does."""

from __future__ import annotations

import json
import os
import pty
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from poolcli.commands import profile_text, user_file
from poolcli.models.profile import Profile
from tests.models.known_servers import MODEL, Traits, serving

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "models" / "pool-demo.gguf"


class Pool:
    """The command, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / ".config" / "pool" / "config.toml"
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("POOL_", "XDG_"))}
        self.env = {**keep, "HOME": str(home), "PYTHONPATH": str(ROOT)}

    def __call__(self, *args: str, **more: Any) -> subprocess.CompletedProcess[str]:
        env = {**self.env, **more.pop("env", {})}
        more = {"stdin": subprocess.DEVNULL} | more if "input" not in more else more
        argv = [sys.executable, "-m", "poolcli", "models", *args]
        return subprocess.run(
            argv, cwd=self.home, env=env, capture_output=True, text=True, timeout=60, **more
        )

    @property
    def config(self) -> dict[str, Any]:
        return tomllib.loads(self.file.read_text())

    @property
    def profiles(self) -> list[Path]:
        return sorted((self.home / ".local/state/pool/models/profiles").glob("*"))


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    (tmp_path / "home").mkdir()
    return Pool(tmp_path / "home")


# Using a server


def test_one_server_with_one_model(pool: Pool) -> None:
    with serving(window=4096) as server:
        done = pool("use", server.url.removesuffix("/v1"))
    assert done.returncode == 0, done.stderr
    assert "llama.cpp b6789" in done.stdout and "family qwen3-coder" in done.stdout
    assert "4,096 tokens of the 262,144" in done.stdout
    assert "context: small for real work: start the server with -c 32768" in done.stdout
    assert "reads 1,200 tokens/s, writes 40 tokens/s" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr and "measuring: slots" in done.stderr
    assert pool.config == {"base_url": server.url.removesuffix("/v1"), "model": MODEL}
    assert len(pool.profiles) == 1 and stat.S_IMODE(pool.file.stat().st_mode) == 0o600


def test_the_profile_for_programs(pool: Pool) -> None:
    with serving() as server:
        done = pool("use", server.url, "--json")
    assert json.loads(done.stdout)["rung"] == "native"


def test_comments_order_and_what_else_is_there_stay(pool: Pool) -> None:
    pool.file.parent.mkdir(parents=True)
    before = '# mine\nmax_turns = 80  # many\nmodel = "old"\n\n[request]\n# deep\nx = 1\n'
    pool.file.write_text(before)
    with serving() as server:
        assert pool("use", server.url).returncode == 0
    text = pool.file.read_text()
    assert text.startswith("# mine\nmax_turns = 80  # many\n") and "# deep\nx = 1" in text
    assert pool.config["base_url"] == server.url and pool.config["request"] == {"x": 1}
    with serving() as server:
        assert pool("use", server.url).returncode == 0
    assert len(pool.file.read_text().splitlines()) == len(text.splitlines())


def test_several_models(pool: Pool) -> None:
    with serving(models=["a", "b", MODEL]) as server:
        done = pool("use", server.url)
        assert done.returncode == 2 and "has 3 models: a, b, " + MODEL in done.stderr
        assert server.chats == [] and not pool.file.exists()
        assert pool("use", server.url, "b").returncode == 0
    assert pool.config["model"] == "b"


def test_at_a_terminal_it_asks(pool: Pool) -> None:
    with serving(models=["a", "b"]) as server:
        parent, child = pty.openpty()
        argv = [sys.executable, "-m", "poolcli", "models", "use", server.url]
        running = subprocess.Popen(
            argv, cwd=pool.home, env=pool.env, stdin=child, stdout=subprocess.PIPE, stderr=child, text=True
        )
        os.close(child)
        said = b""
        while b"Which one?" not in said:
            said += os.read(parent, 1000)
        os.write(parent, b"2\n")
        out, _ = running.communicate(timeout=60)
        os.close(parent)
    assert running.returncode == 0 and "llama.cpp" in out and pool.config["model"] == "b"


def test_nobody_there_changes_nothing(pool: Pool) -> None:
    with serving() as server:
        pass
    done = pool("use", server.url)
    assert done.returncode == 6 and "is the server running" in done.stderr
    assert not pool.file.exists() and pool.profiles == []


def test_a_broken_file_is_not_overwritten(pool: Pool) -> None:
    pool.file.parent.mkdir(parents=True)
    pool.file.write_text("model = \n")
    with serving() as server:
        done = pool("use", server.url)
    assert done.returncode == 2 and "not valid TOML" in done.stderr
    assert pool.file.read_text() == "model = \n"


# Keys


def test_a_key_from_stdin_is_stored_for_its_server_alone(pool: Pool) -> None:
    with serving(key="s3cret") as server:
        refused = pool("use", server.url)
        assert refused.returncode == 6 and "401" in refused.stderr and not pool.file.exists()
        done = pool("use", server.url, "--key-stdin", input="s3cret\n")
        assert done.returncode == 0 and "s3cret" not in done.stdout + done.stderr
        assert pool.config["api_key"] == "s3cret" and stat.S_IMODE(pool.file.stat().st_mode) == 0o600
        assert "s3cret" not in pool.profiles[0].read_text()
        assert pool("use", server.url).returncode == 0 and pool.config["api_key"] == "s3cret"
    with serving() as other:
        done = pool("use", other.url)
        assert done.returncode == 0 and "belonged to another server" in done.stderr
        assert not any("Authorization" in headers for *_, headers in other.asked)
    assert "api_key" not in pool.config


def test_the_key_of_the_environment_is_used_and_not_stored(pool: Pool) -> None:
    with serving(key="s3cret") as server:
        assert pool("use", server.url, env={"POOL_API_KEY": "s3cret"}).returncode == 0
    assert "api_key" not in pool.config
    assert pool("use", server.url, "--key-stdin", input="").returncode == 2


def test_a_broken_file_is_seen_before_anything_is_measured(pool: Pool) -> None:
    pool.file.parent.mkdir(parents=True)
    pool.file.write_text("model = \n")
    with serving() as server:
        done = pool("use", server.url, "--key-stdin", input="k\n")
        assert done.returncode == 2 and "not valid TOML" in done.stderr and server.asked == []
    assert not pool.profiles


def test_names_and_numbers_that_are_none(pool: Pool) -> None:
    """Half a surrogate pair cannot be written into any file; nobody has 10^30 tokens of context."""
    with serving(kind="vllm", models=["\ud800x", "b"], window=10**30) as server:
        done = pool("use", server.url)
    assert done.returncode == 0, done.stderr
    assert pool.config["model"] == "b" and "does not say how large its context is" in done.stdout


def test_a_home_folder_that_nobody_has(pool: Pool) -> None:
    for name in ("~no-such-user-here/x.gguf", "local:~no-such-user-here/x.gguf"):
        done = pool("use", name)
        assert done.returncode == 2 and "is no home folder" in done.stderr, done.stderr
    done = pool(env={"POOL_STATE": "~no-such-user-here"})
    assert done.returncode == 2 and "POOL_STATE: ~no-such-user-here is no home folder" in done.stderr


# Using what pool serves itself


def test_a_model_that_the_server_does_not_list_is_refused(pool: Pool) -> None:
    with serving(Traits("vllm", "0.12.1", models=["m1", "m2"])) as server:
        done = pool("use", server.url, "m3")
    assert done.returncode == 2 and "does not list `m3`" in done.stderr and "m1, m2" in done.stderr
    assert not pool.file.exists()


def test_a_listed_model_that_is_not_here_yet_is_to_be_fetched(pool: Pool) -> None:
    done = pool("use", "qwen3-coder-30b")
    assert done.returncode == 2 and "pool models get qwen3-coder-30b" in done.stderr


def test_demo_and_files(pool: Pool) -> None:
    pool.file.parent.mkdir(parents=True)
    pool.file.write_text('base_url = "http://127.0.0.1:9/v1"\n')
    assert pool("use", "demo").returncode == 0
    assert pool.config == {"model": "demo"}  # a server beside it would mean another model
    assert pool("use", str(DEMO)).returncode == 0 and pool.config["model"] == f"local:{DEMO}"
    (pool.home / "x.gguf").write_text("no model")
    assert pool("use", "x.gguf").returncode == 2
    done = pool("use", "nothing")
    assert done.returncode == 2 and "pool models get" in done.stderr
    assert pool("use", "demo", "m").returncode == 2
    done = pool("use", "demo", env={"POOL_MODEL": "other"})
    assert "POOL_MODEL is set, and counts for more" in done.stderr


# What is within reach


def test_the_list(pool: Pool) -> None:
    with serving(Traits("vllm", "0.12.1", models=[f"m{n}" for n in range(12)])) as server:
        pool.file.parent.mkdir(parents=True)
        pool.file.write_text(f'base_url = "{server.url}"\nmodel = "m1"\n')
        done = pool()
    assert done.returncode == 0
    first, second, *_ = done.stdout.splitlines()
    assert first == f"* {server.url}  vLLM 0.12.1, 32,768 tokens of context"
    assert second.strip().startswith("m0, m1, ") and "(4 more)" in second
    assert "\n  demo  the demonstration model" in done.stdout and "pool models use" in done.stdout


def test_the_list_of_a_fresh_machine(pool: Pool) -> None:
    done = pool()
    assert done.returncode == 0 and "* demo  the demonstration model" in done.stdout


def test_a_configured_server_that_is_down_is_listed_with_why(pool: Pool) -> None:
    with serving() as server:
        pass
    done = pool(env={"POOL_BASE_URL": server.url})
    assert done.returncode == 0 and f"* {server.url}  (cannot connect" in done.stdout
    assert "connection refused" in done.stdout and "Errno" not in done.stdout


def test_usual_ports_are_found_and_never_get_the_key(pool: Pool) -> None:
    tables = pool.home / ".config" / "pool" / "models"
    tables.mkdir(parents=True)
    with serving() as server, serving(key="k") as closed:
        ports = [int(one.url.split(":")[2].split("/")[0]) for one in (server, closed)]
        (tables / "servers.toml").write_text(f'[[server]]\nname = "here"\nports = {ports}\n')
        done = pool(env={"POOL_API_KEY": "s3cret"})
        assert f"  {server.url}  llama.cpp b6789" in done.stdout
        assert f"  {closed.url}  (it wants a key)" in done.stdout
        assert not any("Authorization" in headers for *_, headers in server.asked + closed.asked)


def test_hostile_names_reach_no_terminal(pool: Pool) -> None:
    with serving(models=["a\x1b[2Jb", "c\nd"]) as server:
        done = pool(env={"POOL_BASE_URL": server.url})
        assert "\x1b" not in done.stdout and "c\nd" not in done.stdout
        done = pool("use", server.url, "a\x1b[2Jb")
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr
    assert pool.config["model"] == "a\x1b[2Jb"


def test_the_list_for_programs(pool: Pool) -> None:
    with serving(models=["a", "b"]) as server:
        done = pool("--json", env={"POOL_BASE_URL": server.url})
        found = {one["place"]: one for one in json.loads(done.stdout)}
        assert found[server.url]["models"] == ["a", "b"] and found[server.url]["used"]
        assert found["demo"]["used"] is False and found["demo"]["lines"] == []
    done = pool("--json", "list")
    assert done.returncode == 2 and "pool models list … --json" in done.stderr


def test_what_runs_have_learnt_of_a_file_is_shown_until_it_is_another(pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    shutil.copy(DEMO, file)
    learn = """
import sys
from pathlib import Path
from msgspec.structs import replace
from poolcli.models import opening, profiles
from poolcli.models.discovery import server_named
known = opening._local_profile(sys.argv[1], server_named("llama.cpp"))
profiles.save(replace(known, rung="text", decode=35.0))
"""
    subprocess.run([sys.executable, "-c", learn, str(file)], env=pool.env, cwd=ROOT, check=True)
    env = {"POOL_MODEL": f"local:{file}"}
    said = pool(env=env).stdout
    assert f"* {file}  served by pool" in said and "written as text" in said and "writes 35 tokens/s" in said
    assert "1970" not in said
    os.utime(file, (1, 1))
    said = pool(env=env).stdout
    assert f"* {file}  served by pool" in said and "tokens/s" not in said


def test_a_reader_that_has_gone_is_no_internal_error(pool: Pool) -> None:
    line = f"set -o pipefail; {sys.executable} -m poolcli models list | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=pool.home, env=pool.env, capture_output=True, text=True)
    assert done.returncode in (0, 141) and done.stderr == ""


# Words


def test_advice_for_what_is_not_well() -> None:
    bad = Profile(
        "u", "m", server="llama.cpp", window=4096, slots=4, rung="text", system_role=False, probed=1.0
    )
    found = {line.name: line for line in profile_text.lines(bad)}
    assert "--jinja" in found["tool calls"].advice and "-c 32768" in found["context"].advice
    assert "--no-cache-prompt" in found["cache"].advice and "no system message" in found["held to"].text
    shared = Profile("u", "m", server="llama.cpp", window=40960, slots=4, cache_report=True, probed=1.0)
    (cache,) = [line for line in profile_text.lines(shared) if line.name == "cache"]
    assert "--no-kv-unified" in cache.advice
    nobody = {line.name: line for line in profile_text.lines(Profile("u", "m"))}
    assert set(nobody) == {"server", "model", "context"} and nobody["context"].advice


def test_names_that_mean_something_else_are_written_literally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name, written in (
        ("demo", "remote:demo"),
        ("x.gguf", "remote:x.gguf"),
        ("local:x", "remote:local:x"),
    ):
        user_file.use_server("http://127.0.0.1:1/v1", name)
        assert tomllib.loads(user_file.file().read_text())["model"] == written
    assert not list(user_file.file().parent.glob(".config-*"))


def test_what_could_not_be_measured_is_not_said_to_be_missing() -> None:
    lost = Profile("u", "m", server="vllm", window=40960, unknown=("schema", "grammar", "rung"), probed=1.0)
    found = {line.name: line.text for line in profile_text.lines(lost)}
    assert found["held to"] == "could not be measured" and "none came" in found["tool calls"]
