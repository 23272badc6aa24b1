"""Secrets of every spelling, in sound and broken records: none gets out but into quarantine_raw."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
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
from tests.support.table_rows import assert_ledger_holds, claimed, connected, open_store
from tests.support.waiting import until

MARK: Final = "hunter2"
"""In every secret text."""
NUMBER: Final = 71_717_171_717
"""Every secret number begins with it."""
KEPT: Final = "keptvalue"


def _base64_of(text: bytes) -> Iterator[str]:
    """Return the part of the text's base64 that's the same wherever it begins."""
    for before in range(3):
        coded = base64.b64encode(bytes(before) + text).decode().rstrip("=")
        yield coded[(0, 2, 3)[before] : -1]


LEAK: Final = "|".join((MARK, str(NUMBER), MARK.encode().hex(), *_base64_of(MARK.encode())))
"""A secret, as it is, in hexadecimal and in base64."""

# The words of rule R7 in docs/spec/wire-shapes.md.
WORDS: Final = (
    "password passwd pwd secret token bearer api_key apikey auth credential private_key privatekey "
    "connection_string connectionstring gcp_key azure_key ssh_key sshkey passphrase pem cert "
    "encryption_key decrypt_key master_key"
).split()
NUMBER_WORDS: Final = ("password", "passwd", "pwd", "passphrase", "pin")
JWT: Final = f"eyJhbGciOiJIUzI1NiJ9.{MARK}eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
PEM: Final = f"-----BEGIN RSA PRIVATE KEY-----\n{MARK}\n-----END RSA PRIVATE KEY-----"
VALUES: Final = (
    f"Bearer {MARK}{MARK}",
    f"basic {MARK}{MARK}==",
    f"BEARER   {MARK}/+._~-",
    f"postgresql://user:{MARK}@host/database",
    f"see amqp://u:{MARK}@h and redis://:{MARK}@h",
    JWT,
    f"token was {JWT}, sorry",
    PEM,
    f"cannot read {PEM}",
)
"""Secret under any key."""


def spellings(word: str) -> Iterator[str]:
    """A key in every JSON spelling, alone and within another."""
    first, *others = word.split("_")
    camel = first + "".join(other.capitalize() for other in others)
    for key in (word, f"my_{word}_1", word.replace("_", "-"), f"my-{word.replace('_', '-')}"):
        yield f'"{key}"'
    for key in (camel, f"my{camel[0].upper()}{camel[1:]}", word.upper()):
        yield f'"{key}"'
    yield f'"\\u{ord(word[0]):04x}{word[1:]}"'
    yield f'"{word[:-1]}\\u{ord(word[-1]):04X}"'


def secrets(word: str) -> Iterator[str]:
    """A secret value as JSON writes it: text, list, object, and number where that is one."""
    yield f'"{MARK}"'
    yield f'["{MARK}",{{"deep":"{MARK}"}},7]'
    yield f'{{"deep":{{"er":"{MARK}"}},"list":["{MARK}"]}}'
    if word in NUMBER_WORDS:
        yield f"{NUMBER}1"
        yield f"{NUMBER}.25"


def members() -> Iterator[str]:
    """`"key":secret`, in every spelling of every word and every kind of value."""
    for word in (*WORDS, "pin"):
        for key in spellings(word) if word != "pin" else ('"pin"', '"user_pin"', '"pinCode"'):
            for value in secrets(word):
                yield f"{key}:{value}"
    for value in VALUES:
        quoted = msgspec.json.encode(value).decode()
        yield f'"harmless":{quoted}'
        yield f'"harmless":["x",[{quoted}]]'
        yield f'"harmless":{{"deep":{quoted}}}'


_numbers = count()


def sound(member: str) -> bytes:
    """An event that holds the secret wherever an event holds anything."""
    sent = msgspec.json.encode(factories.raw_event(next(_numbers), context=0, meta=0)).decode()
    return (
        sent.replace('"context":0', f'"context":{{{member},"list":[{{{member}}}]}}')
        .replace('"meta":0', f'"meta":{{{member}}}')
        .replace("{", f'{{"result":{{"context":{{{member}}}}},"extra":{{{member}}},{member},', 1)
        .encode()
    )


def texts() -> Iterator[dict[str, Any]]:
    """Events that hold a secret in a word of the envelope, or in what gets coerced."""
    for value in VALUES:
        for field in (
            *("event_id", "execution_id", "step", "status", "created_at", "worker_id", "error"),
            *("command_id", "catalog_id", "node_type", "duration", "context", "result", "meta"),
        ):
            yield factories.raw_event(next(_numbers), **{field: value})
        yield factories.raw_event(next(_numbers), meta={"attempts": value, "x": value})
        yield factories.raw_event(next(_numbers), context={"error": {"message": value}})
        yield factories.raw_event(next(_numbers), context=[value, {"a": [value]}])


def broken(value: bytes) -> Iterator[bytes]:
    """The same, no longer an event."""
    yield value[:-1]
    yield value.replace(b'"event_type"', b'"no_type"')
    yield value.replace(b'"execution_id":1000', b'"execution_id":-1')
    yield value.replace(b'"execution_id":1000', b'"execution_id":null')
    yield value.replace(b'"execution_id":1000', b'"execution_id":{"password":"%b"}' % MARK.encode())
    yield value + b"\xff"
    yield value + value
    yield b"[" + value + b"]"
    yield msgspec.json.encode(value.decode()[:-1])
    yield value.replace(b'"call.done"', b'"%b"' % (b"x" * 201))
    yield value.replace(b'"fetch"', b'"%b%b"' % (MARK.encode(), b"x" * 1_001))


def batched(values: list[bytes]) -> bytes:
    return b'{"execution_id":1000,"events":[%b]}' % b",".join(values)


def corpus() -> list[RawRecord]:
    """Everything above, in records with secret headers and keys too."""
    every = [sound(member) for member in members()]
    words = [msgspec.json.encode(event) for event in texts()]
    values = [
        *every,
        *words,
        *(bad for value in every[::25] for bad in broken(value)),
        *(bad for value in words[::20] for bad in broken(value)),
        batched([*every[:3], b'{"password":"%b"}' % MARK.encode()]),
        *(msgspec.json.encode(value.decode()) for value in every[::50]),
        *(
            msgspec.json.encode({"global_sequence": 1, "payload": value.decode()})
            for value in every[::50]
        ),
    ]
    headers = (
        ("Authorization", f"Bearer {MARK}{MARK}".encode()),
        ("x-api-key", MARK.encode()),
        ("x-api-key", MARK.encode()),
        ("plain", f"https://u:{MARK}@h/".encode()),
        ("password", b"\xff" + MARK.encode()),
    )
    return [
        raw_record(at, value=value, key=MARK.encode(), headers=headers)
        for at, value in enumerate(values)
    ]


async def leaks(connection: asyncpg.Connection) -> list[str]:
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
        if await connection.fetchval(
            f"select exists (select from {row['name']} as t where t::text ~ '{LEAK}')"
        )
    ]


def server_log_from(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")


async def test_no_secret_gets_into_a_table_an_error_or_the_servers_log(
    cluster: Cluster, connection: asyncpg.Connection, database: Database
) -> None:
    """The server logs every statement with its parameters, and refuses rows of each kind."""
    records = corpus()
    log = cluster.server.log
    begin = log.stat().st_size
    normalize = Normalizer().normalize
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
    async with open_store(database) as store:
        claim = await claimed(store)
        batch = batch_of_records(claim, [(record, normalize(record)) for record in records])
        with capture_logs() as lines:
            totals = await write_with_retry(store, batch, stop=asyncio.Event())

    rejected = await connection.fetchval(
        "select count(*) from normalizer.quarantine where reason = 'rejected_by_database'"
    )
    assert rejected > 10
    assert totals.stored > len(list(members()))
    assert totals.quarantined > rejected + 50
    assert await leaks(connection) == ["normalizer.quarantine_raw"]
    await assert_ledger_holds(connection)
    logged = server_log_from(log, begin)
    assert "normalizer.quarantine" in logged
    assert "Failing row contains" in logged
    assert [logged[max(0, at.start() - 80) : at.end()] for at in re.finditer(LEAK, logged)] == []
    assert re.search(LEAK, str(lines)) is None


async def test_no_secret_gets_into_a_log_line_of_the_service(feed: Feed) -> None:
    """One process, at its most talkative, with a database that refuses and a bad event type."""
    records = corpus()[::7]
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
        assert re.search(LEAK, said.decode()) is None
        assert "normalizer_" in pages[0]
        assert re.search(LEAK, "".join(pages)) is None
        assert await leaks(connection) == ["normalizer.quarantine_raw"]


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
    store: Store, connection: asyncpg.Connection, database: Database
) -> None:
    """All four shapes, headers, error classes, and records that are rejected."""
    found = list(secret_corpus.secrets())
    values = [
        msgspec.json.encode(shape)
        for number, (_, value, _) in enumerate(found)
        for shape in secret_corpus.shapes(value, 5_000 + number)[number % 5 :][:1]
    ]
    values += [value.replace(b'"execution_id":1000', b'"execution_id":-1') for value in values[::9]]
    records = [
        raw_record(at, value=value, headers=tuple(secret_corpus.headers()))
        for at, value in enumerate(values)
    ]
    normalize = Normalizer().normalize
    batch = batch_of_records(
        await claimed(store), [(record, normalize(record)) for record in records]
    )
    with capture_logs() as lines:
        totals = await write_with_retry(store, batch, stop=asyncio.Event())

    assert totals.stored > 500
    assert totals.quarantined > 50
    searched = str(lines) + "".join([text async for text in everything(connection)])
    searched += "".join([text async for text in answers(database, connection)])
    assert "[REDACTED]" in searched
    assert [form for form, _, secret in found if secret in searched] == []
    assert [text for text in secret_corpus.HEADER_SECRETS if text in searched] == []


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


async def everything(connection: asyncpg.Connection) -> AsyncIterator[str]:
    """All rows of all tables and views, but for the bytes of rejected records."""
    names = await connection.fetch(
        """
        select   format('%I.%I', table_schema, table_name) as name
        from     information_schema.tables
        where    table_schema in ('normalizer', 'projector', 'migrations')
                 and table_name <> 'quarantine_raw'
        order by name
        """
    )
    for row in names:
        yield await connection.fetchval(
            f"select coalesce(string_agg(t::text, e'\n'), '') from {row['name']} as t"
        )
