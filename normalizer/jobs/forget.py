"""Erases one execution: its events, calls, notes, and quarantined bytes. Its counts stay.

First, a separate transaction adds the execution's id to the table forgotten_executions, and from
then on every writer ignores its events. A transaction that began earlier may not have seen the new
id, so we wait until all of these have ended. Only then are the stored rows deleted, because now no
new ones can appear.

You can interrupt it at any time and run the same command again. After a deadlock or an outage it
repeats the interrupted step by itself. Source: the table forgotten_executions in
0001_create_normalizer.sql.
"""

import asyncio
import json
import re
from collections.abc import Iterable
from functools import partial
from typing import Final

import asyncpg
import msgspec

from normalizer.core.coercions import read_coercions
from normalizer.errors import ConfigurationError, FatalError, StoreUnavailableError
from normalizer.postgres.database import wait_for_table_readers
from normalizer.runtime.progress import JobProgress
from normalizer.snowflake import hash_text_id
from normalizer.store.retrying_session import RetryingSession

_ROWS_A_STEP: Final = 5_000
_ABORT_AFTER_S: Final = 120.0
"""This is longer than the longest batch, of which one statement may take a minute."""
_SESSION: Final = {"lock_timeout": "70s", "statement_timeout": "80s"}
_LEAST_TIMEOUT_MS: Final = 80_000
_TIMEOUT_AN_EVENT_MS: Final = 1
"""The time limit per event. Deleting one takes a twentieth of that."""
_LOCKED_PAUSE_S: Final = 1.0

RecordCoordinates = tuple[object, ...]
"""Topic, incarnation, partition, and offset of a record."""


class ExecutionToForget(msgspec.Struct, frozen=True, kw_only=True):
    """An execution by its number. `text` is the producer's id if that isn't a number."""

    execution_id: int
    text: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ExecutionToForget":
        """Parse the operator's input. Raises ConfigurationError if it isn't an id."""
        name = text.strip()
        if not name:
            raise ConfigurationError(
                "EXECUTION: expected the id of an execution, such as 481036337152, but the text "
                "is empty"
            )
        if not re.fullmatch(r"-?\d{1,19}", name):
            return cls(execution_id=hash_text_id(name), text=name)
        if not -(1 << 63) <= int(name) < 1 << 63:
            raise ConfigurationError(
                f"EXECUTION: {name} is no id. Expected a signed 64-bit integer"
            )
        return cls(execution_id=int(name))

    @property
    def id_forms(self) -> set[str]:
        """Return every form of the execution's id that may occur in a record."""
        return {str(self.execution_id)} | ({self.text} if self.text else set())


class ErasureWhoAndWhy(msgspec.Struct, frozen=True, kw_only=True):
    """The operator who erases, and the reason. It's never deleted, so it must not quote content."""

    who: str
    why: str


class ErasedCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many events, calls, notes about merged records, and quarantined records were deleted."""

    events: int
    calls: int
    reports: int
    rejected: int

    def __str__(self) -> str:
        return (
            f"{self.events:,} events, {self.calls:,} calls, notes of {self.reports:,} records "
            f"that reported them again, the bytes of {self.rejected:,} rejected records"
        )


class _Found(msgspec.Struct, kw_only=True):
    """The execution's stored events: ids, records, and the names that they use for it."""

    names: set[str]
    event_ids: list[int] = []
    record_coordinates: list[RecordCoordinates] = []
    calls: int = 0


# Returns whether the counts of the execution may be wrong. The counts are kept when its events are
# deleted, and without the events they could never be repaired. Retention skips such executions too.
_IS_DIVERGENT: Final = """
    select exists (
        select
        from   projector.divergences
        where  ended_at is null
        and    (
                   execution_id = $1::bigint
                   or execution_id is null and projection in ('execution_facts', 'call_facts')
               )
    )
"""

_ADD_FORGOTTEN: Final = """
    insert into normalizer.forgotten_executions (execution_id, who, why)
    values ($1::bigint, $2::text, $3::text)
    on conflict on constraint forgotten_executions_pkey do nothing
"""

_FIND_EVENTS: Final = """
    select event_id, source_topic, source_incarnation, source_partition, source_offset,
           case when coercions @> '[{"rule": "opaque_id"}]' then coercions end as coercions
    from   normalizer.events
    where  execution_id = $1::bigint
"""

_COUNT_CALLS: Final = """
    select count(*) from projector.call_facts where execution_id = $1::bigint
"""

_PAGE: Final = """
    with page as materialized (
        select   source_topic, source_incarnation, source_partition, offset_block, merge_id,
                 source_offsets, source_indexes, event_ids
        from     normalizer.merged_records
        where    (source_topic, source_incarnation, source_partition, offset_block, merge_id)
                 > ($1::text, $2::integer, $3::integer, $4::bigint, $5::bigint)
        order by source_topic, source_incarnation, source_partition, offset_block, merge_id
        limit    $6::integer
    ),
    reported as materialized (
        select source_topic, source_incarnation, source_partition, offset_block, merge_id,
               one.source_offset, one.source_index, one.event_id, one.number,
               one.event_id in (select unnest($7::bigint[])) as goes
        from   page
        cross join lateral unnest(source_offsets, source_indexes, event_ids) with ordinality
                               as one (source_offset, source_index, event_id, number)
    ),
    left_over as materialized (
        select   source_topic, source_incarnation, source_partition, offset_block, merge_id,
                 array_agg(source_offset order by number) filter (where not goes) as source_offsets,
                 array_agg(source_index order by number) filter (where not goes) as source_indexes,
                 array_agg(event_id order by number) filter (where not goes) as event_ids
        from     reported
        group by source_topic, source_incarnation, source_partition, offset_block, merge_id
        having   bool_or(goes)
    )
"""

_FOUND: Final = """
    select   (select count(*) from reported where goes), source_topic, source_incarnation,
             source_partition, offset_block, merge_id
    from     page
    order by source_topic desc, source_incarnation desc, source_partition desc, offset_block desc,
             merge_id desc
    limit    1
"""

_KEY: Final = "source_topic, source_incarnation, source_partition, offset_block, merge_id"

_FIND_MERGED_RECORDS: Final = f"{_PAGE} {_FOUND}"

# Deletes the notes about merged records of these events.
_DELETE_MERGED_RECORDS: Final = f"""
    {_PAGE},
    emptied as (
        delete from normalizer.merged_records
        where  ({_KEY}) in (select {_KEY} from left_over where event_ids is null)
    ),
    shortened as (
        update normalizer.merged_records as kept
        set    source_offsets = left_over.source_offsets,
               source_indexes = left_over.source_indexes,
               event_ids      = left_over.event_ids
        from   left_over
        where  left_over.event_ids is not null
        and    (kept.source_topic, kept.source_incarnation, kept.source_partition,
                kept.offset_block, kept.merge_id)
               = (left_over.source_topic, left_over.source_incarnation, left_over.source_partition,
                  left_over.offset_block, left_over.merge_id)
    )
    {_FOUND}
"""  # noqa: S608 - parts from this module

# Reads a page of quarantined records. The bytes of a record are returned only if they may contain
# one of the names that records use for the execution. A record may spell a name with escapes, so
# the query searches for the longest part of it that is never escaped. The caller then searches the
# returned bytes for the whole names.
_READ_RAW: Final = """
    select   source_topic, source_incarnation, source_partition, source_offset,
             case when may.name_it then key end as key,
             case when may.name_it then value end as value,
             case when may.name_it then raw.header_values end as headers
    from     (
                 select   source_topic, source_incarnation, source_partition, source_offset, key,
                          value,
                          (
                              select string_agg(decode(header ->> 1, 'base64'), '\\x0a'::bytea)
                              from   jsonb_array_elements(headers) as header
                              where  header ->> 1 is not null
                          ) as header_values
                 from     normalizer.quarantine_raw
                 where    (source_topic, source_incarnation, source_partition, source_offset)
                          > ($1::text, $2::integer, $3::integer, $4::bigint)
                 order by source_topic, source_incarnation, source_partition, source_offset
                 limit    64
             ) as raw
    cross join lateral (
        select exists (
                   select
                   from   unnest($5::bytea[]) as name
                   where  position(name in key) > 0 or position(name in value) > 0
                   or     position(name in raw.header_values) > 0
               ) as name_it
    ) as may
    order by source_topic, source_incarnation, source_partition, source_offset
"""

_JOIN_RECORDS: Final = """
    join   unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
               as wanted (source_topic, source_incarnation, source_partition, source_offset)
           using (source_topic, source_incarnation, source_partition, source_offset)
"""

_ERASED_TEXT: Final = "'erased with its execution'"

# Also finds entries whose bytes retention has deleted.
_FIND_ENTRIES: Final = """
    select source_topic, source_incarnation, source_partition, source_offset
    from   normalizer.quarantine
    where  execution_id = $1::bigint
"""

_EMPTY_ENTRIES: Final = f"""
    update normalizer.quarantine
    set    detail = {_ERASED_TEXT}, sample = null, execution_id = nullif(execution_id, $5::bigint)
    where  quarantine_id in (select quarantine_id from normalizer.quarantine {_JOIN_RECORDS})
"""  # noqa: S608 - parts from this module

_EMPTY_ATTEMPTS: Final = f"""
    update normalizer.redrive_attempts
    set    detail = {_ERASED_TEXT}
    where  quarantine_id in (select quarantine_id from normalizer.quarantine {_JOIN_RECORDS})
"""  # noqa: S608 - parts from this module

# Empties the rows instead of deleting them. If a record is read again, its empty row prevents its
# bytes from being stored a second time. Rows that are already empty aren't counted. This may be a
# second try after the response to the first commit was lost, and the first try has counted them
# already.
_EMPTY_RAW: Final = f"""
    with gone as (
        update normalizer.quarantine_raw as raw
        set    key = null, value = null, headers = null, value_sha256 = '', whole = false,
               kept_at = 'infinity'
        from   (
                   select source_topic, source_incarnation, source_partition, source_offset
                   from   normalizer.quarantine_raw {_JOIN_RECORDS}
               ) as emptied
        where  (raw.source_topic, raw.source_incarnation, raw.source_partition, raw.source_offset)
             = (emptied.source_topic, emptied.source_incarnation, emptied.source_partition,
                emptied.source_offset)
        and    raw.kept_at <> 'infinity'
        returning 1
    )
    select count(*) from gone
"""  # noqa: S608 - parts from this module

_DELETE_ROW_REJECTIONS: Final = """
    delete from normalizer.job_rejections
    where  event_id in (
               select event_id from normalizer.events where execution_id = $1::bigint
           )
"""

_DELETE_ASSIGNED_IDS: Final = (
    "delete from normalizer.assigned_ids where event_id = any($1::bigint[])"
)

# Deletes the drift findings of erased records, because each finding quotes an example value. A
# record was either stored as a row of its own or merged into the row of another record, so the
# statement covers both cases.
_DELETE_DRIFT: Final = """
    delete from normalizer.drift_findings
    where  (source_topic, source_incarnation, source_partition, source_offset) in (
               select * from unnest($2::text[], $3::integer[], $4::integer[], $5::bigint[])
           )
    or     exists (
               select
               from   normalizer.merged_records as again
               cross join lateral unnest(again.source_offsets, again.event_ids)
                                      as reported (source_offset, event_id)
               where  again.source_topic = drift_findings.source_topic
               and    again.source_incarnation = drift_findings.source_incarnation
               and    again.source_partition = drift_findings.source_partition
               and    again.offset_block = drift_findings.source_offset >> 12
               and    reported.source_offset = drift_findings.source_offset
               and    reported.event_id in (select unnest($1::bigint[]))
           )
"""

_LOCK_EXECUTION: Final = "select projector.try_lock_executions(array[$1::bigint])"

# Skips locked rows. Waiting for one could cause a deadlock, because the process that locked it may
# be waiting for the execution, which this transaction has locked.
_LOCK_EVENTS: Final = """
    with locked as (
        select   event_id
        from     normalizer.events
        where    execution_id = $1::bigint
        order by event_id
        for update skip locked
    )
    select count(*) as locked,
           (select count(*) from normalizer.events where execution_id = $1::bigint) as stored
    from   locked
"""

_COUNT_EVENTS: Final = """
    select events from projector.execution_facts where execution_id = $1::bigint
"""

_DELETE_EXECUTION: Final = "select projector.delete_executions(array[$1::bigint])"

_ADD_ERASED: Final = """
    update normalizer.forgotten_executions
    set    events = events + $2::bigint, rejected = rejected + $3::bigint
    where  execution_id = $1::bigint
"""

_END: Final = """
    update normalizer.forgotten_executions
    set    ended_at = clock_timestamp()
    where  execution_id = $1::bigint
"""


class Forget:
    """Erases one execution. `count_rows` says what would be deleted, and `run` deletes it.

    If the database becomes unreachable in the middle, both wait until it responds again and
    continue. They raise StoreUnavailableError if it doesn't respond at the start, or if a batch
    that began earlier doesn't end. Both may also raise FatalError. After any of these errors you
    can run the same command again.
    """

    def __init__(self, database_url: str, execution: ExecutionToForget) -> None:
        self._execution = execution
        self._id = execution.execution_id
        self._session = RetryingSession(
            database_url,
            application_name="normalizer forget",
            settings=_SESSION,
        )
        self._done = JobProgress("events found", 0)

    def work_progress(self) -> JobProgress:
        """Return how far the current step is."""
        return self._done

    async def count_rows(self) -> ErasedCounts:
        """Count what would be deleted. Raises the same errors as `run`."""
        try:
            await self._session.run(self._check_not_divergent)
            found = await self._find()
            return ErasedCounts(
                events=len(found.event_ids),
                calls=found.calls,
                reports=await self._each_page(_FIND_MERGED_RECORDS, found),
                rejected=len(await self._rejected_records(found.names)),
            )
        finally:
            self._session.terminate()

    async def run(self, reason: ErasureWhoAndWhy) -> ErasedCounts:
        """Erase the execution. Returns how much this run has deleted."""
        try:
            await self._session.run(self._check_not_divergent)
            await self._session.fetch(_ADD_FORGOTTEN, self._id, reason.who, reason.why)
            await self._wait_for_writers()
            # Delete the events last, because all other rows are found through them. If a run
            # deleted the events first and then stopped, the next run couldn't find the remaining
            # rows.
            found = await self._find()
            rejected = await self._empty_rejected(found.names)
            await self._session.run(partial(self._drop_notes, found))
            reports = await self._each_page(_DELETE_MERGED_RECORDS, found)
            events = await self._delete(len(found.event_ids))
            await self._session.fetch(_END, self._id)
        finally:
            self._session.terminate()
        return ErasedCounts(events=events, calls=found.calls, reports=reports, rejected=rejected)

    async def _check_not_divergent(self, connection: asyncpg.Connection) -> None:
        """Raise FatalError if projections may differ from the events.

        Then the counts that stay would be wrong.
        """
        if await connection.fetchval(_IS_DIVERGENT, self._id):
            raise self._divergent()

    def _divergent(self) -> FatalError:
        return FatalError(
            f"execution {self._id} can't be erased yet, because its projections may differ from "
            "its events, and without the events nobody could correct its counts. Run `projector "
            f"repair --executions {self._id}`, then this command again"
        )

    async def _wait_for_writers(self) -> None:
        """Wait for transactions that may have read the list before the execution was added."""
        table = "normalizer.forgotten_executions"
        if not await wait_for_table_readers(self._session.fetch, table, _ABORT_AFTER_S):
            raise StoreUnavailableError(
                "database: an earlier batch is still running, and it may store events of this "
                "execution. Try again in a minute"
            )

    async def _find(self) -> _Found:
        found = _Found(names=self._execution.id_forms)
        for event_id, *place, coercions in await self._session.fetch(_FIND_EVENTS, self._id):
            found.event_ids.append(event_id)
            found.record_coordinates.append(tuple(place))
            found.names |= _opaque_names(coercions)
        self._done = JobProgress("events found", len(found.event_ids))
        found.calls = (await self._session.fetch(_COUNT_CALLS, self._id))[0][0]
        return found

    async def _rejected_records(self, names: set[str]) -> list[RecordCoordinates]:
        """Find the rejected records that name the execution.

        The name may be in the quarantine's entry, or in the record's key, value, or headers.
        """
        stored = _pattern(names)
        sought = [max(_UNESCAPED.findall(name), key=len, default="").encode() for name in names]
        entries = await self._session.fetch(_FIND_ENTRIES, self._id)
        found: set[RecordCoordinates] = {tuple(entry) for entry in entries}
        last: RecordCoordinates = ("", 0, 0, 0)
        read = 0
        while rows := await self._session.fetch(_READ_RAW, *last, sought):
            last = tuple(rows[-1])[:4]
            read += len(rows)
            self._done = JobProgress("rejected records read", read)
            found |= {
                tuple(row)[:4]
                for row in rows
                if any(part is not None and stored.search(part) for part in tuple(row)[4:])
            }
        return sorted(found)

    async def _empty_rejected(self, names: set[str]) -> int:
        record_coordinates = await self._rejected_records(names)

        async def empty(connection: asyncpg.Connection) -> None:
            columns = [list(column) for column in zip(*record_coordinates, strict=True)]
            await connection.execute(_EMPTY_ENTRIES, *columns, self._id)
            await connection.execute(_EMPTY_ATTEMPTS, *columns)
            emptied = await connection.fetchval(_EMPTY_RAW, *columns)
            await connection.execute(_ADD_ERASED, self._id, 0, emptied)

        if record_coordinates:
            await self._session.run(empty)
        return len(record_coordinates)

    async def _drop_notes(self, found: _Found, connection: asyncpg.Connection) -> None:
        """Delete the notes of the store and of the drift detector about these events."""
        ids = found.event_ids
        columns = [list(column) for column in zip(*found.record_coordinates, strict=True)]
        columns = columns or [[]] * 4
        await connection.execute(_DELETE_ASSIGNED_IDS, ids)
        await connection.execute(_DELETE_DRIFT, ids, *columns)

    async def _each_page(self, statement: str, found: _Found) -> int:
        """Run the statement on every page of merged records.

        Returns how many are about these events.
        """
        reports = pages = 0
        last: tuple[object, ...] = ("", 0, 0, 0, 0)
        while rows := await self._session.fetch(statement, *last, _ROWS_A_STEP, found.event_ids):
            reports, last = reports + rows[0][0], tuple(rows[0])[1:]
            pages += 1
            self._done = JobProgress("pages of merged records read", pages)
        return reports

    async def _delete(self, events: int) -> int:
        """Delete all events in one transaction, and return their number."""
        if_slow = (
            f"execution {self._id} has {events:,} events; run the same command again while the "
            "database has less to do"
        )
        while True:
            deleted = await self._session.run(self._delete_unless_locked, if_slow=if_slow)
            if deleted is not None:
                return deleted
            # Wait outside of the transaction, so that writers and retention can continue.
            await asyncio.sleep(_LOCKED_PAUSE_S)

    async def _delete_unless_locked(self, connection: asyncpg.Connection) -> int | None:
        """Return the number of deleted events, or None if the execution or a row is locked."""
        executions = await connection.fetchval(_LOCK_EXECUTION, self._id)
        events = await connection.fetchval(_COUNT_EVENTS, self._id)
        if events is not None and not executions:
            return None
        timeout_ms = max(_LEAST_TIMEOUT_MS, _TIMEOUT_AN_EVENT_MS * (events or 0))
        await connection.execute(f"set local statement_timeout = {timeout_ms}")
        wait_s = 2 * timeout_ms / 1000
        locked, stored = await connection.fetchrow(_LOCK_EVENTS, self._id, timeout=wait_s)
        if stored != (events or 0):
            raise self._divergent()
        if locked != stored:
            return None
        await connection.execute(_DELETE_ROW_REJECTIONS, self._id)
        deleted: int = await connection.fetchval(_DELETE_EXECUTION, self._id, timeout=wait_s)
        await connection.execute(_ADD_ERASED, self._id, deleted, 0)
        return deleted


_UNESCAPED: Final = re.compile("[0-9A-Za-z_.:@ -]+")
"""Characters that no JSON writer escapes. The longest run of them in a name is searched for first.
"""


def _opaque_names(coercions: bytes | None) -> set[str]:
    """Return the execution's ids that the producer sent as text, and that aren't numbers."""
    return {
        original
        for each in read_coercions(coercions)
        if (each.rule, each.field) == ("opaque_id", "execution_id") and each.original
        if isinstance(original := msgspec.json.decode(each.original), str)
    }


def _pattern(names: Iterable[str]) -> re.Pattern[bytes]:
    """Build a pattern for any of the names, plain or escaped, but not inside a longer word."""
    any_name = b"|".join(b"".join(map(_character, name)) for name in sorted(names))
    # Look for a name at the beginning of a word or right after an escape. In \\n5439, for example,
    # the letter n belongs to the escape, so the name 5439 begins after it.
    begins = rb"(?:(?<![0-9A-Za-z_-])|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4}))"
    return re.compile(begins + rb"(?:" + any_name + rb")(?![0-9A-Za-z_-])")


def _character(char: str) -> bytes:
    """Build a pattern for the character, plain or as any JSON writer may escape it."""
    units = char.encode("utf-16-be").hex("-", 2).split("-")
    escapes = {char, json.dumps(char)[1:-1], f"\\{char}" if char == "/" else char}
    plain = b"|".join(re.escape(escape.encode()) for escape in sorted(escapes))
    coded = "".join(rf"\\u{unit}" for unit in units).encode()
    return rb"(?:%b|(?i:%b))" % (plain, coded)
