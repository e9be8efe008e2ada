"""AGENTS.md: the nearest one, bounded."""

from __future__ import annotations

from poolcli.repomap.conventions import LIMIT, instructions


def found(texts: dict[str, str], focus: str = "") -> tuple[str, str] | None:
    return instructions([(path, len(text)) for path, text in texts.items()], focus, texts.get)


def test_none():
    assert found({"README.md": "x"}) is None
    assert found({"AGENTS.md": " \n"}) is None
    assert found({"web/AGENTS.md": "below, not above"}) is None


def test_nearest_wins():
    texts = {"AGENTS.md": "root", "web/AGENTS.md": "web"}
    assert found(texts, "web/src/deep") == ("web/AGENTS.md", "web")
    assert found(texts, "api/") == ("AGENTS.md", "root\n(also: web/AGENTS.md)")


def test_a_link_is_read_though_it_is_not_listed():
    assert instructions([], "", {"AGENTS.md": "linked"}.get) == ("AGENTS.md", "linked")


def test_long_ones_are_cut_at_a_line_with_a_note():
    text = "".join(f"rule {n}\n" for n in range(2000))
    result = found({"AGENTS.md": text})
    assert result is not None
    kept, note = result[1].rsplit("\n", 1)
    assert len(result[1]) < LIMIT + 80
    assert text.startswith(kept + "\n")
    assert note == f"… {len(text.strip()) - len(kept)} more characters in AGENTS.md"
