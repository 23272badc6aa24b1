"""Reads all stored events for the relay once, and then those that were inserted or changed.

Once a relay is registered, triggers record the ids of all inserted and changed events in the table
`event_changes`, under the number of their transaction. Transactions don't commit in the order of
their numbers. So the relay reads a change only after every transaction with a lower number has
ended. Otherwise a change could still appear before the relay's position, and would be missed.

The statements use transaction ids of 64 bits as bigint. They're counted from the cluster's first
transaction, so they never wrap around.
"""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple

import asyncpg
import msgspec

from normalizer.envelope import Envelope
from normalizer.errors import FatalError
from normalizer.jobs.engine.id_ranges import (
    BELOW_ALL_IDS,
    READ_EVENTS_IN_RANGE_SQL,
    IdRange,
    IdRangeWalk,
    fetch_fitting_rows_and_end,
)
from normalizer.jobs.sources.row_pages import PageBudget
from normalizer.kafka import CommittedOffset
from normalizer.store.session import Session
from normalizer.store.stored_rows import READ_EVENTS_SQL

_EVENTS_PER_PAGE: Final = 5_000
START_AGAIN_REMEDY: Final = (
    "Run `normalizer relay --unregister`, and start the relay again. It then sends every event "
    "again"
)
DATABASE_RESTORED_MESSAGE: Final = (
    "this database was restored, because it reuses transaction numbers that the relay has "
    f"passed. {START_AGAIN_REMEDY}"
)
_CHANGES_PER_READ: Final = 250
"""How many changed events to read at once. Each read is one query per partition of the table
`events`."""


class EventsTablePosition(msgspec.Struct, frozen=True, kw_only=True):
    """How far a relay has read the stored events. It's committed to Kafka with the events sent.

    The relay first sends all stored events, sorted by id. During this first pass, `event_id` is the
    last id that was sent. Afterwards it's None.

    From then on, the relay sends changes. It has sent all changes up to (transaction_id,
    change_id), and the first `ids_sent` ids of the next one. `noted_at` is the time of the latest
    change that was sent.

    If readers get two records of one event, the one with the higher revision is newer. A revision
    is `revision_base` plus a transaction's number. No revision below `revision` will be sent any
    more.

    `changes_table` identifies the table with the changes, so that the relay notices a restored
    database. `registration` is the random name under which this relay is registered.
    """

    registration: str
    revision_base: int
    changes_table: int
    revision: int = 0
    event_id: int | None = None
    transaction_id: int = 0
    change_id: int = 0
    ids_sent: int = 0
    noted_at: datetime = datetime.min.replace(tzinfo=UTC)

    def to_offset_and_metadata(self) -> CommittedOffset:
        """Return the offset and metadata to commit to Kafka."""
        return CommittedOffset(self.transaction_id, msgspec.json.encode(self).decode())


def first_events_table_position(
    registration: str, now: "TransactionSnapshot", before: EventsTablePosition | None = None
) -> EventsTablePosition:
    """Return the position from which a newly registered relay sends every event.

    `before` is the position of an earlier registration, if there was one. Revisions begin at the
    server's clock, in microseconds, and grow by one per transaction. They can't overtake the clock,
    because a database runs fewer than a million transactions per second. So the new revisions are
    higher than all earlier ones, even if the database was restored and its transactions have lower
    numbers now. If the clock was set back, revisions begin above the last one instead.
    """
    first_revision = max(now.clock_us, before.revision + 1 if before else 0)
    return EventsTablePosition(
        registration=registration,
        revision_base=first_revision - now.oldest_running,
        changes_table=now.changes_table,
        revision=first_revision,
        event_id=BELOW_ALL_IDS,
    )


def parse_events_table_position(committed: CommittedOffset | None) -> EventsTablePosition | None:
    """Read the position that was committed to Kafka. Returns None if there's none of this relay."""
    if committed is None:
        return None
    try:
        return msgspec.json.decode(committed.metadata, type=EventsTablePosition)
    except msgspec.MsgspecError:
        return None


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in the order in which to send them, and the position after them.

    The events were read at the position's revision or later. If one of them changes again, a later
    page contains it with a higher revision. Revisions never decrease from page to page.
    """

    position: EventsTablePosition
    events: Sequence[Envelope] = ()


class TransactionSnapshot(NamedTuple):
    """Which transactions of the database had ended when it was queried.

    All transactions below `oldest_running` had ended, and none from `next_transaction` on had
    begun. `clock_us` is the server's clock in microseconds, and `changes_table` identifies the
    table of changes.
    """

    oldest_running: int
    next_transaction: int
    clock_us: int
    changes_table: int


class RelayRegistration(NamedTuple):
    """The relay for which the database records changes."""

    name: str
    group_id: str


class RelayHealth(NamedTuple):
    """Whether the relay's position belongs to the database, and the oldest unsent change's age."""

    is_registered: bool
    was_restored: bool
    went_back: bool
    lag_s: float


_READ_REGISTRATION: Final = "select registration, group_id from normalizer.relay_registration"

_REGISTER_RELAY: Final = """
    insert into normalizer.relay_registration (registration, group_id)
    values ($1::text, $2::text)
    on conflict on constraint relay_registration_pkey do nothing
"""

# Returns a new transaction's number, which is above those of all transactions that have one.
_ALLOCATE_TRANSACTION_ID: Final = "select pg_current_xact_id()::text::bigint"

# Returns two transaction ids from one snapshot. All transactions below `oldest_running` have ended,
# and no transaction from `next_transaction` on had begun yet. The statement also returns the
# server's clock and the oid of the table of changes. A restore from a dump creates that table again
# with another oid, so the oid reveals the restore.
_READ_HORIZON: Final = """
    select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest_running,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next_transaction,
           (extract(epoch from clock_timestamp()) * 1000000)::bigint as clock_us,
           'normalizer.event_changes'::regclass::oid::bigint as changes_table
"""

# Returns whole changes, until these have $3 ids or more.
_FIND_CHANGES: Final = """
    with later as (
        select   transaction_id, change_id, event_ids, noted_at,
                 sum(cardinality(event_ids)) over (order by transaction_id, change_id)
                     - cardinality(event_ids) as ids_before
        from     (
                     select   *
                     from     normalizer.event_changes
                     where    (transaction_id, change_id) > ($1::bigint::text::xid8, $2::bigint)
                     and      transaction_id < pg_snapshot_xmin(pg_current_snapshot())
                     order by transaction_id, change_id
                     limit    1000
                 ) as next
    )
    select   transaction_id::text::bigint as transaction_id, change_id, event_ids, noted_at,
             pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest_running
    from     later
    where    ids_before < $3::integer
    order by later.transaction_id, change_id
"""

# Deletes the changes that were sent, if this relay is still registered. A restored database may
# hold changes that have lower numbers than the latest sent one, but were recorded after it ($3).
# Such a change was never sent, so it's kept. _READ_STATE reports the restore.
_DELETE_SENT: Final = """
    with moved as (
        update normalizer.relay_registration
        set    sent_transaction_id = $1::bigint::text::xid8, sent_change_id = $2::bigint
        where  registration = $4::text
        and    (sent_transaction_id, sent_change_id) < ($1::bigint::text::xid8, $2::bigint)
        returning true
    )
    delete from normalizer.event_changes
    where  (transaction_id, change_id) <= ($1::bigint::text::xid8, $2::bigint)
    and    noted_at <= $3::timestamptz
    and    exists (select from moved)
"""

# Returns the state of the relay's tables, including whether the database was restored from a
# backup. A restored database may assign transaction ids that it has used before. The relay has
# already passed these ids, so it would never send the new changes. Two kinds of changes reveal a
# restore:
#     - a change whose id the relay has passed, but which was recorded after the latest sent change
#     - a change that came from the backup, with an id that the server hasn't assigned yet
# In both cases the relay stops with the error DATABASE_RESTORED_MESSAGE.
_READ_STATE: Final = """
    select exists (
               select from normalizer.relay_registration where registration = $4::text
           ) as is_registered,
           exists (
               select from normalizer.event_changes
               where  (transaction_id, change_id) <= ($1::bigint::text::xid8, $2::bigint)
               and    noted_at > $3::timestamptz
           ) or exists (
               select from normalizer.event_changes
               where  transaction_id >= pg_snapshot_xmax(pg_current_snapshot())
           ) as was_restored,
           exists (
               select from normalizer.relay_registration
               where  registration = $4::text
               and    (sent_transaction_id, sent_change_id)
                      > ($1::bigint::text::xid8, $2::bigint)
           ) as went_back,
           coalesce(
               (
                   select   extract(epoch from clock_timestamp() - noted_at)
                   from     normalizer.event_changes
                   where    (transaction_id, change_id) > ($1::bigint::text::xid8, $2::bigint)
                   order by transaction_id, change_id
                   limit    1
               ),
               0
           )::double precision as lag_s
"""


class StoredEventReader:
    """Reads events over one connection.

    Every method raises StoreUnavailableError and FatalError.
    """

    def __init__(self, database_url: str) -> None:
        self._session = Session(
            database_url,
            application_name="normalizer relay",
        )

    def terminate(self) -> None:
        """End the connection."""
        self._session.terminate()

    async def read_registration(self) -> RelayRegistration | None:
        """Return the registered relay, or None if no changes are being recorded."""
        rows = await self._session.fetch(_READ_REGISTRATION)
        return RelayRegistration(*rows[0]) if rows else None

    async def register_relay(self, registration: RelayRegistration) -> None:
        """Register the relay, so that changes are recorded. Does nothing if one is registered."""
        await self._session.fetch(_REGISTER_RELAY, *registration)

    async def read_snapshot(self) -> TransactionSnapshot:
        """Return which transactions of the database are running."""
        return TransactionSnapshot(*(await self._session.fetch(_READ_HORIZON))[0])

    async def allocate_transaction_id(self) -> int:
        """Begin and end a transaction, and return its id.

        Every transaction that has written anything until now has a lower id.
        """
        ((transaction_id,),) = await self._session.fetch(_ALLOCATE_TRANSACTION_ID)
        return int(transaction_id)

    async def read_remaining_events(
        self, position: EventsTablePosition
    ) -> AsyncGenerator[EventPage, None]:
        """Yield all stored events after the position, sorted by id."""
        assert position.event_id is not None
        walk = IdRangeWalk(self._session.fetch, _EVENTS_PER_PAGE)
        async for ids in walk.ranges_above(position.event_id):
            last_id = ids.low - 1
            while last_id < ids.high:
                left = IdRange(last_id + 1, ids.high)
                running, rows, last_id = await self._session.run(partial(_read_range, left))
                if rows:
                    position = _at_revision(
                        msgspec.structs.replace(position, event_id=last_id), running
                    )
                    yield EventPage(position=position, events=[Envelope(**row) for row in rows])
        yield EventPage(position=msgspec.structs.replace(position, event_id=None))

    async def read_changes(self, position: EventsTablePosition) -> EventPage | None:
        """Return the events of the next changes, or None if there are none.

        Events are sorted by their last change. An event that changed several times is returned only
        once, in its present state. Deleted events are left out.
        """
        return await self._session.run(partial(self._read_changed, position))

    async def read_relay_health(self, position: EventsTablePosition) -> RelayHealth:
        """Return whether the relay can continue from this position, and its lag."""
        return RelayHealth(*(await self._session.fetch(_READ_STATE, *_marks(position)))[0])

    async def delete_sent_changes(self, position: EventsTablePosition) -> None:
        """Delete the changes up to the position, and store the position.

        Does nothing if another relay has taken over.
        """
        await self._session.fetch(_DELETE_SENT, *_marks(position))

    async def _read_changed(
        self, position: EventsTablePosition, connection: asyncpg.Connection
    ) -> EventPage | None:
        changes = await connection.fetch(_FIND_CHANGES, *_marks(position)[:2], _EVENTS_PER_PAGE)
        if not changes:
            return None
        ids = [event_id for change in changes for event_id in change["event_ids"]]
        rows, ids_read = await self._read_rows(ids, position.ids_sent, connection)
        return EventPage(
            position=_at_revision(
                _position_after(position, changes, ids_read), changes[0]["oldest_running"]
            ),
            events=[Envelope(**row) for row in rows],
        )

    async def _read_rows(
        self, ids: Sequence[int], start: int, connection: asyncpg.Connection
    ) -> tuple[list[asyncpg.Record], int]:
        """Return as many rows of ids[start:] as fit in memory, and the index after the last one.

        If an id occurs more than once in `ids`, its row is returned only for the last occurrence.
        """
        last_places = {event_id: place for place, event_id in enumerate(ids)}
        rows: list[asyncpg.Record] = []
        page = PageBudget(_CHANGES_PER_READ)
        while start < len(ids) and not page.is_full:
            end = min(start + page.rows_to_fetch(), len(ids))
            wanted = sorted(
                ids[place] for place in range(start, end) if last_places[ids[place]] == place
            )
            read = await connection.fetch(READ_EVENTS_SQL, wanted)
            read.sort(key=lambda row: last_places[row["event_id"]])
            page.add_rows(read)
            rows += read
            start = end
        return rows, start


# Deletes the registration and the recorded changes in a single statement. With two statements,
# another relay could register in between, and the second statement would delete the changes
# recorded for that relay. The registration is deleted first, because a running relay also locks the
# two tables in that order (_DELETE_SENT). The opposite order could cause a deadlock.
_UNREGISTER: Final = """
    with gone as (delete from normalizer.relay_registration returning true)
    delete from normalizer.event_changes
    where  (select count(*) from gone) >= 0
"""


async def unregister_relay(database_url: str) -> None:
    """Stop recording changes, and delete those that were recorded.

    This has no time limit, because there may be many. Raises StoreUnavailableError and FatalError.
    """
    session = Session(
        database_url,
        application_name="normalizer relay",
        command_timeout_s=None,
        settings={"statement_timeout": "0s"},
    )
    try:
        await session.fetch(_UNREGISTER)
    finally:
        session.terminate()


async def _read_range(
    ids: IdRange, connection: asyncpg.Connection
) -> tuple[int, list[asyncpg.Record], int]:
    """Return the number of the oldest running transaction, the rows, and the last row's id.

    The number is read before the rows, so the rows have the changes of all transactions with lower
    numbers. They may have some later changes too.
    """
    running = await connection.fetchval(_READ_HORIZON)
    rows, last_id = await fetch_fitting_rows_and_end(READ_EVENTS_IN_RANGE_SQL, ids, (), connection)
    return running, rows, last_id


def _at_revision(position: EventsTablePosition, oldest_running: int) -> EventsTablePosition:
    """Return the position for rows that aren't older than this transaction. Raises FatalError."""
    revision = position.revision_base + oldest_running
    if revision < position.revision:
        raise FatalError(DATABASE_RESTORED_MESSAGE)
    return msgspec.structs.replace(position, revision=revision)


def _marks(position: EventsTablePosition) -> tuple[int, int, datetime, str]:
    """Return the position as parameters of the statements."""
    return (
        position.transaction_id,
        position.change_id,
        position.noted_at,
        position.registration,
    )


def _position_after(
    position: EventsTablePosition, changes: Sequence[asyncpg.Record], ids_read: int
) -> EventsTablePosition:
    """Return the position after this many ids of the changes."""
    for change in changes:
        if ids_read < len(change["event_ids"]):
            break
        ids_read -= len(change["event_ids"])
        position = msgspec.structs.replace(
            position,
            transaction_id=change["transaction_id"],
            change_id=change["change_id"],
            noted_at=max(position.noted_at, change["noted_at"]),
        )
    return msgspec.structs.replace(position, ids_sent=ids_read)
