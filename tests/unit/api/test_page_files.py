"""The files of the dashboard: what they weigh, and how long a browser keeps them."""

import re

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from projector.api import page
from projector.api.static_files import StaticFiles


def _client() -> httpx.AsyncClient:
    files = StaticFiles(page.index(), page.assets(), page.version())
    app = Starlette(
        routes=[
            Route("/", files.page),
            Route("/assets/{name}", files.asset),
            Route("/assets/{version}/{name}", files.asset_of_version),
        ]
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page")


async def test_a_browser_keeps_a_file_whose_address_changes_with_it() -> None:
    client = _client()
    addresses = re.findall(r'(?:href|src)="(/assets/[^"]+)"', (await client.get("/")).text)

    assert {address.split("/")[2] for address in addresses} == {page.version()}
    for address in addresses:
        response = await client.get(address)
        assert response.status_code == 200
        assert "immutable" in response.headers["Cache-Control"]


def _imported(name: str) -> set[str]:
    """The modules that a module imports, and that these import."""
    found: set[str] = set()
    new = {name}
    while new:
        texts = [page.assets()[one].read_text() for one in new]
        new = {one for text in texts for one in re.findall(r'from "\./(\w+\.js)"', text)} - found
        found |= new
    return found


def test_modules_of_the_dashboard_load_in_one_round_trip() -> None:
    named = set(re.findall(r'modulepreload" href="/assets/\w+/(\w+\.js)"', page.index().decode()))

    assert named == _imported("page.js")


async def test_the_page_weighs_at_most_a_third_of_what_a_bundle_of_plotly_did() -> None:
    """1.5 MB, packed."""
    client = _client()
    packed = {"Accept-Encoding": "gzip"}

    weight = 0
    for name in page.assets():
        response = await client.head(f"/assets/{name}", headers=packed)
        weight += int(response.headers["Content-Length"])

    assert weight < 150_000
