"""gen_snowflake() in Postgres: the application's layout, bit for bit, whatever the clock does."""

import asyncio
from itertools import pairwise
from typing import Final

import asyncpg
import pytest

from normalizer.snowflake import EPOCH_MS, SnowflakeGenerator, decode_id
from tests.support.factories import RECORDED_MS
from tests.support.stack import Database
from tests.support.table_rows import connected
from tests.support.waiting import until

NODE: Final = 1023
"""The database's own node number."""

every_postgres = pytest.mark.every_postgres
newest_postgres = pytest.mark.every_postgres(oldest_in_soak=True)


async def minted_at(connection: asyncpg.Connection, instants_ms: list[int]) -> list[int]:
    """One id for each instant, in this order, by a clock that was never read before."""
    await connection.execute("select setval('normalizer.snowflake_clock', 0)")
    rows = await connection.fetch(
        """
        select   normalizer.snowflake_at(instant) as id
        from     unnest($1::bigint[]) with ordinality as given (instant, place)
        order by place
        """,
        instants_ms,
    )
    return [row["id"] for row in rows]


def python_ids(instants_ms: list[int], node: int) -> list[int]:
    clock = iter(instants_ms)
    generator = SnowflakeGenerator(node, lambda: next(clock))
    return [generator.next_id() for _ in instants_ms]


@every_postgres
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([0] * 5_000, id="more than a millisecond holds"),
        pytest.param([0, 1, 1, 2, 5, 5, 5, 9], id="a clock that goes on"),
        pytest.param([9, 8, 7, 0, 0, -5_000, 3, 10, 11], id="a clock that steps back"),
        pytest.param([0] * 4_097 + [1, 1, 2], id="an overflow that the clock catches up with"),
        pytest.param([-(RECORDED_MS - EPOCH_MS) - 5, 0], id="a clock before 2024"),
    ],
)
async def test_both_generators_mint_the_same_ids_bit_for_bit(
    database: Database, steps: list[int]
) -> None:
    instants = [RECORDED_MS + step for step in steps]
    async with connected(database) as connection:
        theirs = await minted_at(connection, instants)

    ours = python_ids(instants, NODE)

    if instants[0] < EPOCH_MS:
        assert theirs[-1] == ours[-1]
        assert theirs[0] >= 0
    else:
        assert theirs == ours
    assert all(a < b for a, b in pairwise(theirs))


@newest_postgres
async def test_an_id_tells_now_the_databases_node_and_no_doubled_layout(
    database: Database,
) -> None:
    async with connected(database) as connection:
        before_ms = await _now_ms(connection)
        minted = decode_id(await connection.fetchval("select gen_snowflake()"))
        after_ms = await _now_ms(connection)

    assert minted is not None
    assert before_ms <= minted.time_ms <= after_ms
    assert (minted.layout, minted.node) == ("application", NODE)


async def _now_ms(connection: asyncpg.Connection) -> int:
    now: int = await connection.fetchval(
        "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint"
    )
    return now


@newest_postgres
async def test_a_row_by_hand_gets_its_id_without_naming_a_schema(database: Database) -> None:
    connection = await asyncpg.connect(database.url)
    try:
        minted = await connection.fetchval(
            """
            insert into events (execution_id, event_type, status) values (1, 'step.enter', 'X')
            returning event_id
            """
        )
        assert minted < await connection.fetchval("select gen_snowflake()")
    finally:
        await connection.close()


@every_postgres
async def test_two_connections_at_once_never_mint_the_same_id(database: Database) -> None:
    mint = "select gen_snowflake() from generate_series(1, 10000)"
    async with connected(database) as one, connected(database) as two:
        for connection in (one, two):
            # The first call compiles: a session that came late would run alone.
            await connection.fetchval("select gen_snowflake()")
        batches = await asyncio.gather(one.fetch(mint), two.fetch(mint))

    ids = [[row[0] for row in rows] for rows in batches]
    assert len({*ids[0], *ids[1]}) == 20_000
    assert all(a < b for minted in ids for a, b in pairwise(minted))
    assert ids[0][0] < ids[1][-1], "they ran one after the other: nothing was proven"
    assert ids[1][0] < ids[0][-1], "they ran one after the other: nothing was proven"


@newest_postgres
async def test_an_open_transaction_holds_nobody_up(database: Database) -> None:
    async with connected(database) as one, connected(database) as two:
        transaction = one.transaction()
        await transaction.start()
        await one.fetchval("select gen_snowflake()")

        async with asyncio.timeout(5):
            await two.fetchval("select gen_snowflake()")

        assert await _locks_of_the_clock(two) == 0
        await transaction.rollback()


@newest_postgres
@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_a_statement_ended_in_the_middle_leaves_no_lock_behind(
    database: Database, end: str
) -> None:
    async with connected(database) as watching:
        minting = await asyncpg.connect(database.admin_url)
        pid = minting.get_server_pid()
        before = await watching.fetchval("select gen_snowflake()")
        running = asyncio.ensure_future(
            minting.execute("do $$ begin loop perform gen_snowflake(); end loop; end $$")
        )

        async def has_begun() -> bool:
            clock = await watching.fetchval("select last_value from normalizer.snowflake_clock")
            return bool(clock > (before >> 22 << 12) + 5_000)

        await until(has_begun)
        await watching.execute(f"select {end}($1)", pid)
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await running

        assert await _locks_of_the_clock(watching) == 0
        async with asyncio.timeout(5):
            assert await watching.fetchval("select gen_snowflake()") > before
        minting.terminate()


async def _locks_of_the_clock(connection: asyncpg.Connection) -> int:
    held: int = await connection.fetchval(
        """
        select count(*)
        from   pg_locks
        where  relation = 'normalizer.layout'::regclass
        and    database = (select oid from pg_database where datname = current_database())
        """
    )
    return held
