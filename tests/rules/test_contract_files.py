"""docs/openapi.json is what the code serves. A test with a database compares docs/views.json."""

from docs_site.openapi import FILE, contract


def test_the_contract_of_the_http_api_is_what_the_code_serves() -> None:
    assert FILE.read_text() == contract(), "type `python -m docs_site.openapi`"
