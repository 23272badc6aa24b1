"""The spellings of event types that ship in deploy/ are those of the one table."""

from pathlib import Path

import pytest

from tests.support.event_kinds import COPIES, with_spellings


@pytest.mark.parametrize("path", COPIES, ids=lambda path: path.name)
def test_spellings_of_event_types_are_written_from_one_table(path: Path) -> None:
    text = path.read_text()

    assert text == with_spellings(text), "run: python -m tests.support.event_kinds"
