"""A page of docs/ as a test reads it: its fenced blocks, in order."""

import re
from pathlib import Path
from typing import Final

import msgspec

DOCS: Final = Path(__file__).parents[1] / "docs"

_FENCED: Final = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(msgspec.Struct, frozen=True):
    """One fenced block: what stands behind the fence, and the text within."""

    info: str
    text: str


def blocks(page: str, info: str | None = None) -> list[Block]:
    """The blocks of a page, all or only those with this behind the fence."""
    text = (DOCS / page).read_text() if (DOCS / page).exists() else (DOCS.parent / page).read_text()
    found = [Block(one[1].strip(), one[2]) for one in _FENCED.finditer(text)]
    return [one for one in found if info is None or one.info == info]
