"""Fixtures of tests that run the service or the API."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.api_client import api_client
from tests.support.service_runs import Watcher, watching
from tests.support.stack import Database


@pytest.fixture
async def watcher(database: Database) -> AsyncIterator[Watcher]:
    """Waits for positions in the test's database."""
    async with watching(database.url) as started:
        yield started


@pytest.fixture(scope="module")
async def client(filled: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API over the module's own filled database."""
    async with api_client(filled.url) as made:
        yield made
