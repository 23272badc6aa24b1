"""Reads the fenced blocks of a page of docs/, and copies the tree to try them in."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import msgspec

DOCS: Final = Path(__file__).parents[2] / "docs"

_FENCED: Final = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(msgspec.Struct, frozen=True):
    """One fenced block: the word after the fence, and the text."""

    info: str
    text: str


def blocks(page: str, info: str | None = None) -> list[Block]:
    """The blocks of a page, all or only those with this word after the fence."""
    text = (DOCS / page).read_text() if (DOCS / page).exists() else (DOCS.parent / page).read_text()
    found = [Block(one[1].strip(), one[2]) for one in _FENCED.finditer(text)]
    return [one for one in found if info is None or one.info == info]


def copy_tree(target: Path, *tracked: str) -> None:
    """Copy what git tracks under these names, links included."""
    root = DOCS.parent
    listed = subprocess.run(
        ["git", "ls-files", *tracked], cwd=root, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (root / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, target / name, follow_symlinks=False)


def apply_diff(path: Path, diff: str) -> None:
    """Change a file as a block shows. Its old lines must occur exactly once."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} does not hold once:\n{before}"
    path.write_text(text.replace(before, after))
