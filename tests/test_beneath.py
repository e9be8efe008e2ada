"""Files beneath a folder: the same with openat2 and without, and never one of outside, whatever the path says."""

import contextlib
import ctypes
import os
import stat
import threading
import time

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from poolcli import beneath
from poolcli.beneath import Folder, NotRegular, PathRefused, TooLarge, is_git

SECRET = b"a secret of outside\n"


@pytest.fixture(params=["openat2", "walk"])
def walk(request):
    if request.param == "openat2" and not beneath._openat2:
        pytest.skip("this kernel has no openat2")
    return request.param == "walk"


@pytest.fixture
def top(tmp_path):
    """A tree with links of every kind, and a file beside it that nothing may reach."""
    return made(tmp_path.resolve())


def made(tmp_path):
    top, outside = tmp_path / "top", tmp_path / "outside"
    (top / "sub/deep").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    (tmp_path / "topmost").write_bytes(SECRET)  # begins like the folder's own path
    (top / "a.txt").write_bytes(b"a\n")
    (top / "sub/b.txt").write_bytes(b"b\n")
    (top / ".git").mkdir()
    (top / ".git/config").write_bytes(b"[core]\n")
    for link, target in {
        "inner": "sub",
        "file": "sub/b.txt",
        "sub/up": "../a.txt",
        "sub/deep/over": "../../inner/../a.txt",
        "absolute": str(top / "sub/b.txt"),
        "out": "../outside",
        "outfile": "../outside/secret",
        "sub/outfile": "../../outside/secret",
        "outabsolute": str(outside / "secret"),
        "prefix": str(tmp_path / "topmost"),
        "chain": "outfile",
        "far": "sub/deep/../../../outside/secret",
        "root": "/",
        "loop": "loop",
        "ping": "pong",
        "pong": "ping",
        "dangling": "sub/new.txt",
        "g": ".git",
        "zero": "/dev/zero",
        "proc": "/proc/self/root",
        "here": ".",
        "above": "..",
    }.items():
        (top / link).symlink_to(target)
    os.mkfifo(top / "pipe")
    return top


def read(top, path, walk, most=1000):
    with Folder(top, walk=walk) as folder:
        return folder.read(path, most)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.txt", b"a\n"),
        ("./a.txt", b"a\n"),
        ("sub//b.txt", b"b\n"),
        ("sub/../a.txt", b"a\n"),
        ("inner/b.txt", b"b\n"),
        ("inner/../a.txt", b"a\n"),
        ("file", b"b\n"),
        ("sub/up", b"a\n"),
        ("inner/deep/over", b"a\n"),
        ("absolute", b"b\n"),
        ("here/here/a.txt", b"a\n"),
    ],
)
def test_what_lies_inside_is_read(top, walk, path, content):
    assert read(top, path, walk) == content


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../outside/secret",
        "sub/../../outside/secret",
        "a/../../x",
        "./.././x",
        "/",
        "/etc/passwd",
        "//etc/passwd",
        "{top}most",
        "{top}/../outside/secret",
        "~/.bashrc",
        "$HOME/x",
        "file:///etc/passwd",
        "a\0/../../x",
        "",
        "x" * 5000,
        "..\\x",
        "sub\\..\\..\\x",
        "\uff0e\uff0e/x",
        "\u2025/x",
        "\ud800",
        "out/secret",
        "outfile",
        "sub/outfile",
        "inner/outfile",
        "outabsolute",
        "prefix",
        "chain",
        "far",
        "root/etc/passwd",
        "zero",
        "proc/etc/passwd",
        "above/outside/secret",
        "here/above/outside/secret",
        ".git/config",
        "g/config",
        "here/g/config",
        "here/.git/config",
    ],
)
@pytest.mark.parametrize("action", ["read", "replace", "remove", "rename", "names", "make_parents", "status"])
def test_what_does_not_is_refused(top, walk, path, action):
    path = path.format(top=top) if "{" in path and "HOME" not in path else path
    before = sorted(os.listdir(top.parent / "outside")), sorted(os.listdir(top))
    with Folder(top, walk=walk) as folder:
        act = {
            "read": lambda: folder.read(path, 1000),
            "replace": lambda: folder.replace(path, b"pwned"),
            "remove": lambda: folder.remove(path + "/x"),
            "rename": lambda: folder.rename("a.txt", path + "/x"),
            "names": lambda: folder.names(path),
            "make_parents": lambda: folder.make_parents(path + "/x/y"),
            "status": lambda: folder.status(path),
        }[action]
        with pytest.raises(PathRefused) as error:
            act()
    assert SECRET.decode().strip() not in str(error.value) and "\n" not in str(error.value)
    assert (top.parent / "outside/secret").read_bytes() == SECRET
    assert (top / ".git/config").read_bytes() == b"[core]\n"
    assert before == (sorted(os.listdir(top.parent / "outside")), sorted(os.listdir(top)))


def test_a_refusal_names_the_link(top, walk):
    for path, said in [
        ("outfile", "outfile is a link that leads outside the repository; it is not followed"),
        ("out/secret", "out/secret is outside the repository: out is a link that leads there"),
        ("chain", "chain is outside the repository: outfile is a link that leads there"),
    ]:
        with pytest.raises(PathRefused) as error:
            read(top, path, walk)
        assert str(error.value) == said


@pytest.mark.parametrize("path", ["loop", "ping", "loop/x"])
def test_circles_end(top, walk, path):
    with pytest.raises(OSError, match="symbolic links"):
        read(top, path, walk)


def test_what_is_no_file(top, walk):
    for path, sort in [
        ("pipe", stat.S_ISFIFO),
        ("sub", stat.S_ISDIR),
        (".", stat.S_ISDIR),
        ("here", stat.S_ISDIR),
    ]:
        with pytest.raises(NotRegular) as error:
            read(top, path, walk)
        assert sort(error.value.mode)
    with Folder(top, walk=walk) as folder:
        for path in ("pipe", "sub"):
            with pytest.raises(NotRegular):
                folder.replace(path, b"x")
    for path, kind in [
        ("missing", FileNotFoundError),
        ("no/such", FileNotFoundError),
        ("dangling", FileNotFoundError),
    ]:
        with pytest.raises(kind):
            read(top, path, walk)
    with pytest.raises(NotADirectoryError):
        read(top, "a.txt/x", walk)
    with pytest.raises(NotADirectoryError):
        read(top, "file/x", walk)


def test_sizes_are_bounded(top, walk):
    with open(top / "holes", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TooLarge) as error:
        read(top, "holes", walk)
    assert error.value.size == 1 << 40
    with pytest.raises(TooLarge):
        read(top, "a.txt", walk, most=1)


def test_replacing_keeps_mode_owner_and_links(top, walk):
    (top / "a.txt").chmod(0o750)
    if os.geteuid() == 0:
        os.chown(top / "a.txt", 1234, 2345)
    owner = (top / "a.txt").stat().st_uid, (top / "a.txt").stat().st_gid
    with Folder(top, walk=walk) as folder:
        folder.replace("sub/up", b"new\n")
        folder.replace("dangling", b"made\n")
        folder.replace("inner/x/y/z.txt", b"z\n", scratch=top.parent / "outside")
    after = (top / "a.txt").stat()
    assert (top / "a.txt").read_bytes() == b"new\n" and (top / "sub/up").is_symlink()
    assert stat.S_IMODE(after.st_mode) == 0o750 and (after.st_uid, after.st_gid) == owner
    assert (top / "sub/new.txt").read_bytes() == b"made\n" and (top / "dangling").is_symlink()
    assert (top / "sub/x/y/z.txt").read_bytes() == b"z\n"
    assert not [name for _, _, names in os.walk(top.parent) for name in names if name.startswith(".pool-")]


def test_setuid_does_not_stay_on_new_content(top, walk):
    (top / "a.txt").chmod(0o4755)
    with Folder(top, walk=walk) as folder:
        folder.replace("a.txt", b"x")
    assert stat.S_IMODE((top / "a.txt").stat().st_mode) == 0o755


def test_another_name_of_the_file_keeps_its_content(top, walk):
    os.link(top.parent / "outside/secret", top / "hard")
    # The control: writing in place, as open(path, "w") does, reaches the file of outside.
    assert (top / "hard").stat().st_nlink == 2
    with Folder(top, walk=walk) as folder:
        folder.replace("hard", b"x")
    assert (top / "hard").read_bytes() == b"x" and (top.parent / "outside/secret").read_bytes() == SECRET
    os.link(top.parent / "outside/secret", top / "hard2")
    (top / "hard2").write_bytes(b"in place")
    assert (top.parent / "outside/secret").read_bytes() == b"in place"


def test_an_error_leaves_the_old_file(top, walk, tmp_path):
    with Folder(top, walk=walk) as folder:
        for path in ("a.txt/x", "sub/" + "n" * 300, "a.txt/"):
            with pytest.raises(OSError):
                folder.replace(path, b"x")
    assert (top / "a.txt").read_bytes() == b"a\n"


def test_removing_and_renaming(top, walk):
    with Folder(top, walk=walk) as folder:
        folder.remove("outfile")
        folder.rename("sub/b.txt", "fresh/c.txt")
        folder.rename("out", "away")
        assert folder.there("away") and not folder.there("outfile") and not folder.there("away/secret")
    assert not (top / "outfile").is_symlink() and (top.parent / "outside/secret").exists()
    assert (top / "fresh/c.txt").read_bytes() == b"b\n" and os.readlink(top / "away") == "../outside"


def test_what_pool_is_told_is_not_the_models(top, walk):
    (top / ".pool").mkdir()
    (top / ".pool/config.toml").write_bytes(b"x = 1\n")
    (top / "p").symlink_to(".pool")
    with Folder(top, walk=walk) as folder:
        assert folder.read(".pool/config.toml", 10) == b"x = 1\n"
        for path in (
            ".pool/config.toml",
            ".POOL/config.toml",
            "p/config.toml",
            ".pool",
            ".Pool/new/x",
            ".pool /x",
        ):
            with pytest.raises(PathRefused):
                folder.replace(path, b"x")
        for path in (".pool/config.toml", "p/config.toml"):
            with pytest.raises(PathRefused):
                folder.remove(path)
        with pytest.raises(PathRefused):
            folder.rename("sub", ".pool")
        folder.replace("sub/.pool", b"fine")
    assert (top / ".pool/config.toml").read_bytes() == b"x = 1\n"


def test_files_of_the_users_own(top):
    assert (
        beneath.read_regular(top / "a.txt", 1) == b"a" and beneath.read_regular(top / "outfile", 99) == SECRET
    )
    for path in ("pipe", "zero", "sub"):
        with pytest.raises(NotRegular):
            beneath.read_regular(top / path, 10)
    with pytest.raises(FileNotFoundError):
        beneath.read_regular(top / "missing", 10)


def test_names_and_where_it_is_seen(top, walk):
    with Folder(top, seen="/somewhere/else", walk=walk) as folder:
        assert sorted(folder.names("sub")) == ["b.txt", "deep", "outfile", "up"]
        assert ".git" not in folder.names()
        assert folder.read("/somewhere/else/a.txt", 10) == b"a\n"
        (top / "shown").symlink_to("/somewhere/else/sub/b.txt")
        assert folder.read("shown", 10) == b"b\n"
        assert folder.real("shown") == "sub/b.txt" and folder.real("here/inner/new") == "sub/new"
        assert folder.real(".") == folder.real("sub/..") == folder.real(str(top)) == "."
        with pytest.raises(PathRefused):
            folder.read("/somewhere/elsewhere", 10)


@pytest.mark.parametrize(
    "name", ["-n", "$(x)", "a b", "\n", "con", "n" * 255, "é", "\udcff", "~", "a\\b", "...", "x::$DATA"]
)
def test_odd_names_come_back_as_they_are(top, walk, name):
    with Folder(top, walk=walk) as folder:
        folder.replace(f"odd/{name}", b"odd")
        assert folder.read(f"odd/{name}", 10) == b"odd" and folder.names("odd") == [name]


GITS = [
    ".git",
    ".GIT",
    ".Git",
    ".git ",
    ".git.",
    ".git . .",
    ".git::$INDEX_ALLOCATION",
    ".git:x",
    "git~1",
    "GIT~1",
    "git~1.",
]
GITS += [
    f".g{chr(code)}it" for code in (0x200C, 0x200D, 0x200E, 0x200F, 0x202A, 0x202E, 0x206A, 0x206F, 0xFEFF)
]
GITS += ["\u200c.git", ".git\u200d", "a\\.git\\x", ".git\\config", "\u200c.GIT\ufeff"]


@pytest.mark.parametrize("name", GITS)
def test_names_that_a_filesystem_takes_for_git(top, walk, name):
    assert is_git(name)
    with Folder(top, walk=walk) as folder:
        for path in (name, f"{name}/config", f"sub/{name}/hooks/x"):
            with pytest.raises(PathRefused):
                folder.replace(path, b"x")


@pytest.mark.parametrize(
    "name", [".gitignore", ".github", "git", "a.git", ".git_", ".gi", "git~2", ".git-x", ".g it", "..git"]
)
def test_names_that_are_not_gits(name):
    assert not is_git(name)


# Paths of every kind, against what the system's own resolution says.

PARTS = st.sampled_from(
    "a.txt sub deep b.txt inner file up over absolute out outfile outabsolute prefix chain far root loop dangling "
    "g zero proc here above pipe . .. new secret etc passwd .git .GIT config ~ outside top ..\\x".split(" ")
)
PATHS = st.one_of(
    st.lists(PARTS, min_size=1, max_size=6).map("/".join),
    st.lists(PARTS, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    st.text(max_size=30),
    st.lists(st.one_of(PARTS, st.text(max_size=5)), max_size=5).map("/".join),
)


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    return made(tmp_path_factory.mktemp("still").resolve())


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=PATHS, absolute=st.booleans())
def test_no_path_opens_anything_outside(still, walk, path, absolute):
    path = f"{still}/{path}" if absolute else path
    with Folder(still, walk=walk) as folder:
        try:
            fd = folder.open(path)
        except (OSError, ValueError):
            return
        try:
            where = os.readlink(f"/proc/self/fd/{fd}") if os.path.exists("/proc/self/fd") else ""
        finally:
            os.close(fd)
        assert where.startswith(f"{still}/") and "/.git" not in where
        assert folder.real(path) == os.path.relpath(where, still)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=PATHS)
def test_both_ways_say_the_same(still, path):
    assume(beneath._openat2)

    def outcome(walk):
        try:
            return read(still, path, walk)
        except (OSError, ValueError) as error:
            return type(error), str(error) if isinstance(error, PathRefused) else getattr(error, "errno", 0)

    assert outcome(False) == outcome(True)


DETOURS = st.lists(
    st.sampled_from("here sub/.. inner/.. inner/deep/../.. . sub/deep/../../here".split(" ")), max_size=4
)
FILES = st.sampled_from("a.txt sub/b.txt inner/up file absolute inner/deep/over sub/deep/../b.txt".split(" "))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(detours=DETOURS, file=FILES, absolute=st.booleans())
def test_what_the_system_finds_inside_is_found(still, walk, detours, file, absolute):
    """Nothing is refused without need: what resolves to a file inside is read, as the system reads it."""
    path = "/".join([*([str(still)] if absolute else []), *detours, file])
    with open(still / path, "rb") as opened:
        assert read(still, path, walk) == opened.read()


# Races: a folder on the way becomes a link to outside and back while files are opened.


@contextlib.contextmanager
def flipping(top):
    """`top/d` is a folder with a file `f` and a link to outside by turns, until the block ends."""
    outside = top.parent / "outside"
    (outside / "f").write_bytes(SECRET)
    (top / "d").mkdir()
    (top / "d/f").write_bytes(b"inside\n")
    (top / "other").symlink_to(outside)
    exchange = getattr(ctypes.CDLL(None), "renameat2", None)
    if exchange is None:
        pytest.skip("this system cannot exchange two names at one moment")
    names = os.fsencode(top / "d"), os.fsencode(top / "other")
    stop = threading.Event()

    def flip():
        while not stop.is_set():
            exchange(-100, names[0], -100, names[1], 2)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield outside / "f"
    finally:
        stop.set()
        thread.join()


def turns(met):
    """Two thousand turns, and more while what the test needs to have met has not come: patience, no measure."""
    until = time.monotonic() + 60
    number = 0
    while number < 2000 or (not met() and time.monotonic() < until):
        yield number
        number += 1


def checked_then_opened(top, path, data):
    """What pool did before: resolve, compare, then write at the path."""
    real = os.path.realpath(top / path)
    if os.path.commonpath((real, str(top))) == str(top):
        with open(top / path, "wb") as file:
            file.write(data)


def test_the_race_is_real(top):
    """The control: checking first and opening then reaches the file of outside."""
    with flipping(top) as outside:
        until = time.monotonic() + 30
        while outside.read_bytes() == SECRET and time.monotonic() < until:
            with contextlib.suppress(OSError):
                checked_then_opened(top, "d/f", b"pwned")
        assert outside.read_bytes() == b"pwned"


def test_the_race_is_lost_by_every_flip(top, walk):
    met = set()
    with flipping(top) as outside, Folder(top, walk=walk) as folder:
        names = set()
        for turn in turns(lambda: len(met) == 2):
            try:
                folder.replace("d/f", b"written %d\n" % turn)
                assert b"secret" not in folder.read("d/f", 100)
                names.update(folder.names("d"))
                met.add("inside")
            except PathRefused:
                met.add("refused")
            except OSError:
                pass  # neither is there in the moment between two renames
        assert outside.read_bytes() == SECRET and "secret" not in names
        assert sorted(os.listdir(outside.parent)) == ["f", "secret"]
    assert met == {"inside", "refused"}


def test_a_link_that_flips_is_read_inside_or_not(top, walk):
    """The last name itself turns from a file into a link and back."""
    stop = threading.Event()
    (top / "n").write_bytes(b"inside\n")

    def flip():
        while not stop.is_set():
            for target in ("../outside/secret", "a.txt"):
                os.symlink(target, top / "n.new")
                os.rename(top / "n.new", top / "n")
            (top / "n.new").write_bytes(b"inside\n")
            os.rename(top / "n.new", top / "n")

    thread = threading.Thread(target=flip)
    thread.start()
    met = set()
    try:
        with Folder(top, walk=walk) as folder:
            for _ in turns(lambda: met):
                try:
                    assert folder.read("n", 100) in (b"inside\n", b"a\n")
                    met.add("inside")
                except (PathRefused, OSError):
                    pass
    finally:
        stop.set()
        thread.join()
    assert met


def test_no_descriptor_is_left_open(top, walk):
    def count():
        return len(os.listdir("/proc/self/fd"))

    if not os.path.exists("/proc/self/fd"):
        pytest.skip("no /proc")
    before = count()
    for path in (
        "a.txt",
        "out/secret",
        "loop",
        "pipe",
        "missing/x",
        "inner/b.txt",
        "a.txt/x",
        "g/config",
        "sub/../a.txt",
    ):
        for act in ("read", "replace", "status", "there", "names", "remove", "real"):
            with Folder(top, walk=walk) as folder, contextlib.suppress(OSError, ValueError):
                getattr(folder, act)(path, *({"read": (100,), "replace": (b"x",)}.get(act, ())))
    assert count() == before


def test_reading_costs_about_what_it_did(top, walk):
    """A figure to look at, no limit: the machine is shared."""

    def before():
        real = os.path.realpath(top / "sub/b.txt")
        os.lstat(real)
        with open(os.open(real, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            file.read()

    def per_call(act, times=2000):
        act()
        started = time.perf_counter()
        for _ in range(times):
            act()
        return (time.perf_counter() - started) / times * 1e6

    print(f"before {per_call(before):.1f} µs, now {per_call(lambda: read(top, 'sub/b.txt', walk)):.1f} µs")
