"""What a model puts into the arguments of a tool."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import time

from tests.repositories import commit, put
from tests.security.case import Field, Group

GROUP = Group("Arguments of tools")
case = GROUP.case


@case(
    "ARG-01",
    "Arguments that are options of a program",
    "a command line made of the arguments",
    tests=("tests/tools/test_attacks.py::test_a_pattern_is_no_option",),
)
def options(field: Field, protected: bool) -> bool:
    space = field.space(protected)
    put(space.root, {"x.sh": f"#!/bin/sh\n: > {field.mark}\n"})
    (space.root / "x.sh").chmod(0o755)
    for pattern in ("-O./x.sh", "--open-files-in-pager=./x.sh", "--pre=./x.sh"):
        if protected:
            for args in (
                {"pattern": pattern},
                {"pattern": "two", "path": pattern},
                {"pattern": "two", "glob": pattern},
            ):
                field.gate("search", **args)
            field.gate("read", path=pattern)
            field.gate("run_tests", paths=pattern)
        else:
            subprocess.run(["git", "grep", "-e", "two", pattern], cwd=space.root, capture_output=True)
    return field.mark.exists()


@case(
    "ARG-02",
    "Fields that no tool has: a folder, an environment, no sandbox, a timeout of years",
    "they are passed on",
    tests=("tests/tools/test_contract.py::test_wrong_arguments_say_what_is_right",),
)
def fields(field: Field, protected: bool) -> bool:
    payload = field.file("payload", f": > {field.mark}\n")
    extra = {"cwd": "/", "env": {"BASH_ENV": str(payload)}, "sandbox": False}
    if not protected:
        subprocess.run(["bash", "-c", "true"], cwd=extra["cwd"], env={**os.environ, **extra["env"]})  # type: ignore
        return field.mark.exists()
    for name, value in extra.items():
        ok, text = field.gate("shell", command="true", **{name: value})
        assert not ok and name in text
    for timeout in (1e12, -1, float("nan"), "x", None):
        start = time.monotonic()
        field.gate("shell", command="true", timeout=timeout)
        assert time.monotonic() - start < 30
    return field.mark.exists()


def _explodes() -> None:
    re.search("(a+)+$", "a" * 40 + "!")


@case(
    "ARG-03",
    "A pattern that takes for ever",
    "the pattern in Python's own engine",
    tests=("tests/tools/test_attacks.py::test_an_expression_that_explodes_ends",),
)
def explosion(field: Field, protected: bool) -> bool:
    if not protected:
        child = multiprocessing.get_context("fork").Process(target=_explodes)
        child.start()
        child.join(1)
        hung = child.is_alive()
        child.kill()
        child.join()
        return hung
    put(field.space(True).root, {"line.txt": "a" * 100_000 + "!\n"})
    start = time.monotonic()
    field.gate("search", pattern="(a+)+$")
    return time.monotonic() - start > 90


@case(
    "ARG-04",
    "Circles of links and patterns of names that match everything",
    "links are followed",
    tests=("tests/tools/test_attacks.py::test_circles_of_links_and_wide_globs_end",),
)
def circles(field: Field, protected: bool) -> bool:
    space = field.space(protected)
    put(space.root, {"x/a.py": "needle\n"})
    (space.root / "x/loop").symlink_to("..")
    (space.root / "x/etc").symlink_to("/etc")
    if not protected:
        for seen, (place, _, _) in enumerate(os.walk(space.root, followlinks=True)):
            if "/x/etc" in place or seen > 500:
                return True
        return False
    said = "".join(
        field.gate("search", pattern="needle|root:", glob=glob)[1] for glob in ("", "**/**/**/**", "*")
    )
    said += field.gate("list", depth=50)[1] + field.gate("search", pattern="root:", path="/")[1]
    return "x/etc/" in said or said.count("needle") > 3


@case(
    "ARG-05",
    "Edits that are not certain: nothing to find, twice to find, in a file that is no text",
    "every match is replaced",
    tests=(
        "tests/tools/test_attacks.py::test_edits_that_change_nothing",
        "tests/tools/test_attacks.py::test_an_edit_keeps_mode_line_ends_and_encoding",
    ),
)
def uncertain(field: Field, protected: bool) -> bool:
    root = field.space(protected).root
    changed = False
    for content, old in (("twice twice\n", "twice"), ("a\n", ""), ("a\0b", "a")):
        put(root, {"f": content})
        field.tool("edit", protected, path="f", old=old, new="x")
        changed |= (root / "f").read_text() != content
    return changed


@case(
    "ARG-07",
    "The folders of git and of pool, written by a tool",
    "a plain open",
    tests=("tests/tools/test_attacks.py::test_protected_names",),
)
def protected_names(field: Field, protected: bool) -> bool:
    put(field.main, {".pool/config.toml": "max_turns = 5\n"})
    commit(field.main)
    root = field.space(protected).root
    put(root, {"sub/.git/config": "theirs\n"})
    pointer = (root / ".git").read_text()
    for path in (".git", ".git/config", "sub/.git/config", ".pool/config.toml"):
        field.tool("write", protected, path=path, content="evil\n")
    now = [(root / name).read_text() for name in (".git", "sub/.git/config", ".pool/config.toml")]
    return now != [pointer, "theirs\n", "max_turns = 5\n"]


@case(
    "ARG-08",
    "Names that a shell reads as something else",
    "a command line made of the name",
    tests=("tests/tools/test_attacks.py::test_odd_names_make_the_round_trip",),
)
def odd_names(field: Field, protected: bool) -> bool:
    space = field.space(protected)
    for name in ("-n", f"$(: > {field.mark.name})", "a b", "con", "`x`", f"; : > {field.mark.name}"):
        if protected:
            field.gate("write", path=name, content="odd\n")
            assert "odd" in field.gate("read", path=name)[1]
            assert (space.root / name).read_text() == "odd\n"
        else:
            subprocess.run(f"echo odd > {name}", shell=True, cwd=space.root, capture_output=True)  # noqa: S602
    return (space.root / field.mark.name).exists()


@case(
    "ARG-10",
    "Results of a size that fills every window",
    "all of it is given back",
    tests=("tests/tools/test_attacks.py::test_a_million_matches_are_few",),
)
def large_results(field: Field, protected: bool) -> bool:
    put(field.space(protected).root, {"many": "needle\n" * 300_000})
    said = [field.tool("read", protected, path="many"), field.tool("search", protected, pattern="needle")]
    return any(len(text) > 50_000 for text in said)


GROUP.shown(
    "ARG-12",
    "Success that is only claimed: tests changed, skipped, or made to pass",
    "tests/verdict/test_tampering.py::test_cheats",
    "tests/e2e/test_do.py::test_a_model_that_only_claims_success_is_not_believed",
)
