"""What this machine can confine with, asked for real: here, and in places made worse on purpose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from poolcli.sandbox import detect, landlock

TOP = Path(__file__).parents[2]
ASK = """
import json
from poolcli.sandbox import detect
found = detect.machine(thorough=True)
print(json.dumps([found.bubblewrap.program, found.bubblewrap.works, found.bubblewrap.reason, found.bubblewrap.fix,
                  found.landlock, found.container]))
"""

needs_bwrap = pytest.mark.skipif(not detect.bubblewrap().works, reason="bubblewrap does not start here")


def asked(*before: str) -> list:
    """What a process that is started by `before` finds: program, works, reason, fix, landlock, container."""
    done = subprocess.run([*before, sys.executable, "-c", ASK], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_here() -> None:
    program, works, reason, fix, version, _ = asked()
    assert works == (bool(program) and not reason)
    assert bool(reason) == bool(fix)
    assert version == landlock.available()


@needs_bwrap
def test_it_really_starts() -> None:
    found = detect.bubblewrap()
    assert Path(found.program).is_absolute() and found.reason == found.fix == ""
    assert detect.version(found.program)[:1].isdigit()


@needs_bwrap
def test_inside_a_sandbox_that_allows_no_further_namespaces() -> None:
    inside = ("--unshare-user", "--disable-userns", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    program, works, reason, fix, version, _ = asked(detect.bubblewrap().program, *inside, "--")
    assert program and not works
    assert "another sandbox" in reason and "--sandbox=landlock" in fix
    assert version == landlock.available()  # Landlock nests


@needs_bwrap
def test_where_proc_is_masked_as_containers_do() -> None:
    """A new /proc may show no more than the old one, so the kernel refuses to mount it."""
    inside = ("--unshare-user", "--unshare-pid", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    masked = ("--ro-bind", "/dev/null", "/proc/sys/kernel/osrelease")
    program, works, reason, fix, *_ = asked(detect.bubblewrap().program, *inside, *masked, "--")
    assert program and not works
    assert "/proc" in reason and "--sandbox=external" in fix


@needs_bwrap
def test_where_namespaces_are_turned_off() -> None:
    off = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    before = ("unshare", "--user", "--map-root-user", "sh", "-c", off, "sh")
    if subprocess.run([*before, "true"], capture_output=True).returncode != 0:
        pytest.skip("no namespace of one's own for this")
    program, works, reason, fix, *_ = asked(*before)
    assert program and not works
    assert "max_user_namespaces is 0" in reason and "sysctl" in fix


@needs_bwrap
def test_without_the_program() -> None:
    inside = ("--bind", "/", "/", "--dev", "/dev", "--ro-bind", "/dev/null")
    program = detect.bubblewrap().program
    found = asked(program, *inside, os.path.realpath(program), "--setenv", "PATH", "/nowhere", "--")
    assert found[:3] == ["", False, "bubblewrap is not installed"]
    assert "bubblewrap" in found[3]


def test_the_system_s_program_comes_first_and_relative_entries_never_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("system", "other", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bwrap").write_text("#!/bin/sh\n")
        (tmp_path / name / "bwrap").chmod(0o755)
    system, other = str(tmp_path / "system" / "bwrap"), str(tmp_path / "other")
    monkeypatch.chdir(tmp_path / "here")
    assert detect.find_bubblewrap(system, other) == system
    assert detect.find_bubblewrap("/no/bwrap", f".:here::{other}") == f"{other}/bwrap"
    assert detect.find_bubblewrap("/no/bwrap", ".::") == ""
    assert detect.find_bubblewrap("/no/bwrap", "") == ""
    (tmp_path / "system" / "bwrap").chmod(0o644)
    assert detect.find_bubblewrap(system, "") == ""


def test_a_program_that_only_claims_to_be_it(tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\nprintf 'bwrap: \\033[2Jsomething new\\nmore\\n' >&2; exit 1\n")
    fake.chmod(0o755)
    found = detect.try_bubblewrap(str(fake))
    assert not found.works
    assert found.reason.startswith("bubblewrap does not start: ") and "\x1b" not in found.reason
    fake.write_text("no program")
    assert "cannot be started" in detect.try_bubblewrap(str(fake)).reason


def test_an_older_one_is_tried_with_what_it_has(tmp_path: Path) -> None:
    old = tmp_path / "bwrap"
    old.write_text(
        "#!/bin/sh\nfor word; do case $word in --disable-userns) "
        "echo 'bwrap: Unknown option --disable-userns' >&2; exit 1;; esac; done\n"
    )
    old.chmod(0o755)
    assert detect.try_bubblewrap(str(old)).works


NO_NAMESPACE = (
    "bwrap: No permissions to create new namespace, likely because the kernel does not allow non-privileged user "
    "namespaces. See <https://deb.li/bubblewrap> or <file:///usr/share/doc/bubblewrap/README.Debian.gz>."
)


@pytest.mark.parametrize(
    ("message", "settings", "container", "reason", "fix"),
    [
        (NO_NAMESPACE, {detect.MAX_USERNS: "0"}, "", "max_user_namespaces is 0", "sysctl -w user.max"),
        (NO_NAMESPACE, {detect.USERNS_CLONE: "0"}, "", "for root only", "unprivileged_userns_clone=1"),
        (NO_NAMESPACE, {detect.MAX_USERNS: "9"}, "Docker", "in this container (Docker)", "seccomp"),
        (NO_NAMESPACE, {}, "", "cannot be made", "virtual machine"),
        ("bwrap: setting up uid map: Permission denied", {detect.APPARMOR: "1"}, "", "AppArmor", "apparmor_parser"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", {detect.APPARMOR: "1"}, "", "AppArmor", "apt"),
        ("bwrap: setting up uid map: Permission denied", {detect.APPARMOR: "0"}, "", "uid map", "virtual"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", {}, "Docker", "masked", "systempaths"),
        ("bwrap: Unknown option --perms", {}, "", "older than 0.6", "newer"),
        ("", {}, "", "it said nothing", "shows the error"),
    ],
)  # fmt: skip
def test_reasons_and_fixes(message: str, settings: dict, container: str, reason: str, fix: str) -> None:
    why, what = detect.explain(message, settings, container)
    assert reason in why and fix in what
    assert "\n" not in why + what


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('ID=debian\nVERSION="12"', "sudo apt install bubblewrap"),
        ("ID=linuxmint\nID_LIKE=ubuntu", "sudo apt install bubblewrap"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"', "sudo zypper install bubblewrap"),
        ('ID=rocky\nID_LIKE="rhel centos fedora"', "sudo dnf install bubblewrap"),
        ("ID=arch", "sudo pacman -S bubblewrap"),
        ("ID=nixos", "nix-env -iA nixos.bubblewrap"),
        ("", "install the package bubblewrap"),
        ("no lines with a sign", "install the package bubblewrap"),
    ],
)
def test_the_command_that_installs_it(text: str, command: str) -> None:
    assert detect.install(text) == command
