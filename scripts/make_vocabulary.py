"""Trains the vocabulary that tokens are counted with: a byte-level BPE over code and prose.

    python -m scripts.make_vocabulary FOLDER... [--out models/vocabulary.bpe]

The folders hold what to learn from; docs/decisions/0008-counting-tokens.md names those of the shipped file. The
same files give the same vocabulary, wherever they lie. A quarter of a minute on one core for the default sizes.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import regex  # comes with tiktoken; knows \p{L}, which the standard library's re does not

from poolcli.models.tokens import MERGES, PATTERN, VOCABULARY, pack
from poolcli.paths import data_dir

#: What is learned from: file names of each kind, and its share of the text. Python and prose count double: the
#: first is what pool's own evidence looks like, the second what tasks, comments and replies are made of.
KINDS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "python": (("*.py",), 2),
    "prose": (("*.md", "*.rst", "README*", "METADATA", "NEWS*"), 2),
    "c": (("*.h", "*.c"), 1),
    "c++": (("*.hpp", "*.cpp", "*.cc", "*.tcc"), 1),
    "javascript": (("*.js", "*.mjs", "*.cjs"), 1),
    "typescript": (("*.ts",), 1),
    "go": (("*.go",), 1),
    "rust": (("*.rs",), 1),
    "java": (("*.java",), 1),
    "ruby": (("*.rb",), 1),
    "shell": (("*.sh", "*.bash"), 1),
    "data": (("*.json", "*.toml", "*.yaml", "*.yml"), 1),
    "web": (("*.html", "*.css", "*.xml"), 1),
    "patches": (("*.patch", "*.diff"), 1),
    "languages": (("*.utf-8",), 1),
}
#: Bytes of text for one share.
SHARE = 400_000
#: Bytes taken of one file, from its middle: its head is a licence, the same one in thousands of files.
SLICE = 12_000
#: The longest token in bytes: an indentation, a rule of dashes. Longer ones fit one file only.
LONGEST = 32


def collect(folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Texts of each kind, (kind, text), up to its share. Which files are taken is drawn by hash of their text."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            kind = next(
                (k for k, (names, _) in KINDS.items() if any(fnmatch(path.name, n) for n in names)), ""
            )
            if kind and path.is_file() and not path.is_symlink() and (text := middle(path)):
                found[kind].append((hashlib.sha256(text.encode()).hexdigest(), text))
    for kind, (_, shares) in KINDS.items():
        left = shares * SHARE
        for _, text in sorted(set(found[kind])):
            if left <= 0:
                break
            yield kind, text[:left]
            left -= len(text.encode())


def middle(path: Path) -> str:
    """Whole lines from the middle of a file; '' for what is no text."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, (size - SLICE) // 2))
            raw = file.read(SLICE)
        lines = raw.decode().splitlines(keepends=True) if size <= SLICE else _cut(raw)
    except (OSError, UnicodeDecodeError):
        return ""
    # Minified code and tables of numbers are not what people work on.
    return "" if any(len(line) > 1000 for line in lines) or "\0" in "".join(lines) else "".join(lines)


def _cut(raw: bytes) -> list[str]:
    return raw.partition(b"\n")[2].rpartition(b"\n")[0].decode().splitlines(keepends=True)


def train(counts: Mapping[bytes, int], merges: int) -> list[tuple[int, int]]:
    """The merges that shorten these pieces most, the most frequent first; each is a pair of earlier tokens."""
    tokens = [bytes([value]) for value in range(256)]
    known = set(tokens)
    ids = {token: id for id, token in enumerate(tokens)}
    pieces = [list(piece) for piece in counts]
    weights = list(counts.values())
    total: dict[tuple[int, int], int] = defaultdict(int)
    where: dict[tuple[int, int], set[int]] = defaultdict(set)
    for number, piece in enumerate(pieces):
        for pair in pairwise(piece):
            total[pair] += weights[number]
            where[pair].add(number)
    heap = [(-count, pair) for pair, count in total.items()]
    heapq.heapify(heap)
    made: list[tuple[int, int]] = []
    while heap and len(made) < merges:
        count, pair = heapq.heappop(heap)
        if total.get(pair, 0) != -count:  # changed since it was put there
            if total.get(pair, 0) > 0:
                heapq.heappush(heap, (-total[pair], pair))
            continue
        token = tokens[pair[0]] + tokens[pair[1]]
        if len(token) > LONGEST:
            continue
        if token not in known:
            known.add(token)
            ids[token] = len(tokens)
            tokens.append(token)
            made.append(pair)
        changed: set[tuple[int, int]] = set()
        for number in where.pop(pair):
            changed |= _merge(pieces, number, weights[number], pair, ids[token], total, where)
        total.pop(pair, None)
        for other in sorted(changed - {pair}):
            heapq.heappush(heap, (-total[other], other))
    return made


def _merge(
    pieces: list[list[int]],
    number: int,
    weight: int,
    pair: tuple[int, int],
    new: int,
    total: dict[tuple[int, int], int],
    where: dict[tuple[int, int], set[int]],
) -> set[tuple[int, int]]:
    """Merge a pair within one piece; the pairs that arose."""
    old, at, merged = pieces[number], 0, []
    while at < len(old):
        if at + 1 < len(old) and (old[at], old[at + 1]) == pair:
            merged.append(new)
            at += 2
        else:
            merged.append(old[at])
            at += 1
    for gone in pairwise(old):
        total[gone] -= weight
    arose = set()
    for pair_now in pairwise(merged):
        total[pair_now] += weight
        where[pair_now].add(number)
        if new in pair_now:
            arose.add(pair_now)
    pieces[number] = merged
    return arose


def count_pieces(texts: Iterable[str]) -> Counter[bytes]:
    """How often each piece of the texts occurs; a piece is what no merge reaches beyond."""
    pattern = regex.compile(PATTERN)
    counts: Counter[bytes] = Counter()
    for text in texts:
        counts.update(piece.encode() for piece in pattern.findall(text))
    return counts


def main(argv: Sequence[str] | None = None) -> None:
    """Train and write the file; what was learned from is told on standard error."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_vocabulary", description=main.__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=data_dir("models") / VOCABULARY)
    parser.add_argument("--merges", type=int, default=MERGES)
    given = parser.parse_args(argv)
    begun = time.monotonic()
    texts: dict[str, list[str]] = defaultdict(list)
    for kind, text in collect(given.folders):
        texts[kind].append(text)
    for kind, some in texts.items():
        print(f"{kind:12} {len(some):6} files {sum(map(len, some)):9} characters", file=sys.stderr)
    counts = count_pieces(text for some in texts.values() for text in some)
    print(f"{len(counts)} different pieces, {time.monotonic() - begun:.0f} s", file=sys.stderr)
    data = pack(train(counts, given.merges))
    given.out.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    print(
        f"{given.out}: {len(data)} bytes, sha256 {digest}, {time.monotonic() - begun:.0f} s", file=sys.stderr
    )


if __name__ == "__main__":
    main()
