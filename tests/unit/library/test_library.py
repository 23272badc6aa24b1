"""The package as a library: the names that it gives, and the examples of docs/library.md."""

import contextlib
import io
import subprocess
import sys

import pytest

import normalizer
from tests.support.doc_pages import DOCS, blocks

_PAGE = (DOCS / "library.md").read_text()


def test_the_examples_of_the_page_run_and_print_what_it_shows() -> None:
    printed = io.StringIO()
    names: dict[str, object] = {}

    with contextlib.redirect_stdout(printed):
        for example in blocks("library.md", "python"):
            exec(compile(example.text, "docs/library.md", "exec"), names)  # noqa: S102 - our page

    assert printed.getvalue() == "".join(shown.text for shown in blocks("library.md", "output"))


def test_the_page_imports_and_explains_every_name() -> None:
    imports, *_ = blocks("library.md", "python")
    page = {name for name in normalizer.__all__ if f"`{name}(" in _PAGE}
    given: dict[str, object] = {}

    exec(imports.text, given)  # noqa: S102 - our page

    assert sorted(given.keys() - {"__builtins__"}) == normalizer.__all__
    assert sorted(page) == normalizer.__all__


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("normalizer", {"aiokafka", "asyncpg", "asyncio"}),
        # A command that needs none of the rules imports none.
        ("projector.cli", {"normalizer.core.normalize"}),
    ],
)
def test_an_import_of_one_module_imports_none_of_the_others(module: str, others: set[str]) -> None:
    program = f"import sys, {module}; print({others!r} & {{*sys.modules}})"

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert loaded.stdout == "set()\n"
