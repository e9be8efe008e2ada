"""Secrets: of other processes, in files, on the way to the model."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

from tests.repositories import commit, put
from tests.security.case import CANARY, Field, Group

GROUP = Group("Secrets")
case, shell = GROUP.case, GROUP.shell


@case("SEC-02", "The environment of the user's processes", "no sandbox", needs=("bubblewrap",))
def environments(field: Field, protected: bool) -> bool:
    field.process("sleep", "600", env={"PATH": os.environ["PATH"], "SERVICE_KEY": CANARY})
    return f"SERVICE_KEY={CANARY}" in field.shell(
        'cat /proc/[0-9]*/environ | tr "\\0" "\\n" | grep -a "^SERVICE_KEY"', protected
    )


@case("SEC-03", "The command lines of the user's processes", "no sandbox", needs=("bubblewrap",))
def command_lines(field: Field, protected: bool) -> bool:
    field.process("sh", "-c", "sleep 600; true", f"--key={field.run_id}-on-the-line")
    said = field.shell(
        '(cat /proc/[0-9]*/cmdline | tr "\\0" "\\n"; ps -ef) | grep -a "on-the-[l]ine"', protected
    )
    return f"{field.run_id}-on-the-line" in said


@case(
    "SEC-04",
    "Files that pool holds open, by their descriptors",
    "the descriptors are passed on",
    needs=("bubblewrap",),
)
def descriptors(field: Field, protected: bool) -> bool:
    secret = os.open(field.file("held", CANARY), os.O_RDONLY)
    os.set_inheritable(secret, True)  # the worst case: ours are not
    command = f"for fd in {secret} $(seq 3 60); do cat <&$fd; done"
    try:
        if protected:
            return CANARY in field.shell(command, True)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, close_fds=False)
        return CANARY in done.stdout
    finally:
        os.close(secret)


@case(
    "SEC-06",
    "State that others on the machine can read",
    "files made as the umask says",
    tests=(
        "tests/e2e/test_secrets.py::test_state_is_private_whatever_the_umask",
        "tests/e2e/test_secrets.py::test_state_of_somebody_else_is_refused",
    ),
)
def modes(field: Field, protected: bool) -> bool:
    before = os.umask(0)
    try:
        if protected:
            from poolcli.paths import private_dir, write_private

            field.state.mkdir()
            field.state.chmod(0o777)
            space = field.space(True)
            write_private(private_dir(field.state / "x") / "key", CANARY.encode())
            assert (space.root / "a.py").exists()
        else:
            put(field.state, {"x/key": CANARY})
        return any(_reached(path, field.state) for path in field.state.rglob("*") if path.is_file())
    finally:
        os.umask(before)


def _reached(path: Path, top: Path) -> bool:
    """Whether others may read a file: they need a way through every folder."""
    way = [folder for folder in path.parents if folder.is_relative_to(top)]
    return bool(path.stat().st_mode & 0o044) and all(folder.stat().st_mode & 0o011 for folder in way)


@case(
    "SEC-09",
    "Files of secrets are sent without being asked for",
    "the model reads one, and that is allowed",
    needs=("bubblewrap",),
    tests=("tests/e2e/test_secrets.py::test_secrets_are_not_read_unasked",),
    slow=True,
)
def unasked(field: Field, protected: bool) -> bool:
    from tests.e2e.conftest import CALC, FIX, TEST_CALC, Pool, call, make_repo, reply

    files = {"calc.py": CALC, "test_calc.py": TEST_CALC, ".env": f"X={CANARY}\n", "id_rsa": CANARY}
    pool = Pool(make_repo(field.tmp / "repo", files), field.home)
    look = () if protected else (call("read", path=".env"),)
    replies = (reply("", *look, call("edit", **FIX)), reply("Done."))
    done = pool.do("Fix add", "--allow", "read:.env", replies=replies)
    assert done.returncode == 0, done.stderr
    return CANARY in (pool.runs()[-1] / "events.jsonl").read_text()


@case(
    "SEC-10",
    "A file of secrets that is in the repository, read by a tool",
    "a rule that allows it",
    tests=("tests/test_policy.py::test_files_of_secrets_are_asked_about",),
)
def secret_file(field: Field, protected: bool) -> bool:
    put(field.main, {"config/secrets.yml": f"token: {CANARY}\n"})
    (field.main / "notes.txt").symlink_to("config/secrets.yml")
    commit(field.main)
    if not protected:
        return CANARY in field.tool("read", False, path="config/secrets.yml")
    said = [field.gate("read", path=path) for path in ("config/secrets.yml", "notes.txt")]
    assert not any(ok for ok, _ in said) and all("holds secrets" in text for _, text in said)
    searched = field.gate("search", pattern="token")
    assert searched[0] and "1 file not searched" in searched[1]
    return any(CANARY in text for _, text in [*said, searched])


@case(
    "SEC-11",
    "The user's keys copied into the change, plain and disguised",
    "no sandbox",
    needs=("bubblewrap",),
)
def into_the_change(field: Field, protected: bool) -> bool:
    field.shell(
        'cat "$HOME_OF_USER/.aws/credentials" > notes.md; base64 -w0 "$HOME_OF_USER/.ssh/id_ed25519" > b.txt;'
        ' od -An -tx1 "$HOME_OF_USER/.aws/credentials" | tr -d " \\n" > h.txt;'
        ' cat ~/.aws/credentials | tr a-z n-za-m > r.txt; git add -A; git commit -qm "$(cat notes.md)"',
        protected,
    )
    patch = field.space(protected).patch()
    plain = CANARY.encode()
    return any(form in patch for form in (plain, base64.b64encode(plain), plain.hex().encode()))


GROUP.shown(
    "SEC-12",
    "A change that holds a secret which could be read",
    "tests/e2e/test_secrets.py::test_a_patch_is_never_altered_but_pointed_at",
)
shell(
    "SEC-13",
    "A memory image left by a crash",
    '[ "$(ulimit -Hc)" = 0 ] || echo REACHED',
    tests=("tests/sandbox/test_limits.py::test_no_core_file_is_left",),
)
GROUP.shown(
    "SEC-14",
    "The key sent to another machine unencrypted",
    "tests/e2e/test_secrets.py::test_the_key_crosses_no_network_in_clear",
)
GROUP.shown(
    "SEC-15",
    "A stored key sent to another server than its own",
    "tests/e2e/test_secrets.py::test_a_stored_key_goes_to_its_own_server_only",
)
