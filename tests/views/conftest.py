from pathlib import Path

import pytest

from poolcli.store.reading import parse

GOLDEN = Path(__file__).parent.parent / "golden" / "events-v1.jsonl"


@pytest.fixture(scope="session")
def golden():
    """The events of the golden run."""
    return parse(GOLDEN.read_bytes(), GOLDEN).events
