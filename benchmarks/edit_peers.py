"""The corpus of damaged edits through the appliers of other agents, beside ours: a comparison and nothing else.

    python -m venv peers && peers/bin/pip install aider-chat codex-apply-patch openai-agents
    python -m benchmarks.edit_peers peers/bin/python

Each peer is called as a library in that environment, by this file run as a script there; none of them is needed by
pool. An applier that takes no old and new text gets the same lines as a patch: `-` and `+`, and ` ` for lines that
both have. A result counts as right only if every byte of it is.
"""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

#: Takes text, old and new; gives the new text, or None for a refusal.
Applier = Callable[[str, str, str], "str | None"]


def marked(old: str, new: str) -> str:
    """Old and new lines as a hunk."""
    a, b = old.split("\n")[:-1], new.split("\n")[:-1]
    lines: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            lines += [" " + line for line in a[i1:i2]]
        else:
            lines += ["-" + line for line in a[i1:i2]] + ["+" + line for line in b[j1:j2]]
    return "\n".join(["@@", *lines])


def aider() -> Applier:
    """SEARCH/REPLACE blocks."""
    from aider.coders.editblock_coder import replace_most_similar_chunk  # type: ignore

    return lambda text, old, new: replace_most_similar_chunk(text, old, new)


def codex() -> Applier:
    """The *** Begin Patch envelope, by the original's own code."""
    from codex_apply_patch import apply_patch_in_memory  # type: ignore

    def apply(text: str, old: str, new: str) -> str | None:
        patch = f"*** Begin Patch\n*** Update File: f\n{marked(old, new)}\n*** End Patch"
        return str(apply_patch_in_memory(patch, {"f": text}).files["f"])

    return apply


def agents() -> Applier:
    """The hunks of the same envelope, by a library for agents."""
    import importlib.util
    import sysconfig

    # The module alone: its package needs much else to be imported.
    file = f"{sysconfig.get_path('purelib')}/agents/apply_diff.py"
    spec = importlib.util.spec_from_file_location("apply_diff", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules["apply_diff"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda text, old, new: str(module.apply_diff(text, marked(old, new) + "\n"))


PEERS: dict[str, Callable[[], Applier]] = {"aider": aider, "codex": codex, "agents": agents}


def peer(name: str) -> None:
    """Cases on standard input, one result per line: the whole text, or null."""
    apply = PEERS[name]()
    for line in sys.stdin:
        text, old, new = json.loads(line)
        begun = time.perf_counter()
        try:
            done = apply(text, old, new)
        except BaseException:  # each refuses in its own way
            done = None
        print(json.dumps([done if done != text else None, time.perf_counter() - begun]), file=sys.__stdout__)


def main() -> None:
    from poolcli.edits.replace import replace_all
    from poolcli.edits.results import Refusal, Replacement
    from tests.edits.corpus_cases import cases

    found = [case for case in cases() if case.whole]
    results: dict[str, list[str | None]] = {"pool": []}
    begun = time.perf_counter()
    for case in found:
        done = replace_all(case.text, [Replacement(case.old, case.new, whole_lines=True)])
        results["pool"].append(None if isinstance(done, Refusal) else done.text)
    print(f"{len(found)} cases; pool takes {(time.perf_counter() - begun) / len(found) * 1000:.2f} ms each")
    asked = "".join(json.dumps([case.text, case.old, case.new]) + "\n" for case in found)
    for name in PEERS:
        ran = subprocess.run([sys.argv[1], __file__, name], input=asked, capture_output=True, text=True)
        said = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("[")]
        if len(said) != len(found):
            print(f"{name} cannot be asked: {ran.stderr.strip().splitlines()[-1:]}")
            continue
        results[name] = [text for text, _ in said]
        print(f"{name} takes {sum(seconds for _, seconds in said) / len(said) * 1000:.2f} ms each")
    print(
        "\nright / WRONG / refused\n\n| damage | "
        + " | ".join(results)
        + " |\n| --- |"
        + " --- |" * len(results)
    )
    kinds = dict.fromkeys(case.name.split(" ", 2)[2].removesuffix(" whole") for case in found)
    for kind in [*kinds, ""]:
        cells = []
        for texts in results.values():
            counted = Counter(
                "refused" if text is None else "right" if text == case.wanted else "wrong"
                for case, text in zip(found, texts, strict=True)
                if not kind or case.name.split(" ", 2)[2].removesuffix(" whole") == kind
            )
            cells.append(f"{counted['right']} / {counted['wrong']} / {counted['refused']}")
        print(f"| {kind or '**all**'} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in PEERS:
        peer(sys.argv[1])
    else:
        main()
