"""`normalizer check` with wrong settings: what it says to do about each is what helps."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest

from normalizer.config.settings import Settings
from normalizer.embedded import KafkaBroker, PostgresServer, ensure_kafka_jars
from normalizer.store.migrate import migrate
from tests.integration.jobs.test_redrive import as_user
from tests.support.commands import typed
from tests.support.pgbouncer import PgBouncer
from tests.support.stack import Cluster, Database, Stack, Topic
from tests.support.table_rows import connected
from tests.support.tls_postgres import TlsServer, tls_postgres

PASSWORD = "hunter2"


class Guarded(NamedTuple):
    """A database whose `writer` may sign in by TLS only."""

    tls: TlsServer
    url: str


@pytest.fixture(scope="module")
async def guarded(stack: Stack) -> AsyncIterator[Guarded]:
    async with tls_postgres(stack) as tls:
        server = tls.server
        url = await server.create_database("noetl")
        await migrate(url, report=lambda _: None)
        admin = Database(name="noetl", url=url, admin_url=server.superuser_url)
        async with connected(admin) as connection:
            await connection.execute(f"create role writer login password '{PASSWORD}'")
            await connection.execute("grant normalizer_writer to writer")
        rules = server.data_folder / "pg_hba.conf"
        rules.write_text(
            "hostssl noetl writer 127.0.0.1/32 scram-sha-256\n"
            "host noetl writer 127.0.0.1/32 reject\n" + rules.read_text()
        )
        async with connected(admin) as connection:
            await connection.execute("select pg_reload_conf()")
        yield Guarded(tls, f"postgresql://writer:{PASSWORD}@127.0.0.1:{server.port}/noetl")


async def _said(settings: Settings, url: str, **environ: str) -> str:
    """What `normalizer check` prints about this database; it must fail."""
    code, said = await typed(
        msgspec.structs.replace(settings, database_url=url), "check", **environ
    )
    assert code == 1, said
    assert PASSWORD not in said
    return said


async def test_the_right_settings_pass(settings: Settings, guarded: Guarded) -> None:
    url = f"{guarded.url}?sslmode=verify-full&sslrootcert={guarded.tls.authority}"
    right = msgspec.structs.replace(settings, database_url=url)

    code, said = await typed(right, "check")

    assert (code, said.count("FAIL")) == (0, 0), said


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("sslmode=disable", "set sslmode=require in DATABASE_URL"),
        (
            "sslmode=verify-full",
            "add sslrootcert=FILE to the address, or sslrootcert=system for the",
        ),
        ("sslmode=verify-full&sslrootcert=/none/ca.pem", "correct the name of the file"),
        ("sslrootcert=system", "set sslrootcert in DATABASE_URL to the file of the authority"),
    ],
)
async def test_a_wrong_way_to_use_tls_gets_the_right_one(
    settings: Settings, guarded: Guarded, tmp_path: Path, option: str, remedy: str
) -> None:
    said = await _said(settings, f"{guarded.url}?{option}", HOME=str(tmp_path))

    assert said.count("FAIL") == 1
    assert remedy in said
    assert "password in DATABASE_URL" not in said
    assert ("sslrootcert=/none/ca.pem: No such file" in said) is ("/none" in option)


@pytest.mark.parametrize(
    ("wrong", "right", "remedy"),
    [
        (f":{PASSWORD}@", ":other@", "check the user and the password in DATABASE_URL"),
        ("@127.0.0.1:", "@no.such.host.invalid:", "check the host in DATABASE_URL"),
        (r"@127.0.0.1:\d+", "@127.0.0.1:1", "is PostgreSQL running there?"),
        ("/noetl$", "/noetll", "check the name of the database in DATABASE_URL"),
    ],
)
async def test_a_wrong_part_of_the_address_is_named(
    settings: Settings, guarded: Guarded, wrong: str, right: str, remedy: str
) -> None:
    said = await _said(settings, re.sub(wrong, right, guarded.url))

    assert f"\n      {remedy}" in said
    assert "database postgresql://writer:***@" in said


@pytest.mark.parametrize("host", ["no.such.host.invalid", "127.0.0.1"])
async def test_brokers_that_give_an_unreachable_address_are_named(
    stack: Stack, settings: Settings, topic: Topic, host: str
) -> None:
    """The bootstrap server answers, and the client fails at the address that it gives."""
    advertised = f"{host}:1"
    folder = stack.folder / f"advertised-{topic.name}"
    properties = {"advertised.listeners": f"PLAINTEXT://{advertised}"}
    async with KafkaBroker(folder, await ensure_kafka_jars(print), properties=properties) as broker:
        wrong = msgspec.structs.replace(
            settings, kafka_bootstrap_servers=(broker.bootstrap_servers,)
        )
        said = await _said(wrong, settings.required_database_url)

    assert said.count("FAIL") == 1
    assert f"{broker.bootstrap_servers}: advertised address {advertised}: " in said
    assert "\n      set advertised.listeners of the brokers to addresses that this" in said
    assert "KAFKA_" not in said


@pytest.mark.parametrize("server", ["127.0.0.1:1", "no.such.host.invalid:9092", ""])
async def test_a_wrong_way_to_the_brokers_gets_one_remedy(settings: Settings, server: str) -> None:
    wrong = msgspec.structs.replace(settings, kafka_security_protocol="SSL")
    remedy = "does KAFKA_SECURITY_PROTOCOL fit this port"
    if server:
        wrong = msgspec.structs.replace(settings, kafka_bootstrap_servers=(server,))
        remedy = "is the broker running, and is it the one in KAFKA_BOOTSTRAP_SERVERS?"

    said = await _said(wrong, settings.required_database_url)

    assert said.count("FAIL") == 1
    assert f"\n      {remedy}" in said
    assert said.count("KAFKA_") == 1


async def test_a_port_of_something_else_is_suspected(settings: Settings) -> None:
    at = urlsplit(settings.required_database_url)
    wrong = msgspec.structs.replace(settings, kafka_bootstrap_servers=(f"{at.hostname}:{at.port}",))

    said = await _said(wrong, settings.required_database_url)

    assert "does KAFKA_SECURITY_PROTOCOL fit this port, is it a broker's, and " in said


async def test_settings_that_the_protocol_does_not_use_are_named(settings: Settings) -> None:
    unused = {"KAFKA_SSL_CA_FILE": __file__, "KAFKA_SASL_PASSWORD": PASSWORD}

    code, said = await typed(settings, "check", **unused)

    assert code == 0, said
    assert PASSWORD not in said
    for name, protocols in (
        ("KAFKA_SSL_CA_FILE", "SSL or SASL_SSL"),
        ("KAFKA_SASL_PASSWORD", "SASL_SSL or SASL_PLAINTEXT"),
    ):
        assert (
            f"warn  variable {name}: KAFKA_SECURITY_PROTOCOL is PLAINTEXT, which doesn't use it\n"
            f"      set KAFKA_SECURITY_PROTOCOL to {protocols}, or unset it\n"
        ) in said


async def test_a_table_of_shapes_that_does_not_hold_fails(settings: Settings) -> None:
    code, said = await typed(settings, "check", NORMALIZER_SHAPES="/none/shapes.toml")

    assert (code, "NORMALIZER_SHAPES: /none/shapes.toml: No such file" in said) == (2, True), said


async def test_a_pooler_in_statement_mode_is_named(
    stack: Stack, cluster: Cluster, settings: Settings, database: Database
) -> None:
    folder = stack.folder / f"pgbouncer-{database.name}"
    async with PgBouncer(cluster.server, folder, mode="statement") as pooler:
        said = await _said(settings, pooler.through(database.url))

    assert said.count("FAIL") == 1
    assert "pooler in statement mode, which refuses transactions: set its pool_mode to" in said


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_that_cannot_hold_every_text_is_refused(
    settings: Settings, database: Database, encoding: str
) -> None:
    name = f"{database.name}_{encoding.lower()}"
    url = urlsplit(database.admin_url)._replace(path=f"/{name}").geturl()
    async with connected(database) as admin:
        await admin.execute(
            f"create database {name} encoding '{encoding}' template template0 lc_collate 'C' "
            "lc_ctype 'C' locale_provider libc"
        )
        try:
            said = await _said(settings, url)
            migrating = await typed(msgspec.structs.replace(settings, database_url=url), "migrate")
        finally:
            await admin.execute(f"drop database {name}")

    assert f"encoding {encoding}\n      events hold text of any language, so make another" in said
    assert migrating[0] == 3
    assert f"the encoding of this database is {encoding}" in migrating[1]
    assert "encoding 'UTF8' template template0" in migrating[1]


async def test_triggers_that_do_not_run_are_named(settings: Settings, database: Database) -> None:
    url = settings.required_database_url
    async with connected(database) as admin:
        trigger = await admin.fetchval(
            "select tgname from pg_trigger where tgrelid = 'normalizer.events'::regclass limit 1"
        )
        await admin.execute(f"alter table normalizer.events disable trigger {trigger}")
        disabled = await _said(settings, url)
        await admin.execute(f"alter table normalizer.events enable trigger {trigger}")
        user = await admin.fetchval("select current_user")
        role = f"alter role {user} in database {database.name}"
        await admin.execute(f"{role} set session_replication_role = 'replica'")
        replica = await _said(settings, database.admin_url)
        await admin.execute(f"{role} reset session_replication_role")

    assert f"FAIL  triggers: {trigger} of normalizer.events is disabled, so views miss" in disabled
    assert f"\n      alter table normalizer.events enable trigger {trigger}; then run" in disabled
    assert "FAIL  triggers: session_replication_role is replica, so no view counts what" in replica
    assert f"\n      alter role {user} set session_replication_role = origin;" in replica


async def test_an_error_of_the_database_is_not_blamed_on_kafka(
    settings: Settings, database: Database
) -> None:
    async with connected(database) as admin:
        await admin.execute("alter table normalizer.source_topics rename to lost")

    said = await _said(settings, settings.required_database_url)

    assert "FAIL  database " in said
    assert "FAIL  kafka" not in said


async def test_a_user_without_the_right_to_connect_gets_the_grant(
    settings: Settings, database: Database
) -> None:
    async with as_user(database, "normalizer_writer") as writer, connected(database) as admin:
        await admin.execute(f"revoke connect on database {database.name} from public")

        said = await _said(settings, writer.url)

    user = urlsplit(writer.url).username
    assert f"\n      grant connect on database {database.name} to {user};\n" in said


async def test_no_advice_says_to_migrate_a_standby(
    settings: Settings, postgres_server: PostgresServer
) -> None:
    async with postgres_server:
        url = await postgres_server.create_database("noetl")
    (postgres_server.data_folder / "standby.signal").touch()
    async with postgres_server:
        said = await _said(settings, url)
        standby = msgspec.structs.replace(settings, database_url=url)
        code, migrating = await typed(standby, "migrate")

    assert said.count("FAIL") == 1
    assert "a standby: it is read-only\n      name the primary in DATABASE_URL" in said
    assert "normalizer migrate" not in said
    assert code == 3
    assert "this server is a standby, so it is read-only: name the primary" in migrating


@pytest.mark.parametrize("name", ["NORMALIZER_BATCHROWS", "PROJECTOR_TOKN", "KAFKA_TOPIC"])
async def test_a_variable_that_nobody_reads_is_a_failure(settings: Settings, name: str) -> None:
    url = settings.required_database_url

    said = await _said(settings, url, **{name: "1"})

    assert said.count("FAIL") == 1
    assert f"FAIL  variable {name}: unknown, so nothing reads it\n" in said
    assert "\n      correct or unset it: did you mean " in said


@pytest.mark.parametrize(
    "wish",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"},
    ],
)
async def test_spans_over_grpc_get_the_way_that_works(
    settings: Settings, wish: dict[str, str]
) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}

    code, said = await typed(settings, "check", **(endpoint | wish))

    assert code == 0
    assert "warn  tracing: " in said
    assert "the collector's port for HTTP, which is 4318" in said
