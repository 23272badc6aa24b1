"""Fixtures: a fresh database from a migrated template, a fresh topic, and servers to kill.

A test gets a real PostgreSQL and a real Kafka by asking for `database` or `topic`. A test marked
`every_postgres` runs on the newest and on the oldest supported PostgreSQL, in the soak on those
between them too; with `oldest_in_soak`, on the oldest only in the soak. Other stacks are named on
purpose: TEST_DATABASE_URL (a superuser's), TEST_KAFKA_BOOTSTRAP_SERVERS.
"""

import logging
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from hypothesis import HealthCheck, settings

from normalizer.embedded import KafkaBroker, PostgresServer
from normalizer.runtime.logging_setup import LibraryLogHandler
from normalizer.store.migrate import migrate
from tests.support.hangs import EndsHangs
from tests.support.maven_postgres import VERSIONS
from tests.support.results import PrintLine
from tests.support.stack import Cluster, Database, Stack, Topic, memory_first

# A shell that points at production must not get traffic, migrations or dropped databases.
for _name in set(os.environ):
    if _name.startswith(("KAFKA_", "NORMALIZER_", "PROJECTOR_", "PG")) or _name == "DATABASE_URL":
        del os.environ[_name]

# A shell starts background programs with Ctrl-C ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Laws are tried without a deadline: the machine may be busy with something else. Forty examples a
# run: each run draws others.
settings.register_profile(
    "laws", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("laws")

memory_first()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(EndsHangs())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the page, in one piece: one process starts its platform, not each of four.

    Then what may take long, so that at the end nobody waits for the last such test. The oldest
    PostgreSQL comes last, in one piece too.
    """
    page = Path(__file__).parent / "integration" / "page"

    def place(item: pytest.Item) -> tuple[bool, bool, bool]:
        long = item.get_closest_marker("timeout") is not None
        cluster = item.callspec.params.get("cluster") if hasattr(item, "callspec") else None
        return item.path.parent != page, not long, cluster == "15"

    items.sort(key=place)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("every_postgres")
    if mark is not None and "cluster" in metafunc.fixturenames:
        soak = [pytest.mark.soak] if mark.kwargs.get("oldest_in_soak") else []
        oldest = pytest.param("15", marks=soak)
        between = [pytest.param(version, marks=pytest.mark.soak) for version in VERSIONS]
        metafunc.parametrize("cluster", ["current", oldest, *between], indirect=True)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> PrintLine:
    """Progress of a long test, on the terminal while it runs."""

    def shown(line: str) -> None:
        with capsys.disabled():
            print(f"  {line}", flush=True)  # noqa: T201 - what it is for

    return shown


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process configures the logs of all that follow."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    # Not the list of before: pytest changes its own handlers in each phase of a test.
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if not isinstance(kept, LibraryLogHandler)]


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    async with Stack() as started:
        yield started


@pytest.fixture
async def cluster(stack: Stack, request: pytest.FixtureRequest) -> Cluster:
    """The PostgreSQL server of this session."""
    return await stack.cluster(getattr(request, "param", "current"))


@pytest.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    """Migrated, empty and of this test alone."""
    async with cluster.database() as made:
        yield made


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to it."""
    made = await asyncpg.connect(database.admin_url, server_settings={"jit": "off"})
    yield made
    await made.close()


@pytest.fixture
async def empty_database(cluster: Cluster) -> AsyncIterator[Database]:
    """Not even migrated."""
    async with cluster.empty_database() as made:
        yield made


@pytest.fixture
async def postgres_server(stack: Stack) -> AsyncIterator[PostgresServer]:
    """A separate server for this test, to stop, kill, and fill. Nothing is migrated."""
    async with stack.new_postgres(f"postgres-{secrets.token_hex(4)}") as server:
        yield server


@pytest.fixture
async def own_database(postgres_server: PostgresServer) -> Database:
    """A migrated database on the separate server."""
    url = await postgres_server.create_database("noetl")
    await migrate(url, report=lambda _: None)
    admin_url = postgres_server.database_url("noetl", role="postgres")
    return Database(name="noetl", url=url, admin_url=admin_url)


@pytest.fixture
async def kafka_broker(stack: Stack) -> AsyncIterator[KafkaBroker]:
    """A broker of this test alone, to stop and kill."""
    async with await stack.new_broker(f"kafka-{secrets.token_hex(4)}") as broker:
        yield broker


@pytest.fixture
async def bootstrap_servers(stack: Stack) -> str:
    """The Kafka of this session."""
    return await stack.bootstrap_servers()


@pytest.fixture
async def admin(bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await client.start()
    yield client
    await client.close()


@pytest.fixture
async def topic(admin: AIOKafkaAdminClient, request: pytest.FixtureRequest) -> AsyncIterator[Topic]:
    """A topic of this test alone, of 3 partitions, or as many as its indirect parameter says.

    It keeps records however old they say they are: a broker looks for such a second after its
    start and every five minutes, and so in the middle of some test.
    """
    made = Topic(name=f"test.{secrets.token_hex(6)}", partitions=getattr(request, "param", 3))
    keeping = {"retention.ms": "-1"}
    answer = await admin.create_topics(
        [NewTopic(made.name, made.partitions, 1, topic_configs=keeping)]
    )
    assert [code for _, code, *_ in answer.topic_errors] == [0], answer
    yield made
    await admin.delete_topics([made.name])


@pytest.fixture
async def producer(bootstrap_servers: str) -> AsyncIterator[AIOKafkaProducer]:
    """Waits for every record to be written, and takes values up to 32 MiB."""
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, enable_idempotence=True, max_request_size=32 << 20
    ) as started:
        yield started
