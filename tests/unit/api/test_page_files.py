"""The files of the dashboard: what they weigh, and how long a browser keeps them."""

import base64
import hashlib
import re

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from projector.api import page
from projector.api.middleware import SECURITY_HEADERS
from projector.api.static_files import StaticFiles


def _client() -> httpx.AsyncClient:
    files = StaticFiles(page.page_html(), page.page_assets(), page.page_version())
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

    assert {address.split("/")[2] for address in addresses} == {page.page_version()}
    for address in addresses:
        response = await client.get(address)
        assert response.status_code == 200
        assert "immutable" in response.headers["Cache-Control"]


async def test_few_files_compete_with_the_first_paint() -> None:
    """A browser opens six connections, and each module that it asks for early delays the styles."""
    html = (await _client().get("/")).text

    early = re.findall(r'(?:href|src)="/assets/\w+/([\w.]+)"', html)

    assert len(early) <= 6
    assert set(early) >= {"page.css", "page.js"}


async def test_the_browser_may_run_the_script_in_the_page_and_no_other() -> None:
    """It would run none if the hash were of another text, and the theme would flash."""
    html = (await _client().get("/")).text
    scripts = re.findall(r"<script>(.+?)</script>", html, re.DOTALL)

    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    assert f"script-src 'self' 'sha256-{digest}';" in policy


async def test_three_rounds_of_requests_load_all_modules_of_the_dashboard() -> None:
    """A round costs as much as the way to the server and back, such as 80 ms over a VPN."""
    html = (await _client().get("/")).text
    rounds = [set(re.findall(r'/(\w+\.js)"', html))]

    while rounds[-1]:
        texts = [page.page_assets()[one].read_text() for one in rounds[-1]]
        imported = {one for text in texts for one in re.findall(r'from "\./(\w+\.js)"', text)}
        rounds.append(imported - set().union(*rounds))

    assert len(rounds[:-1]) <= 3


async def test_the_page_weighs_at_most_a_third_of_what_a_bundle_of_plotly_did() -> None:
    """1.5 MB, packed."""
    client = _client()
    packed = {"Accept-Encoding": "gzip"}

    weight = 0
    for name in page.page_assets():
        response = await client.head(f"/assets/{name}", headers=packed)
        weight += int(response.headers["Content-Length"])

    assert weight < 150_000
