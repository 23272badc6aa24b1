"""Modules and functions stay short enough to be read in one sitting."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

PACKAGES: Final = ("normalizer", "projector", "simulator")
MODULE_LINES: Final = 300
FUNCTION_LINES: Final = 60

TABLES: Final = {
    "normalizer/jobs/engine/job_statements.py": "SQL statements, each with its name",
    "normalizer/service/metric_catalog.py": "metrics, each with its labels and what to do about it",
    "normalizer/store/store_statements.py": "SQL statements, each with its name",
    "projector/views/catalog.py": "views, each with its question",
    "projector/views/operator_questions.py": "questions, each with its SQL",
}
"""Longer modules that hold data alone, and what they list."""


def _modules(*kinds: str) -> Iterator[Path]:
    patterns = [f"{package}/*.{kind}" for package in PACKAGES for kind in kinds]
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, check=True
    )
    paths = (ROOT / name for name in listed.stdout.decode().split("\0"))
    yield from (path for path in paths if path.is_file())


def test_no_module_is_long_but_tables_of_data() -> None:
    long = {
        str(path.relative_to(ROOT))
        for path in _modules("py", "js")
        if len(path.read_text().splitlines()) > MODULE_LINES
    }

    assert long == TABLES.keys()


def test_no_function_is_long() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {node.name}: {lines}"
        for path in _modules("py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]

    assert long == []
