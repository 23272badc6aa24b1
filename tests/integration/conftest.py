"""Fixtures of tests that run the service, its commands, or the API."""

from collections.abc import AsyncIterator

import httpx
import pytest

from normalizer.config.settings import Settings
from tests.support.api_client import api_client
from tests.support.service_runs import Watcher, settings_for, watching
from tests.support.stack import Database, Topic


@pytest.fixture
def settings(database: Database, topic: Topic, bootstrap_servers: str) -> Settings:
    """Settings of a service that reads the test's topic into its database."""
    return settings_for(database, topic, bootstrap_servers)


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
