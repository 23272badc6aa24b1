"""The hash of the rules changes with their code, and with nothing else."""

import shutil
from pathlib import Path

import pytest

import normalizer
from normalizer.core.rules_hash import rules_sha256

PACKAGE = Path(normalizer.__file__).parent


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for name in ("envelope.py", "jsontext.py", "snowflake.py"):
        shutil.copy(PACKAGE / name, tmp_path)
    shutil.copytree(PACKAGE / "core", tmp_path / "core", ignore=shutil.ignore_patterns("*.pyc"))
    return tmp_path


def test_prose_does_not_change_the_hash(copied: Path) -> None:
    shapes = copied / "core" / "shapes.py"
    text = shapes.read_text()

    shapes.write_text(text.replace('"""All shapes', '# A comment.\n"""All "new" shapes'))

    assert shapes.read_text() != text
    assert rules_sha256(copied) == rules_sha256()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("core/shapes.py", '"python_row"', '"python_rows"'),
        ("core/rules/status.py", "FAILURE REJECTED", "FAILURE"),
        ("snowflake.py", "1704067200000", "1704067200001"),
        ("core/redaction/secret_commands.py", "login", "signin"),
    ],
)
def test_code_changes_the_hash(copied: Path, name: str, old: str, new: str) -> None:
    path = copied / name

    path.write_text(path.read_text().replace(old, new))

    assert rules_sha256(copied) != rules_sha256()
