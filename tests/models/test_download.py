"""Downloads from a real server that breaks, lies and redirects."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolcli.errors import PoolError, UsageError
from poolcli.models import download
from poolcli.models.download import Fetched, Limits, Remote, fetch, may_follow, probe
from tests.models.file_server import FileServer, Served, serving

#: 300 kB that no two places of are alike, so that a piece in the wrong place is seen.
CONTENT = b"GGUF" + b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(9_600))
OTHER = b"GGUF" + CONTENT[:3:-1]
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Limits(connect=5, head=5, idle=5, attempts=3, wait=0.01, longest_wait=0.05)


class Watch:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.seen: list[tuple[int, int]] = []
        self.began: list[int] = []

    def begins(self, done: int, total: int) -> None:
        self.began.append(done)

    def at(self, done: int, total: int) -> None:
        self.seen.append((done, total))

    def says(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "m" / "x.gguf"


def get(
    server: FileServer, target: Path, sha256: str = "", size: int = 0, limits: Limits = QUICK, **more: object
) -> tuple[Fetched, Watch]:
    watch = Watch()
    target.parent.mkdir(exist_ok=True)
    remote = Remote(f"{server.url}/x.gguf", size, sha256)
    done = asyncio.run(fetch(remote, target, watch, limits=limits, **more))  # type: ignore[arg-type]
    return done, watch


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def begun(server: FileServer, target: Path, bytes_: int = 100_000, sha256: str = "") -> None:
    """Leave a part behind, as a process does that gives up."""
    server.files["/x.gguf"].cuts = [bytes_]
    with pytest.raises(PoolError):
        get(server, target, sha256, limits=Limits(attempts=1))
    server.files["/x.gguf"].cuts = []
    server.asked.clear()
    assert target.with_name("x.gguf.part").stat().st_size == bytes_


def test_a_whole_file(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    done, watch = get(server, target)
    assert done == Fetched(len(CONTENT), SHA256)
    assert target.read_bytes() == CONTENT
    assert left(target) == ["x.gguf"]
    assert watch.seen[-1] == (len(CONTENT), len(CONTENT))
    assert server.asked[0].headers["accept-encoding"] == "identity"


def test_a_break_in_the_middle_goes_on_from_there(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT, cuts=[100_000, 50_000])
    done, watch = get(server, target)
    assert done.sha256 == SHA256 and target.read_bytes() == CONTENT
    asked = [(r.headers.get("range"), r.headers.get("if-range")) for r in server.of("/x.gguf")]
    assert asked == [(None, None), ("bytes=100000-", '"one"'), ("bytes=150000-", '"one"')]
    assert len(watch.said) == 2 and "broke at 100 kB of 307 kB" in watch.said[0]


def test_a_later_process_goes_on_too(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    begun(server, target)
    done, watch = get(server, target)
    assert done.sha256 == SHA256 and target.read_bytes() == CONTENT
    assert [r.headers.get("range") for r in server.of("/x.gguf")] == ["bytes=100000-"]
    assert watch.began == [100_000]
    assert left(target) == ["x.gguf"]


def test_a_date_stands_in_for_an_etag(server: FileServer, target: Path) -> None:
    date = "Wed, 01 Jul 2026 10:00:00 GMT"
    server.files["/x.gguf"] = Served(CONTENT, etag="", modified=date)
    begun(server, target)
    assert get(server, target)[0].sha256 == SHA256
    assert [r.headers.get("if-range") for r in server.of("/x.gguf")] == [date]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_way_to_tell_versions_it_starts_anew(server: FileServer, target: Path, etag: str) -> None:
    server.files["/x.gguf"] = Served(CONTENT, etag=etag)
    begun(server, target)
    assert get(server, target)[0].sha256 == SHA256
    assert [r.headers.get("range") for r in server.of("/x.gguf")] == [None]


def test_a_changed_file_starts_anew(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    begun(server, target)
    server.files["/x.gguf"] = Served(OTHER, etag='"two"')
    done, watch = get(server, target)
    assert target.read_bytes() == OTHER and done.sha256 == hashlib.sha256(OTHER).hexdigest()
    assert server.of("/x.gguf")[0].headers["if-range"] == '"one"'
    assert any("from the beginning" in said for said in watch.said)


def test_a_server_that_ignores_if_range_does_not_mix_two_versions(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    begun(server, target)
    careless = Served(OTHER, etag='"one"')  # accepts the condition …
    careless.headers = {"ETag": '"two"'}  # … and says with the reply that it is another file
    careless.etag, careless.modified = "", '"one"'
    server.files["/x.gguf"] = careless
    done, _ = get(server, target)
    assert done.sha256 == hashlib.sha256(OTHER).hexdigest() and target.read_bytes() == OTHER


def test_a_known_checksum_goes_on_whatever_the_etag(server: FileServer, target: Path) -> None:
    """The machines of a CDN do not always agree on an ETag; the checksum decides."""
    server.files["/x.gguf"] = Served(CONTENT)
    begun(server, target, sha256=SHA256)
    server.files["/x.gguf"].etag = '"another machine"'
    assert get(server, target, SHA256)[0].sha256 == SHA256
    assert [(r.headers["range"], "if-range" in r.headers) for r in server.of("/x.gguf")] == [
        ("bytes=100000-", False)
    ]


def test_a_server_without_ranges(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT, ranges=False, cuts=[100_000])
    done, watch = get(server, target)
    assert done.sha256 == SHA256 and target.read_bytes() == CONTENT
    assert any("from the beginning" in said for said in watch.said)


def test_a_part_of_another_version_is_not_taken_up(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    begun(server, target, sha256=SHA256)
    server.files["/x.gguf"] = Served(OTHER)
    assert get(server, target, hashlib.sha256(OTHER).hexdigest())[0].size == len(OTHER)
    assert [r.headers.get("range") for r in server.of("/x.gguf")] == [None]


def test_a_part_that_was_whole_only_needs_its_name(server: FileServer, target: Path) -> None:
    """Killed between the last byte and the renaming."""
    server.files["/x.gguf"] = Served(CONTENT)
    begun(server, target, sha256=SHA256)
    target.with_name("x.gguf.part").write_bytes(CONTENT)
    assert get(server, target, SHA256, len(CONTENT))[0].sha256 == SHA256
    assert server.asked == []
    target.unlink()
    begun(server, target)
    target.with_name("x.gguf.part").write_bytes(CONTENT)
    assert get(server, target)[0].sha256 == SHA256  # without a checksum the server is asked, and answers 416
    assert [r.headers["range"] for r in server.asked] == [f"bytes={len(CONTENT)}-"]


def test_a_longer_part_than_the_file_starts_anew(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    begun(server, target)
    with target.with_name("x.gguf.part").open("ab") as file:
        file.write(bytes(500_000))
    assert get(server, target)[0].sha256 == SHA256
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_keeps_nothing(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    wrong = "0" * 64
    with pytest.raises(PoolError, match=r"wrong checksum.*deleted") as caught:
        get(server, target, wrong)
    assert int(caught.value.exit_code) == 1
    assert left(target) == []


def test_damage_in_what_was_kept_is_seen(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    begun(server, target, sha256=SHA256)
    with target.with_name("x.gguf.part").open("r+b") as file:
        file.seek(5000)
        file.write(bytes(4))
    with pytest.raises(PoolError, match="wrong checksum"):
        get(server, target, SHA256)
    assert left(target) == []


def test_another_length_than_announced(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    with pytest.raises(PoolError, match="307204 bytes where 400000"):
        get(server, target, size=400_000)
    server.files["/x.gguf"] = Served(CONTENT, length=False)
    with pytest.raises(PoolError, match="more than the 1000 bytes"):
        get(server, target, size=1000)
    assert left(target) == []


def test_a_short_body_without_a_length(server: FileServer, target: Path) -> None:
    """The connection just ends, as it may when no length was said; what the hub said is known, though."""
    server.files["/x.gguf"] = Served(CONTENT, length=False, cuts=[100_000])
    done, _ = get(server, target, SHA256, len(CONTENT))
    assert done.sha256 == SHA256
    assert [r.headers.get("range") for r in server.of("/x.gguf")] == [None, "bytes=100000-"]


def test_what_fails_always_is_given_up(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT, cuts=[1000] * 50)
    with pytest.raises(PoolError, match="given up after 3 attempts") as caught:
        get(server, target)
    assert "goes on from there" in caught.value.hint
    assert len(server.asked) == 3  # a few bytes each time are no progress
    assert left(target) == ["x.gguf.part", "x.gguf.part.json"]


def test_a_busy_server_is_asked_again(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT, refusals=[(503, {}), (429, {"Retry-After": "3000000"})])
    done, watch = get(server, target)
    assert done.sha256 == SHA256
    assert "answers 503" in watch.said[0] and "answers 429" in watch.said[1]


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "not given to us"), (403, "not given to us"), (404, "status 404"), (410, "410")],
)
def test_a_refusal_is_final(server: FileServer, target: Path, status: int, said: str) -> None:
    server.files["/x.gguf"] = Served(CONTENT, refusals=[(status, {})] * 9)
    with pytest.raises(PoolError, match=said):
        get(server, target)
    assert len(server.asked) == 1 and left(target) == []


def test_nobody_there(target: Path) -> None:
    with serving() as server:
        pass
    with pytest.raises(PoolError, match=r"127\.0\.0\.1 cannot be reached") as caught:
        get(server, target)
    assert "later" in caught.value.hint
    assert left(target) == []


def test_silence_is_noticed(server: FileServer, target: Path) -> None:
    hold = threading.Event()
    server.files["/x.gguf"] = Served(CONTENT, cuts=[100_000], hold=hold)
    done, watch = get(server, target, limits=Limits(idle=0.2, wait=0.01))
    hold.set()
    assert done.sha256 == SHA256 and "nothing came for" in watch.said[0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<!DOCTYPE html><title>Log in</title>" * 900, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\3\4" + bytes(200_000), "not a GGUF file"),
        (b"GG", "2 bytes"),
        (b"", "0 bytes"),
    ],
)
def test_what_is_no_model_is_seen_at_once(server: FileServer, target: Path, body: bytes, said: str) -> None:
    server.files["/x.gguf"] = Served(body)
    with pytest.raises(PoolError, match=said):
        get(server, target)
    assert left(target) == []


def test_a_packed_body_is_refused(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT, headers={"Content-Encoding": "gzip"})
    with pytest.raises(PoolError, match="packed"):
        get(server, target)


# Room -------------------------------------------------------------------------------------------------------------


def test_too_little_room_is_said_with_numbers(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    with pytest.raises(PoolError, match=r"307 kB .* 1\.0 GB should stay free, .* has 1\.0 GB") as caught:
        get(server, target, free=lambda folder: download.MARGIN + 1000)
    assert int(caught.value.exit_code) == 1 and "POOL_MODELS" in caught.value.hint
    assert left(target) == []
    # What is here already needs no room.
    begun(server, target)
    assert get(server, target, free=lambda folder: download.MARGIN + 210_000)[0].sha256 == SHA256


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB, which only an administrator can make."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_keeps_what_fits(server: FileServer, small_disk: Path, tmp_path: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    target = small_disk / "x.gguf"
    with pytest.raises(PoolError, match=r"is full at .* of 307 kB") as caught:
        get(server, target, free=lambda folder: 1 << 50)  # another program took the room meanwhile
    assert int(caught.value.exit_code) == 1
    part = target.with_name("x.gguf.part")
    assert CONTENT.startswith(part.read_bytes()) and part.stat().st_size > 50_000
    assert not target.exists()
    assert download.free_space(small_disk) < 200_000


# One at a time ----------------------------------------------------------------------------------------------------


def test_two_at_once(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    begun(server, target)
    part = target.with_name("x.gguf.part")
    before = part.read_bytes()
    with part.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is fetching"):
            get(server, target)
    assert part.read_bytes() == before and server.asked == []
    assert get(server, target)[0].sha256 == SHA256


KILLED = """
import asyncio, sys
from pathlib import Path
from poolcli.models.download import Remote, fetch
class Watch:
    def begins(self, done, total): pass
    def at(self, done, total): print(done, flush=True)
    def says(self, text): pass
asyncio.run(fetch(Remote(sys.argv[1], sha256=sys.argv[3]), Path(sys.argv[2]), Watch()))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_loses_nothing(server: FileServer, target: Path, how: signal.Signals) -> None:
    hold = threading.Event()
    server.files["/x.gguf"] = Served(CONTENT, cuts=[200_000], hold=hold)
    target.parent.mkdir()
    argv = [sys.executable, "-c", KILLED, f"{server.url}/x.gguf", str(target), SHA256]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "200000":
                break
        process.send_signal(how)
        process.wait(30)
    hold.set()
    assert target.with_name("x.gguf.part").read_bytes() == CONTENT[:200_000]
    server.asked.clear()
    assert get(server, target, SHA256)[0].sha256 == SHA256
    assert [r.headers["range"] for r in server.of("/x.gguf")] == ["bytes=200000-"]


# Redirects --------------------------------------------------------------------------------------------------------


def redirect(server: FileServer, path: str, to: str) -> None:
    server.json[path] = (302, {}, {"Location": to})


def test_redirects_are_followed_without_the_key_to_another_origin(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    with serving() as cdn:
        cdn.files["/blob"] = Served(CONTENT, cuts=[100_000])
        redirect(server, "/x.gguf", "/next")
        redirect(server, "/next", f"{cdn.url}/blob?signature=1")
        remote = Remote(f"{server.url}/x.gguf", headers={"Authorization": "Bearer secret"})
        done = asyncio.run(fetch(remote, target, Watch(), limits=QUICK))
        assert done.sha256 == SHA256
        assert {r.headers.get("authorization") for r in server.asked} == {"Bearer secret"}
        assert {r.headers.get("authorization") for r in cdn.asked} == {None}
        # Each attempt begins at the front: what a hub signs for its CDN is soon out of date.
        assert len(server.of("/x.gguf")) == 2 and cdn.asked[1].headers["range"] == "bytes=100000-"
    assert "signature" not in repr(left(target))


def test_a_redirect_to_plain_http_elsewhere_is_refused(server: FileServer, target: Path) -> None:
    redirect(server, "/x.gguf", "http://files.invalid/x.gguf?token=secret")
    with pytest.raises(
        PoolError, match=r"redirects to http://files.invalid/x.gguf, which is not followed"
    ) as caught:
        get(server, target)
    assert "secret" not in str(caught.value)


def test_endless_redirects(server: FileServer, target: Path) -> None:
    redirect(server, "/x.gguf", "/x.gguf")
    with pytest.raises(PoolError, match="more than 5 times"):
        get(server, target)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("source", "to", "may"),
    [
        ("https://hub.example/a", "https://cdn.example/b", True),
        ("https://hub.example/a", "http://hub.example/a", False),
        ("https://hub.example/a", "http://127.0.0.1/a", False),
        ("http://127.0.0.1:1/a", "http://127.0.0.1:2/b", True),
        ("http://localhost:1/a", "http://[::1]:2/b", True),
        ("http://127.0.0.1:1/a", "https://cdn.example/b", True),
        ("http://127.0.0.1:1/a", "http://cdn.example/b", False),
        ("http://mirror.lan/a", "http://mirror.lan/b", True),
        ("http://mirror.lan/a", "http://mirror.lan:8080/b", False),
        ("http://mirror.lan/a", "http://127.0.0.1/b", False),
        ("http://127.0.0.1/a", "http://127.0.0.1.evil.example/b", False),
        ("https://hub.example/a", "file:///etc/passwd", False),
        ("https://hub.example/a", "https:///nohost", False),
        ("http://mirror.lan/a", "http://mirror.lan:99999999/b", False),
        ("https://hub.example/a", "", False),
    ],
)
def test_where_a_redirect_may_lead(source: str, to: str, may: bool) -> None:
    assert may_follow(source, to) is may


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_address_crashes_the_rule(source: str, to: str) -> None:
    if may_follow(source, to):
        assert to.lower().startswith(("http://", "https://"))


def test_nothing_but_http(target: Path) -> None:
    target.parent.mkdir()
    for url in ("http://", "http://a:b:c/", "http://\0/", "ftp://x/y.gguf"):
        with pytest.raises((PoolError, UsageError)):
            asyncio.run(fetch(Remote(url), target, Watch(), limits=Limits(attempts=1)))
    assert left(target) == []


# Asking first -----------------------------------------------------------------------------------------------------


def test_probe_learns_size_and_checksum_from_a_hub(server: FileServer) -> None:
    server.hub("a/b", {"x.gguf": CONTENT})
    found = asyncio.run(probe(Remote(f"{server.url}/a/b/resolve/main/x.gguf"), Watch(), limits=QUICK))
    assert (found.size, found.sha256) == (len(CONTENT), SHA256)
    assert {r.headers["range"] for r in server.asked} == {"bytes=0-0"}


@pytest.mark.parametrize(
    "served", [Served(CONTENT), Served(CONTENT, ranges=False), Served(CONTENT, length=False)]
)
def test_probe_of_a_plain_server(server: FileServer, served: Served) -> None:
    server.files["/x.gguf"] = served
    found = asyncio.run(probe(Remote(f"{server.url}/x.gguf"), Watch(), limits=QUICK))
    assert found.sha256 == ""
    assert found.size == len(CONTENT) if served.length or served.ranges else found.size == 0


def test_progress_is_never_more_than_the_whole(server: FileServer, target: Path) -> None:
    server.files["/x.gguf"] = Served(CONTENT, cuts=[70_000])
    _, watch = get(server, target)
    assert all(0 < done <= total == len(CONTENT) for done, total in watch.seen)


def test_a_link_in_the_place_of_a_part_is_not_followed(
    server: FileServer, target: Path, tmp_path: Path
) -> None:
    server.files["/x.gguf"] = Served(CONTENT)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    target.parent.mkdir()
    target.with_name("x.gguf.part").symlink_to(precious)
    with contextlib.suppress(OSError, PoolError):
        get(server, target)
    assert precious.read_text() == "mine"


def test_a_proxy_is_used_for_the_world_and_not_for_this_machine(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)  # plays the proxy: it is asked for the whole address
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    target.parent.mkdir()
    server.files["http://models.example/x.gguf"] = Served(CONTENT)
    done = asyncio.run(fetch(Remote("http://models.example/x.gguf"), target, Watch(), limits=QUICK))
    assert done.sha256 == SHA256
    target.unlink()
    server.files["/x.gguf"] = Served(CONTENT)
    assert get(server, target)[0].sha256 == SHA256
    assert server.asked[-1].path == "/x.gguf"


def test_sizes_for_people() -> None:
    sizes = [0, 999, 1000, 999_600, 12_345_678, 640e6, 999_600_000, 12.34e9, 123.4e9]
    assert [download.gb(size) for size in sizes] == [
        *("0 bytes", "999 bytes", "1 kB", "1.0 MB", "12.3 MB", "640 MB", "1.0 GB", "12.3 GB", "123 GB")
    ]
