"""What a repository can bring about by its files alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from msgspec.structs import asdict

from poolcli import config, trust
from poolcli.errors import ConfigError
from tests.repositories import put
from tests.security.case import CANARY, Field, Group

GROUP = Group("Settings and trust", boxed=False)
case = GROUP.case
ROOT = Path(__file__).parents[2]
EVIL = "http://127.0.0.1:1/v1"


def project(field: Field, text: str) -> Path:
    top = field.tmp / "project"
    put(top, {".pool/config.toml": text})
    return top


@case(
    "CFG-01",
    "The address of the model's server in a repository's file",
    "the same line in the user's own file",
    tests=("tests/e2e/test_approvals.py::test_a_repository_that_names_the_models_server_is_never_asked",),
)
def server_address(field: Field, protected: bool) -> bool:
    line = f'base_url = "{EVIL}"\n'
    top = project(field, line)
    put(top, {"pyproject.toml": f"[tool.pool]\n{line}", "pool.toml": line, ".env": f"POOL_BASE_URL={EVIL}\n"})
    if protected:
        trust.trust(top, trust.read(top))  # even so
    else:
        put(field.home, {".config/pool/config.toml": line})
    return config.load(top, environ={}).base_url == EVIL


@case(
    "CFG-03",
    "Commands of a repository's file that pool runs",
    "the folder is trusted",
    tests=("tests/e2e/test_approvals.py::test_a_strangers_checks_do_not_run_before_they_are_trusted",),
)
def commands(field: Field, protected: bool) -> bool:
    top = project(field, 'test = "touch PWN"\n')
    put(top, {".mcp.json": '{"mcpServers": {"x": {"command": "touch"}}}', ".pool/hooks/start": "touch PWN"})
    if not protected:
        trust.trust(top, trust.read(top))
    return "touch PWN" in str(asdict(config.load(top, environ={})))


@case(
    "CFG-04",
    "A trusted file that changes later",
    "the change is confirmed",
    tests=(
        "tests/test_trust.py::test_a_change_is_untrusted_until_it_is_confirmed",
        "tests/test_trust.py::test_what_was_compared_is_what_is_used",
    ),
)
def changed(field: Field, protected: bool) -> bool:
    top = project(field, 'test = "make check"\n')
    trust.trust(top, trust.read(top))
    project(field, 'test = "touch PWN"\n')
    if not protected:
        trust.trust(top, trust.read(top))
    return "touch PWN" in str(asdict(config.load(top, environ={})))


@case("CFG-05", "Variables in a repository's .env", "they are put into the environment")
def dotenv(field: Field, protected: bool) -> bool:
    top = field.tmp / "project"
    lines = {"POOL_BASE_URL": EVIL, "POOL_STATE": "/nowhere", "HTTPS_PROXY": EVIL, "PYTHONPATH": "."}
    put(top, {".env": "".join(f"{name}={value}\n" for name, value in lines.items())})
    program = "import os\nfrom poolcli import config\nfrom pathlib import Path\n"
    program += "print(config.load(Path.cwd(), environ=os.environ).base_url)"
    env = {**os.environ, "PYTHONPATH": str(ROOT), **({} if protected else {"POOL_BASE_URL": EVIL})}
    done = subprocess.run([sys.executable, "-c", program], cwd=top, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return EVIL in done.stdout


@case(
    "CFG-08",
    "Files that break their reader: nesting without end, names twice, 100 MB",
    "the parser alone",
    tests=(
        "tests/test_trust.py::test_unsafe_texts_in_a_trusted_file",
        "tests/test_trust.py::test_tricks_with_files",
    ),
)
def unsafe_texts(field: Field, protected: bool) -> bool:
    text = "x = " + "[" * 100_000
    if not protected:
        try:
            tomllib.loads(text)
        except RecursionError:
            return True
        except tomllib.TOMLDecodeError:
            return False
    for number, bad in enumerate(
        (text, "a." * 5000 + "b = 1", "max_turns = 1\nmax_turns = 2\n", "x = 1\n" * 400_000)
    ):
        top = field.tmp / str(number)
        put(top, {".pool/config.toml": bad})
        if trust.look(top, accept=True).state == "unusable":
            continue
        try:
            config.load(top, flags={"trust_project": True}, environ={})
        except ConfigError:
            continue
        return True
    return False


@case(
    "CFG-09",
    "A settings file that is a link to a key, to a device, or a pipe",
    "a plain open",
    tests=("tests/test_trust.py::test_tricks_with_files",),
)
def tricks(field: Field, protected: bool) -> bool:
    said = ""
    for number, target in enumerate((str(field.home / ".ssh/id_ed25519"), "/dev/zero", "pipe")):
        top = field.tmp / f"top{number}"
        (top / ".pool").mkdir(parents=True)
        file = top / ".pool/config.toml"
        os.mkfifo(file) if target == "pipe" else file.symlink_to(target)
        if not protected:
            return CANARY in file.read_text()
        found = trust.look(top, accept=True)
        assert found.state == "unusable"
        said += found.why + str(config.load(top, flags={"trust_project": True}, environ={}).notices)
    return CANARY in said


GROUP.shown(
    "CFG-10",
    "A settings file in a folder above the repository",
    "tests/e2e/test_approvals.py::test_a_folder_above_the_repository_is_not_its_own",
)


@case(
    "CFG-11",
    "Modules of Python with pool's names in the folder where it is started",
    "python -m in that folder",
)
def import_hijack(field: Field, protected: bool) -> bool:
    top = field.tmp / "project"
    evil = f"open({str(field.mark)!r}, 'w').close()\n"
    names = (
        "json",
        "ssl",
        "tomllib",
        "typer",
        "msgspec",
        "httpx",
        "sitecustomize",
        "usercustomize",
        "poolcli/__init__",
    )
    put(top, {f"{name}.py": evil for name in names})
    command = Path(sys.executable).parent / "pool"
    argv = (
        [str(command), "config", "show"]
        if protected and command.exists()
        else [sys.executable, "-m", "json.tool", "--help"]
    )
    subprocess.run(argv, cwd=top, env={**os.environ, "POOL_STATE": str(field.state)}, capture_output=True)
    return field.mark.exists()


GROUP.shown(
    "CFG-13",
    "An instruction file that says the rules are others",
    "tests/e2e/test_approvals.py::test_an_instruction_file_changes_no_policy",
    off="the mode auto, where the same command runs",
)
GROUP.shown(
    "CFG-14",
    "An instruction file of 50 MB, in odd encodings, or a link to elsewhere",
    "tests/e2e/test_approvals.py::test_odd_instruction_files",
)


@case(
    "CFG-15", "A HOME that is none: missing, relative, the root of the machine", "the path as it is written"
)
def odd_homes(field: Field, protected: bool) -> bool:
    top = field.tmp / "here"
    top.mkdir()
    for home in ("relative/home", "", "../up"):
        if not protected:
            (top / (home or ".") / ".config").mkdir(parents=True, exist_ok=True)
            continue
        env = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "poolcli", "log"], cwd=top, env=env, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr, done.stderr
    return bool(list(top.iterdir()))
