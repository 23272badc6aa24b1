"""Events that share an id, and reports that differ, in PostgreSQL: rows, marks and hashes."""

import asyncio
import gc
import itertools
import time
from collections.abc import Iterator
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from normalizer.core.batch import OutcomeTotals
from normalizer.core.identity.digests import Digest, DigestCache, digest_jsonb_text
from normalizer.envelope import Envelope
from normalizer.store.committed_batch import CommittedBatch
from normalizer.store.session import Session
from normalizer.store.store import Store
from normalizer.store.stored_rows import PostgresStoredEvents
from tests.support.factories import after, envelope, make_batch
from tests.support.merging import jsonb_text
from tests.support.stack import Database
from tests.support.table_rows import claimed, connected, open_store, stored_events
from tests.support.waiting import moment

A: Final = {"step": "a"}
D: Final = {"step": "b", "command_id": "x"}
C: Final = {"step": "", "command_id": "x"}
ORDERS: Final = list(itertools.permutations((A, D, C)))


async def written(database: Database, *reports: dict[str, Any], at_once: int) -> OutcomeTotals:
    """Reports of one id, written `at_once` in a batch."""
    totals = OutcomeTotals()
    async with open_store(database) as store:
        claim = await claimed(store)
        for first in range(0, len(reports), at_once):
            some = [envelope(**{"event_id": 5} | one) for one in reports[first : first + at_once]]
            batch = make_batch(*some, claim=claim)
            totals += await store.write(batch)
            claim = after(claim, batch)
    return totals


def coercion_rules(row: Envelope) -> list[str]:
    return [one["rule"] for one in msgspec.json.decode(row.coercions or b"[]")]


async def test_a_report_that_may_be_of_two_events_is_marked_in_every_order(
    database: Database,
) -> None:
    """One at a time and all in one batch, each order under an id and an execution of its own."""
    of_all = 0
    for number, (order, at_once) in enumerate(itertools.product(ORDERS, (1, 3)), 1):
        reports = [one | {"event_id": number, "execution_id": number} for one in order]
        totals = await written(database, *reports, *reports, at_once=at_once)

        async with connected(database) as connection:
            stored = await stored_events(connection)
            counted = await connection.fetchval(
                "select sum(coercions) from projector.coercions_by_rule "
                "where rule = 'ambiguous_report'"
            )
        rows = [row for row in stored if row.execution_id == number]
        assert totals.stored == len(rows) <= 2, (order, at_once)
        marked = [row for row in rows if "ambiguous_report" in coercion_rules(row)]
        assert marked, (order, at_once)
        of_all += len(marked)
        assert counted == of_all


async def test_two_writers_that_share_ids_count_each_ambiguous_row_once(
    store: Store, connection: asyncpg.Connection, database: Database
) -> None:
    """The holder's row lies in another partition, and is marked before the batch is written."""
    seen: list[CommittedBatch] = []
    claims = [await claimed(store, partition) for partition in (0, 1)]
    first = make_batch(*(envelope(at, event_id=at + 1, **A) for at in range(5)), claim=claims[0])
    await store.write(first)
    async with open_store(database, "two", on_commit=seen.append) as second:
        claim = await claimed(second, 1)
        reports = [envelope(event_id=at + 1, **D) for at in range(5)]
        totals = await second.write(make_batch(*reports, claim=claim))

    rows = await stored_events(connection)
    assert (totals.stored, totals.merged) == (5, 0)
    assert len(rows) == 10
    assert sum(one.ambiguous for one in seen) == 5
    assert sum("ambiguous_report" in coercion_rules(row) for row in rows) == 5


async def stored_digests(database: Database, values: list[bytes]) -> list[Digest]:
    """As the store asks for them."""
    session = Session(database.url, application_name="t", command_timeout_s=60.0, settings={})
    try:
        return await session.run(
            lambda connection: PostgresStoredEvents(connection).digest_as_jsonb(values)
        )
    finally:
        session.terminate()


VALUES: Final = [
    *(b"1e2", b"100", b"100.0", b"100.00", b"-0", b"-0.0", b"0", b"1.50", b"1E+2", b"0.1e1"),
    *(b"1" * 80, b"1" * 64 + b".50", b"1e-7", b"1e300", b"true", b"false", b"null"),
    *(b'"a"', rb'"\u0041"', b'"A"', rb'"\n\t\b\f\r\"\\\/\u0001\u001f\u007f"', b'"\x7f"'),
    *('"\u00e9\U0001f600"'.encode(), rb'"\ud83d\ude00"', b'"%b"' % (b"x" * 62)),
    *(b'"%b"' % (b"x" * 63), b'["%b"]' % (b"x" * 5_000_000), b"[%b1]" % (b"1e300," * 9_000)),
    *(b"{}", b"[]", b"[ ]", b'{"bb":1,"a":2,"c":[1, 2]}', b'{"a":2,"c":[1,2.0],"bb":1}'),
    *(b'{"a":1,"a":2}', b'{"":{"x":[{}]}}'),
]


async def test_the_databases_digests_are_of_the_text_of_a_jsonb(database: Database) -> None:
    """And so are those that the loop makes itself, of what jsonb writes as it stands."""
    found = await stored_digests(database, VALUES)

    assert found == [digest_jsonb_text(jsonb_text(value)) for value in VALUES]
    known = DigestCache()
    own = [known.digest_or_placeholder(value) for value in VALUES]
    assert all(
        mine == theirs
        for value, mine, theirs in zip(VALUES, own, found, strict=True)
        if value not in known.missing_values()
    )
    assert len(known.missing_values()) < len(VALUES)


async def test_a_value_that_is_no_jsonb_equals_itself_alone(database: Database) -> None:
    bad = [b"NaN", rb'{"a":"\u0000"}', b"[1]", b"NaN "]

    found = await stored_digests(database, bad)

    assert found[2] == (3, b"[1]")
    assert len(set(found)) == 4


@pytest.fixture
def old_objects_kept() -> Iterator[None]:
    """No garbage collection looks at the objects of other tests: that takes long, too."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("old_objects_kept")
@pytest.mark.parametrize("numbers", [100_000, pytest.param(4_000_000, marks=pytest.mark.soak)])
async def test_two_reports_that_differ_in_their_last_number_hold_nobody_up(
    connection: asyncpg.Connection, database: Database, numbers: int
) -> None:
    """By the work of this process between two turns of the loop: others have the cores too."""
    contexts = [b"[%b%d]" % (b"1," * numbers, last) for last in (1, 2)]
    busy_s: list[float] = []

    async def heartbeat() -> None:
        while True:
            before_s = time.process_time()
            await moment()
            busy_s.append(time.process_time() - before_s)

    beating = asyncio.create_task(heartbeat(), name="heartbeat")
    totals = await written(database, *({"context": one} for one in contexts), at_once=1)
    beating.cancel()

    assert (totals.stored, totals.merged) == (1, 1)
    assert max(busy_s) < 0.5
    kept = await connection.fetchrow(
        """
        select context -> -1 as won, extra #> '{conflicting_values,context,0,-1}' as lost
        from   normalizer.events
        """
    )
    assert {kept["won"], kept["lost"]} == {"1", "2"}
