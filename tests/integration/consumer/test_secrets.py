"""Secrets of every form, in sound and broken records: none gets out but into quarantine_raw."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import msgspec
from structlog.testing import capture_logs

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.embedded.free_ports import find_free_port
from normalizer.store.store import Store
from normalizer.store.write_retry import write_with_retry
from projector.api.endpoints import API_PATH, ENDPOINTS
from tests.support import factories, secret_corpus
from tests.support.api_client import api_client
from tests.support.factories import batch_of_records, raw_record
from tests.support.feed import Feed
from tests.support.probe_client import fetch_text
from tests.support.service_runs import process
from tests.support.stack import Cluster, Database
from tests.support.table_rows import assert_ledger_holds, claimed, connected
from tests.support.waiting import until

MARK: Final = "hunter2hunter2"
"""In a record's key, and in each word of an event."""
KEPT: Final = "keptvalue"
SECRETS: Final = list(secret_corpus.secrets())
SPELLINGS: Final = [
    base64.b64encode(b"\xff" + MARK.encode()).decode(),
    *(
        spelling
        for secret in (*(one.secret for one in SECRETS), *secret_corpus.HEADER_SECRETS, MARK)
        for spelling in (secret, secret.encode().hex())
    ),
]
"""Each secret as it is, and as PostgreSQL prints its bytes."""
WORDS: Final = (
    *("event_id", "execution_id", "step", "status", "created_at", "worker_id", "error"),
    *("command_id", "catalog_id", "node_type", "duration", "context", "result", "meta"),
)


def broken(value: bytes) -> tuple[bytes, ...]:
    """The same, no longer an event."""
    return (
        value[:-1],
        value.replace(b'"event_type"', b'"no_type"'),
        value.replace(b'"execution_id":1000', b'"execution_id":-1'),
        value.replace(b'"execution_id":1000', b'"execution_id":{"password":"%b"}' % MARK.encode()),
        value + b"\xff",
        value + value,
        msgspec.json.encode(value.decode()[:-1]),
        value.replace(b'"call.done"', b'"%b"' % (b"x" * 201)),
    )


def corpus() -> list[RawRecord]:
    """All four shapes, headers, keys, error classes, and records that are rejected."""
    values = [
        msgspec.json.encode(shape)
        for number, (_, value, _) in enumerate(SECRETS)
        for shape in secret_corpus.shapes(value, 5_000 + number)[number % 5 :][:1]
    ]
    values += [bad for value in values[::40] for bad in broken(value)]
    values += [
        msgspec.json.encode(factories.raw_event(number, **{word: f"Bearer {MARK}"}))
        for number, word in enumerate(WORDS)
    ]
    return [
        raw_record(
            at,
            value=value,
            key=MARK.encode(),
            headers=(*secret_corpus.headers(), ("password", b"\xff" + MARK.encode())),
        )
        for at, value in enumerate(values)
    ]


def leaked(text: str) -> list[str]:
    return [spelling for spelling in SPELLINGS if spelling in text]


async def leaking_tables(connection: asyncpg.Connection) -> list[str]:
    """Every table and view that holds a secret anywhere in a row."""
    names = await connection.fetch(
        """
        select   format('%I.%I', table_schema, table_name) as name
        from     information_schema.tables
        where    table_schema in ('normalizer', 'projector', 'migrations')
        order by name
        """
    )
    return [
        row["name"]
        for row in names
        if leaked(
            await connection.fetchval(
                f"select coalesce(string_agg(t::text, e'\n'), '') from {row['name']} as t"
            )
        )
    ]


async def test_no_secret_gets_into_a_log_line_of_the_service(feed: Feed) -> None:
    """One process, at its most talkative, with a database that refuses and a bad event type."""
    records = corpus()[::3]
    for record in records:
        await feed.producer.send(
            feed.name,
            record.value,
            key=record.key,
            partition=0,
            headers=[(name, value or b"") for name, value in record.headers],
        )
    await feed.producer.flush()
    port = find_free_port(set())
    settings = feed.settings(log_level="debug", batch_rows=50, http_port=port)
    async with connected(feed.database) as connection, process(settings) as service:

        async def position() -> Any:
            return await connection.fetchval(
                "select next_offset from normalizer.source_positions where partition = 0"
            )

        await until(position, is_so=lambda at: at == len(records), deadline_s=60)
        pages = [
            await asyncio.to_thread(fetch_text, f"http://127.0.0.1:{port}/{page}")
            for page in ("metrics", "readyz", "livez")
        ]
        service.terminate()
        said, _ = await service.communicate()

        assert service.returncode == 0, said.decode()
        assert leaked(said.decode()) == []
        assert "normalizer_" in pages[0]
        assert leaked("".join(pages)) == []
        assert await leaking_tables(connection) == ["normalizer.quarantine_raw"]


async def test_the_last_words_of_a_process_quote_nothing_of_the_row_it_died_of(feed: Feed) -> None:
    event = factories.raw_event(error=KEPT, context={"text": KEPT})
    await feed.send_value(msgspec.json.encode(event))
    async with connected(feed.database) as connection:
        await connection.execute(
            """
            create function refuse() returns trigger language plpgsql as $$
            begin
                raise exception 'row: %', new using errcode = '42501', detail = new::text;
            end
            $$;
            create trigger refuse before insert on normalizer.events
                for each row execute function refuse();
            """
        )

    async with process(feed.settings()) as service:
        said, _ = await service.communicate()

    assert service.returncode not in (0, None)
    assert said.count(b"42501") == 1
    assert KEPT.encode() not in said


async def test_no_secret_of_the_corpus_is_in_a_table_a_view_an_answer_or_a_log_line(
    store: Store, connection: asyncpg.Connection, database: Database, cluster: Cluster
) -> None:
    """The server logs every statement with its parameters, and refuses rows of each kind."""
    log = cluster.server.log
    begin = log.stat().st_size
    for setting in ("log_statement = 'all'", "log_min_duration_statement = 0"):
        await connection.execute(f'alter database "{database.name}" set {setting}')
    await connection.execute(
        """
        create function refuse() returns trigger language plpgsql as $$
        begin
            if new.source_offset % 50 = 1 then
                raise exception 'row: %', new using errcode = '22003';
            end if;
            return new;
        end
        $$;
        create trigger refuse before insert on normalizer.events
            for each row execute function refuse();
        alter table normalizer.events add constraint events_no_thirteenth
            check (source_offset % 50 <> 13)
        """
    )
    normalize = Normalizer().normalize
    batch = batch_of_records(
        await claimed(store), [(record, normalize(record)) for record in corpus()]
    )
    with capture_logs() as lines:
        totals = await write_with_retry(store, batch, stop=asyncio.Event())
    with log.open("rb") as file:
        file.seek(begin)
        logged = file.read().decode(errors="replace")
    answered = "".join([text async for text in answers(database, connection)])

    rejected = await connection.fetchval(
        "select count(*) from normalizer.quarantine where reason = 'rejected_by_database'"
    )
    assert rejected > 10
    assert totals.stored > 500
    assert totals.quarantined > rejected + 50
    assert await leaking_tables(connection) == ["normalizer.quarantine_raw"]
    await assert_ledger_holds(connection)
    assert "[REDACTED]" in answered
    assert leaked(answered + str(lines)) == []
    assert "normalizer.quarantine" in logged
    assert "Failing row contains" in logged
    assert leaked(logged) == []


_EVENTS_A_DETAIL: Final = 100
"""Every hundredth event is fetched by itself. Tables and views hold all of them."""


async def answers(database: Database, connection: asyncpg.Connection) -> AsyncIterator[str]:
    """Every answer of the API about all time, page by page, and its metrics."""
    window = {"since": "2000-01-01T00:00:00Z", "limit": "500"}
    events = await connection.fetch("select execution_id, event_id from normalizer.events")
    rejected = await connection.fetchval("select max(quarantine_id) from normalizer.quarantine")
    failed = await connection.fetchval("select max(error_class) from projector.failed_calls")
    named = {
        "search": {"q": "e"},
        "error_group": {"error_class": failed},
        "versions_of_playbook": {"playbook": "any"},
        "errors_by_version": {"playbook": "any"},
        "steps_by_version": {"playbook": "any"},
    }
    missing = {"error_group": failed is None, "quarantine_record": rejected is None}
    async with api_client(database.url, timeout_s=30) as client:
        for endpoint in ENDPOINTS:
            if missing.get(endpoint.name):
                continue
            known = set(endpoint.parameters_type.__struct_fields__)
            given = {name: value for name, value in window.items() if name in known}
            given |= named.get(endpoint.name, {})
            every = _EVENTS_A_DETAIL if "{event_id}" in endpoint.path else len(events)
            for execution_id, event_id in events[::every]:
                path = endpoint.path.format(
                    execution_id=execution_id, event_id=event_id, quarantine_id=rejected
                )
                cursor: str | None = ""
                while cursor is not None:
                    answer = await client.get(
                        API_PATH + path, params=given | ({"cursor": cursor} if cursor else {})
                    )
                    assert answer.status_code == 200, f"{path}: {answer.text}"
                    yield answer.text
                    cursor = answer.json().get("next")
        for execution_id in {execution_id for execution_id, _ in events}:
            yield (await client.get(f"{API_PATH}/executions/{execution_id}/events.ndjson")).text
        yield (await client.get("/metrics")).text
