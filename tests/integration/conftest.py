"""Fixtures of tests that run the service, its commands, or the API."""

from collections.abc import AsyncIterator

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from normalizer.config.settings import Settings
from normalizer.store.store import Store
from tests.support.api_client import api_client
from tests.support.feed import Feed
from tests.support.service_runs import Watcher, settings_for, watching
from tests.support.stack import Database, Topic
from tests.support.table_rows import open_store


@pytest.fixture
def settings(database: Database, topic: Topic, bootstrap_servers: str) -> Settings:
    """Settings of a service that reads the test's topic into its database."""
    return settings_for(database, topic, bootstrap_servers)


@pytest.fixture
async def watcher(database: Database) -> AsyncIterator[Watcher]:
    """Waits for positions in the test's database."""
    async with watching(database.url) as started:
        yield started


@pytest.fixture
async def feed(
    database: Database,
    topic: Topic,
    bootstrap_servers: str,
    producer: AIOKafkaProducer,
    watcher: Watcher,
) -> Feed:
    """The test's own topic and database."""
    return Feed(database, topic, bootstrap_servers, producer, watcher)


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """A store of the test's database, whose sessions are named `one`."""
    async with open_store(database) as opened:
        yield opened


@pytest.fixture(scope="module")
async def client(filled: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API over the module's own filled database."""
    async with api_client(filled.url) as made:
        yield made
