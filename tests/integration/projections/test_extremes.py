"""Whatever a row of events holds, the projections follow it: only the log itself may refuse it."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

import asyncpg
import pytest

from normalizer.core.normalize import Normalizer
from normalizer.envelope import Envelope
from projector.database_session import open_connection
from projector.verify.ranges import VerifyScope
from projector.verify.verify import verify
from tests.support import view_rows
from tests.support.factories import raw_event, raw_record
from tests.support.stack import Database

TYPES: Final = (
    *("playbook.started", "playbook.completed", "command.issued", "command.started"),
    *("command.failed", "call.done"),
)
"""Together these move every projection."""

LONG: Final = "(select string_agg(md5(n::text), '') from generate_series(1, 4000) as n)"
"""128 kB that cannot be compressed."""
ODD: Final = (
    "(select string_agg(chr(128512 + n * 7919 % 500), '') from generate_series(1, 400) as n)"
)
"""400 characters of four bytes each, which cannot be compressed either."""
NUMBERS: Final = ("-32768", "-1", "0", "1", "32767")
JSON: Final = (
    *("null", "true", "5", '"text"', "[]", "{}", "[null, 5, [], {}]", "-1e400", '{"": {"": []}}'),
    *('{"path": 5}', '{"path": ""}', '{"path": "\\u001f", "version": "1\\u001f2"}'),
    *('{"pending_callback": true}', '[{"pending_callback": true}]', '{"attempts": -1}'),
    *('{"context": {"path": 5}}', '{"context": [{}]}', '{"context": {"pending_callback": true}}'),
    *('[{"rule": null}]', '[{"rule": {"of": "another form"}}]', '[{"rule": ""}, {"rule": ""}]'),
)
EXTREMES: Final[dict[str, tuple[str, ...]]] = {
    "bigint": (*NUMBERS, "-9223372036854775808", "9223372036854775807", "2147483648"),
    "integer": (*NUMBERS, "-2147483648", "2147483647"),
    "smallint": NUMBERS,
    "double precision": (
        *("'NaN'", "'Infinity'", "'-Infinity'", "-1", "'-0'", "0", "5e-324", "1e-7", "1e308"),
        *("2592000", "2592000.001", "315360000", "315360000.1", "5e8", "1e9"),
    ),
    "text": (
        *("''", "' '", "chr(1)", "chr(31)", "'#'", "'##'", "'%s'", "E'\\n'", "'null'", "'-1'"),
        *("repeat('x', 100)", "repeat('€', 333)", "repeat('\U0001f600', 250)", LONG),
    ),
    "timestamp with time zone": (
        *("'-infinity'", "'infinity'", "'4714-11-24 00:00:00+00 BC'", "'0001-01-01 00:00:00+00'"),
        *("'1999-12-31 23:59:59.999999+00'", "'2000-01-01 00:00:00+00'"),
        *("'9999-12-31 23:59:59.999999+00'", "'294276-12-31 23:59:59.999999+00'"),
    ),
    "jsonb": (
        *(f"'{value}'" for value in JSON),
        f"jsonb_build_object('path', {LONG}, 'version', {LONG})",
        f"jsonb_build_object('context', jsonb_build_object('path', {LONG}, 'version', {LONG}))",
        f"jsonb_build_array(jsonb_build_object('rule', {LONG}))",
        "(repeat('[', 5000) || repeat(']', 5000))::jsonb",
    ),
}


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with open_connection(database.admin_url) as made:
        yield made


@pytest.mark.parametrize("updates_each", [False, pytest.param(True, marks=pytest.mark.soak)])
async def test_no_projection_refuses_what_the_log_takes(
    connection: asyncpg.Connection, *, updates_each: bool
) -> None:
    """Each column's extremes, inserted and deleted. Then all columns at once, updated and back.

    In the soak each value is updated to and back too.

    A row that breaks a constraint of `events` is its own fault. All else goes through.
    """
    columns = await columns_of_events(connection)
    await insert(connection)
    await connection.execute("create temporary table base as select * from normalizer.events")
    taken: dict[str, list[str]] = {}

    for column, values in columns.items():
        for value in values:
            took = await insert(connection, {column: value})
            if updates_each and column != "event_id":
                assert await update_base(connection, {column: value}) is took, (column, value)
            if took:
                taken.setdefault(column, []).append(value)
        await delete_extremes(connection)
    assert set(taken) | {"event_id"} == set(columns)
    for columns_at_once in in_turn(taken):
        assert await insert(connection, columns_at_once)
        assert await update_base(connection, columns_at_once)

    assert {
        str(found) async for found in verify(connection, VerifyScope()) if found.divergent
    } == set()
    for view in await connection.fetch(
        "select viewname from pg_views where schemaname = 'projector'"
    ):
        await connection.fetch(f"select * from projector.{view['viewname']}")


async def columns_of_events(connection: asyncpg.Connection) -> dict[str, tuple[str, ...]]:
    rows = await connection.fetch("""
        select   column_name, data_type, is_nullable = 'YES' as nullable
        from     information_schema.columns
        where    table_schema = 'normalizer' and table_name = 'events'
        order by ordinal_position
    """)
    return {
        row["column_name"]: (
            *(f"({value})::{row['data_type']}" for value in EXTREMES[row["data_type"]]),
            *(["null"] if row["nullable"] else []),
        )
        for row in rows
    }


def in_turn(taken: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """As many rows as the column with the most extremes needs. Each column's are used in turn."""
    columns = {name: values for name, values in taken.items() if name != "event_id"}
    for turn in range(max(map(len, columns.values()))):
        # Numbers without a common divisor would meet. With steps in between, more pairs do.
        yield {
            name: values[(turn + place) % len(values)]
            for place, (name, values) in enumerate(columns.items())
        }


async def insert(connection: asyncpg.Connection, extreme: dict[str, str] | None = None) -> bool:
    """Insert events of every type, two tries each, in one statement. Returns whether it worked."""
    columns = {
        "execution_id": "7",
        "event_type": "kind.event_type",
        "step": "'fetch'",
        "status": "kind.status",
        "attempts": "try",
        "command_id": "'7:fetch:9'",
        "duration": "0.5",
        "error": "'HTTP 500'",
        "result": '\'{"context": {"path": "a/b", "version": "1"}}\'',
    } | (extreme or {})
    kinds = ", ".join(
        f"('{event_type}', '{'COMPLETED' if event_type == 'call.done' else 'RUNNING'}')"
        for event_type in TYPES
    )
    if extreme and "event_id" in extreme:
        kinds = "('call.done', 'FAILED')"
    elif extreme and "status" in extreme:
        kinds = kinds.replace("call.done", "call.error")
    return await taken_by_the_log(
        connection,
        f"insert into normalizer.events ({', '.join(columns)}) "
        f"select {', '.join(columns.values())} "
        f"from (values {kinds}) as kind (event_type, status), "
        f"generate_series(0, {0 if extreme and 'event_id' in extreme else 1}) as try",
    )


async def update_base(connection: asyncpg.Connection, extreme: dict[str, str]) -> bool:
    """Update the base rows to the values, and back. Returns whether the log took them."""
    there = ", ".join(f"{name} = {value}" for name, value in extreme.items())
    back = ", ".join(f"{name} = base.{name}" for name in extreme)
    took = await taken_by_the_log(
        connection,
        f"update normalizer.events set {there} where event_id in (select event_id from base)"
        + (" and event_type <> 'call.done'" if "status" in extreme else ""),
    )
    if took:
        await connection.execute(
            f"update normalizer.events as event set {back} from base "
            "where event.event_id = base.event_id"
        )
    return took


async def delete_extremes(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "delete from normalizer.events where event_id not in (select event_id from base)"
    )


async def taken_by_the_log(connection: asyncpg.Connection, statement: str) -> bool:
    try:
        await connection.execute(statement)
    except (asyncpg.CheckViolationError, asyncpg.NotNullViolationError) as rejection:
        if rejection.schema_name == "normalizer" and (rejection.table_name or "").startswith(
            "events"
        ):
            return False
        raise
    return True


@pytest.mark.every_postgres(oldest_in_soak=True)
async def test_the_longest_words_together_fit_into_every_key(
    connection: asyncpg.Connection,
) -> None:
    longest = f"left({LONG}, 1500)"

    assert await insert(
        connection,
        {
            "step": longest,
            "worker_id": longest,
            "command_id": longest,
            "error": ODD,
            "context": f"jsonb_build_object('path', {ODD}, 'version', {ODD})",
            "shape": f"left({LONG}, 100)",
        },
    )
    assert await insert(connection, {"step": longest, "command_id": "null", "iteration": "-1"})
    assert await insert(connection, {"event_type": f"left({LONG}, 200)", "step": longest})
    assert not await insert(connection, {"step": f"left({LONG}, 1501)"})


@pytest.mark.every_postgres(oldest_in_soak=True)
@pytest.mark.parametrize("recorded_ms", [0, 253_402_214_399_999])
async def test_the_log_takes_whatever_the_rules_let_through(
    recorded_ms: int, connection: asyncpg.Connection
) -> None:
    longest = {
        "event_type": "x" * 200,
        "status": "x" * 100,
        "step": "é" * 500,
        "worker_id": "x" * 1000,
        "command_id": "x" * 1000,
        "duration": 315_360_000,
        "meta": {"attempts": 32_767, "max_attempts": 32_767},
        "created_at": "9999-12-31T23:59:59.998999Z",
    }
    record = raw_record(1, raw_event(1) | longest, recorded_ms=recorded_ms)
    (event,) = Normalizer().normalize(record)
    assert isinstance(event, Envelope)
    assert (event.attempts, event.duration, event.coercions is None) == (
        *(32_767, 315_360_000.0),
        recorded_ms > 0,
    )

    columns = {name: getattr(event, name) for name in view_rows.COLUMNS}
    columns |= {"event_id": None, "context": None, "coercions": None}
    given = {name: value for name, value in columns.items() if value is not None}
    places = ", ".join(f"${place}" for place in range(1, len(given) + 1))
    await connection.execute(
        f"insert into normalizer.events ({', '.join(given)}) values ({places})", *given.values()
    )
