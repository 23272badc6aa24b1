"""Compares the rows of one range of one projection with the events, in one SQL statement.

Projections are exact in every snapshot of the database, and one statement reads one snapshot. So
the comparison reports no false differences, even while other processes write.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from normalizer.errors import FatalError
from projector.hours import start_of_hour, with_utc_zone
from projector.verify.queries import Comparison
from projector.verify.ranges import Location, VerifyRange

MAX_EXAMPLES: Final = 10
"""How many rows that differ are described, in a range and in a verdict."""

_INDIVISIBLE_RANGE_TIMEOUT_S: Final = 60
"""The longest time of a statement about one hour or one execution, which can't be cut any more."""


class _SelfTest(NamedTuple):
    """A query for the expected rows with one of them tampered with, and what must be found.

    The query changes {column}, which is a key column or `Comparison.self_test_column`.
    """

    tampered_rows: str
    actual_only_count: int
    expected_only_count: int
    tampers_with_key: bool = False


_SELF_TESTS: Final = {
    "lost": _SelfTest("select row from expected order by row offset 1", 0, 1),
    "invented": _SelfTest(
        """
        select row from expected
        union all
        (select jsonb_set(row, array['{column}'], '"invented"') from expected order by row limit 1)
        """,
        1,
        0,
        tampers_with_key=True,
    ),
    "changed": _SelfTest(
        """
        select case
                   when row_number() over (order by row) = 1
                   then jsonb_set(row, array['{column}'], '"changed"')
                   else row
               end
        from   expected
        """,
        1,
        1,
    ),
}
"""The self-tests by what happened to the row. A changed row is on both sides, with other values."""


class RowDifferences(msgspec.Struct, frozen=True):
    """The result of comparing one range in one statement.

    - `expected_count` is how many rows the events lead to.
    - `actual_only_count` is how many rows only the projection has, with these values. In a
      self-test, the expected rows with one of them tampered with take the place of the projection's
      rows.
    - `expected_only_count` is how many rows only the events lead to, with these values.
    - `differing_count` is how many rows are missing, superfluous, or have other values. A row with
      other values is in both of the counts above, and in this one once.
    - `examples` are sentences, each about one of the first rows that differ, by their keys.
    - `differing_by_location` splits `differing_count` by execution or hour. It's empty in a
      self-test.
    """

    expected_count: int
    actual_only_count: int
    expected_only_count: int
    differing_count: int
    examples: tuple[str, ...]
    differing_by_location: dict[Location, int]

    @property
    def compared(self) -> int:
        """Return how many rows were compared: the expected ones, and the superfluous ones."""
        return self.expected_count + self.differing_count - self.expected_only_count


@asynccontextmanager
async def hash_join_transaction(
    connection: asyncpg.Connection, verify_range: VerifyRange
) -> AsyncIterator[None]:
    """Open a transaction in which the planner joins by hashes.

    The statements that compare a range join intermediate results. The planner has no statistics
    about those, so it might choose nested loops, which could take hours. A statement about a range
    that can be halved has the session's time limit (`database_session`). About any other range it
    may take _INDIVISIBLE_RANGE_TIMEOUT_S.
    """
    async with connection.transaction():
        await connection.execute(
            "set local plan_cache_mode = force_custom_plan; "
            "set local enable_nestloop = off; "
            "set local jit = off"
        )
        if not verify_range.halves():
            await connection.execute(
                f"set local statement_timeout = '{_INDIVISIBLE_RANGE_TIMEOUT_S}s'"
            )
        yield


async def compare_range(
    connection: asyncpg.Connection, comparison: Comparison, verify_range: VerifyRange
) -> RowDifferences:
    """Compare the range. Raises QueryCanceledError if that takes too long."""
    actual_rows = f"select to_jsonb(t) from ({comparison.actual}) as t"  # noqa: S608 - constants of this package
    return await _compare_with(
        connection, comparison, verify_range, actual_rows, with_locations=True
    )


async def run_self_tests(
    connection: asyncpg.Connection, comparison: Comparison, verify_range: VerifyRange
) -> int:
    """Run every self-test and return their number. Raises FatalError if one fails.

    A self-test tampers with a copy of one row, and fails if the comparison doesn't report that row.
    It also sorts the rows, so that it may exceed a time limit that the comparison doesn't. Then it
    raises QueryCanceledError. Returns 0 if the rows have been deleted in the meantime, so that
    there's nothing to tamper with.
    """
    for name, test in _SELF_TESTS.items():
        column = comparison.keys[0] if test.tampers_with_key else comparison.self_test_column
        tampered_rows = test.tampered_rows.format(column=column)
        # The invented key is no time or id, so the locations can't be read.
        found = await _compare_with(
            connection, comparison, verify_range, tampered_rows, with_locations=False
        )
        if not found.expected_count:
            return 0  # its events are gone, so the next range runs them
        counts = (found.actual_only_count, found.expected_only_count)
        if counts != (test.actual_only_count, test.expected_only_count):
            message = (
                f"{comparison.name}: the comparison failed its self-test, because it "
                f"reported a {name} row wrongly. So its verdicts can't be trusted"
            )
            raise FatalError(message)
    return len(_SELF_TESTS)


async def _compare_with(
    connection: asyncpg.Connection,
    comparison: Comparison,
    verify_range: VerifyRange,
    actual_rows: str,
    *,
    with_locations: bool,
) -> RowDifferences:
    """Compare the rows of the query `actual_rows` with the expected ones, in one snapshot."""
    statement = _COMPARE.format(
        expected=comparison.expected,
        actual_rows=actual_rows,
        keys=", ".join(f"row -> '{key}'" for key in comparison.keys),
        first_key=comparison.keys[0],
        location_type="bigint" if comparison.bounded_by == "executions" else "timestamptz",
        with_locations=str(with_locations).lower(),
        max_examples=MAX_EXAMPLES,
    )
    async with hash_join_transaction(connection, verify_range):
        row = await connection.fetchrow(statement, *verify_range.query_arguments)
    return RowDifferences(
        expected_count=row["expected_count"],
        actual_only_count=row["actual_only_count"],
        expected_only_count=row["expected_only_count"],
        differing_count=row["differing_count"],
        examples=tuple(
            _sentences(comparison, row["actual_only_examples"], row["expected_only_examples"])
        ),
        differing_by_location=_sum_by_location(
            row["locations"] or (), row["location_counts"] or ()
        ),
    )


def _sum_by_location(locations: Sequence[Location], counts: Sequence[int]) -> dict[Location, int]:
    """Add up the counts, which are by minute in some projections, by execution or hour."""
    sums: dict[Location, int] = {}
    for at, count in zip(locations, counts, strict=True):
        location = _location(at)
        sums[location] = sums.get(location, 0) + count
    return sums


def _location(at: Location) -> Location:
    return at if isinstance(at, int) else start_of_hour(with_utc_zone(at))


def _sentences(
    comparison: Comparison, actual_only: Sequence[str] | None, expected_only: Sequence[str] | None
) -> Iterator[str]:
    """Return one sentence for each differing row: its key, the actual and the expected values.

    The rows are texts of JSON, those on each side that the other one lacks.
    """
    keys = comparison.keys
    sides: dict[tuple[Any, ...], list[dict[str, Any] | None]] = {}
    for side, rows in enumerate((actual_only or (), expected_only or ())):
        for text in rows:
            row = msgspec.json.decode(text, type=dict[str, Any])
            sides.setdefault(tuple(row.get(key) for key in keys), [None, None])[side] = row
    for values, (actual_row, expected_row) in sides.items():
        name = ", ".join(f"{key} {value}" for key, value in zip(keys, values, strict=True))
        if actual_row is None:
            yield f"{name}: missing, should be {_rest(expected_row, keys)}"
        elif expected_row is None:
            yield f"{name}: shows {_rest(actual_row, keys)}, but no event says so"
        else:
            differing = [
                f"{column} shows {value}, should be {expected_row.get(column)}"
                for column, value in actual_row.items()
                if value != expected_row.get(column)
            ]
            yield f"{name}: {'; '.join(differing)}"


def _rest(row: dict[str, Any] | None, keys: Sequence[str]) -> str:
    fields = {column: value for column, value in (row or {}).items() if value is not None}
    return ", ".join(f"{column} {value}" for column, value in fields.items() if column not in keys)


# For coercion_hours, the finished statement begins like this:
#     with expected as materialized (
#         select to_jsonb(t) as row from (select ... as hour, shape, ... as rule, ...) as t
#     ),
#     actual (row) as materialized (
#         select to_jsonb(t) from (select hour, shape, rule, sum(coercions) ...) as t
#     ),
# A row is {"hour": "2026-07-01T09:00:00+00:00", "shape": "v3", "rule": "opaque_id",
# "coercions": 3}. Its key is jsonb_build_array(row -> 'hour', row -> 'shape', row -> 'rule'), and
# its location is (row ->> 'hour')::timestamptz. If only 2 of the 3 coercions were counted, then
# actual_only has this row with 2, expected_only has it with 3, and actual_only_count,
# expected_only_count, and differing_count are 1.
_COMPARE: Final = """
    with expected as materialized (
        select to_jsonb(t) as row from ({expected}) as t
    ),
    actual (row) as materialized (
        {actual_rows}
    ),
    actual_only as (
        select row from actual except all select row from expected
    ),
    expected_only as (
        select row from expected except all select row from actual
    ),
    differing as (
        select row from actual_only
        union all
        select row from expected_only
    ),
    -- A row with other values is on both sides, so choose the examples by their keys.
    example as (
        select distinct jsonb_build_array({keys}) as key from differing
        order by key
        limit {max_examples}
    ),
    location as (
        select   (row ->> '{first_key}')::{location_type} as at,
                 count(distinct jsonb_build_array({keys})) as differing_count
        from     differing
        where    {with_locations}
        group by 1
    )
    select (select count(*) from expected) as expected_count,
           (select count(*) from actual_only) as actual_only_count,
           (select count(*) from expected_only) as expected_only_count,
           (select count(distinct jsonb_build_array({keys})) from differing) as differing_count,
           (
               select array_agg(row::text order by key)
               from   actual_only
               join   example on example.key = jsonb_build_array({keys})
           ) as actual_only_examples,
           (
               select array_agg(row::text order by key)
               from   expected_only
               join   example on example.key = jsonb_build_array({keys})
           ) as expected_only_examples,
           (select array_agg(at order by at) from location) as locations,
           (select array_agg(differing_count order by at) from location) as location_counts
"""
