"""The generated pages of docs/ say what the code says."""

import pytest

from tests.support.doc_pages import DOCS
from tests.support.reference_pages import generated

PAGES = generated()


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_as_the_code_is(name: str) -> None:
    text = (DOCS / name).read_text()

    assert text == PAGES[name], "type `python -m tests.support.reference_pages --write`"
