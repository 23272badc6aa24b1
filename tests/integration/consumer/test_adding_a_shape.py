"""docs/adding-a-shape.md, done as it says in a copy of the tree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.doc_pages import apply_diff, blocks, copy_tree

PAGE = "adding-a-shape.md"
ROOT = Path(__file__).parents[3]
MOST_LINES = 60


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the core and its vectors, changed as the page says."""
    copy = tmp_path_factory.mktemp("tree")
    copy_tree(copy, "normalizer", "tests", "contract/vectors", "docs/spec", "pyproject.toml")
    _run(copy, "git", "init", "--quiet")
    _run(copy, "git", "add", "--all")
    for block in blocks(PAGE):
        match block.info.split():
            case ["ndjson", name]:
                (copy / name).write_text(block.text)
            case ["diff", name]:
                apply_diff(copy / name, block.text)
            case _:
                pass
    return copy


@pytest.fixture(scope="module")
def frozen(tree: Path) -> str:
    """What freezing said that it changes."""
    return _run(tree, sys.executable, "-m", "tests.vectors.freeze", "--write")


def _run(folder: Path, *command: str, given: str = "") -> str:
    done = subprocess.run(
        command, cwd=folder, input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _normalized(folder: Path) -> str:
    (record,) = blocks(PAGE, "json record")
    return _run(folder, sys.executable, "-m", "normalizer", "normalize", given=record.text)


def test_before_the_record_gives_what_the_page_shows() -> None:
    (before,) = blocks(PAGE, "json before")

    assert _normalized(ROOT) == before.text


def test_after_it_gives_what_the_page_shows(tree: Path) -> None:
    (after,) = blocks(PAGE, "json event")

    assert _normalized(tree) == after.text


def test_the_vectors_of_all_shapes_pass_and_only_the_new_file_is_frozen_again(
    tree: Path, frozen: str
) -> None:
    tests = ("tests/unit/core/test_vectors.py", "tests/unit/core/test_rebuild_record.py")
    _run(tree, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)

    assert set(re.findall(r"^--- \S*/(\S+)$", frozen, re.MULTILINE)) == {"scheduler.ndjson"}


@pytest.mark.soak
def test_it_is_clean_and_typed(tree: Path) -> None:
    _run(tree, sys.executable, "-m", "ruff", "check", "--no-cache", "normalizer", "tests/vectors")
    _run(tree, sys.executable, "-m", "ruff", "format", "--check", "--no-cache", "normalizer")
    _run(tree, sys.executable, "-m", "mypy", "--follow-imports=silent", *_changed_modules())


def _changed_modules() -> list[str]:
    named = {block.info.split()[1] for block in blocks(PAGE) if block.info.startswith("diff norm")}
    return sorted(named)


def test_it_takes_under_60_lines_in_the_files_that_the_page_names(tree: Path, frozen: str) -> None:
    assert frozen
    changed = {
        line[3:]
        for line in _run(tree, "git", "status", "--porcelain", "-uall").splitlines()
        if "__pycache__" not in line and "_cache/" not in line and line[1] != " "
    }
    table = (
        (ROOT / "docs" / PAGE).read_text().partition("## In the rules")[2].partition("### 1.")[0]
    )
    named = {name for name in re.findall(r"`([^`]+)`", table) if "/" in name}
    added = sum(
        block.info.startswith("ndjson ") or line.startswith("+")
        for block in blocks(PAGE)
        if block.info.startswith(("diff ", "ndjson "))
        for line in block.text.splitlines()
    )

    assert changed == named
    assert 0 < added < MOST_LINES
