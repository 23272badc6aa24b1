"""Reads stored events for the relay: all of them once, then those that were inserted or changed.

The changes stand in `event_changes` from the relay's registration on. They are read below the
oldest transaction that still runs: none that is passed can commit later.
"""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple

import asyncpg
import msgspec

from normalizer.envelope import Envelope
from normalizer.errors import FatalError
from normalizer.jobs import relay_statements as sql
from normalizer.jobs.engine.id_ranges import (
    BELOW_ALL_IDS,
    IdRange,
    IdRangeWalk,
    fetch_rows,
)
from normalizer.jobs.engine.job_statements import ALL_EVENTS
from normalizer.jobs.sources.row_pages import PageSize
from normalizer.kafka import CommittedOffset
from normalizer.store.session import Session
from normalizer.store.store_statements import READ_EVENTS

EVENTS_A_PAGE: Final = 5_000
START_AGAIN: Final = (
    "`normalizer relay --unregister`, then start it again: it sends every event again"
)
RESTORED: Final = (
    "this database has given numbers of transactions again that the relay had passed: "
    f"it was restored; {START_AGAIN}"
)
CHANGED_ROWS: Final = 250
"""Changed events read at once: each read is a query for each partition of theirs."""


class TablePosition(msgspec.Struct, frozen=True, kw_only=True):
    """How far the relay of one registration has come.

    `event_id` is there during the first pass, in which all stored events up to it are sent. After
    that all changes up to (transaction_id, change_id) are sent, and `ids_sent` ids of the next one.
    `noted_at` is that of the latest change among them. `revision_base` and the number of a
    transaction make a revision; no revision below `revision` is sent. `changes_table` is the
    table that the changes are read from.
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

    def committed(self) -> CommittedOffset:
        """What to commit to Kafka."""
        return CommittedOffset(self.transaction_id, msgspec.json.encode(self).decode())


def first_position(
    registration: str, now: "Horizon", before: TablePosition | None = None
) -> TablePosition:
    """Before every event; `before` is where an earlier registration of the group has come.

    Revisions begin at the clock and grow with transactions, of which there are fewer than
    microseconds. So they are greater than those of all earlier registrations, also where the
    database was restored into a cluster that has counted less transactions; and greater than the
    last one where the clock was set back.
    """
    first_revision = max(now.clock_us, before.revision + 1 if before else 0)
    return TablePosition(
        registration=registration,
        revision_base=first_revision - now.oldest_running,
        changes_table=now.changes_table,
        revision=first_revision,
        event_id=BELOW_ALL_IDS,
    )


def table_position(committed: CommittedOffset | None) -> TablePosition | None:
    """Read what was committed to Kafka; None if nothing, or by somebody else."""
    try:
        return None if committed is None else _decoder.decode(committed.metadata)
    except msgspec.MsgspecError:
        return None


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in the order in which they are sent, and the position after them.

    The position's revision never falls from page to page. An event is as it was then, or newer; if
    it changes after that, a later page with a greater revision has it.
    """

    position: TablePosition
    events: Sequence[Envelope] = ()


class Horizon(NamedTuple):
    """The cluster's oldest transaction that runs, and the one after the last that has ended.

    Its clock, and the table of changes.
    """

    oldest_running: int
    next_transaction: int
    clock_us: int
    changes_table: int


class Registration(NamedTuple):
    """The relay that changes are noted for."""

    name: str
    group_id: str


class RelayState(NamedTuple):
    """Whether the position and the database belong together; the age of the oldest change left."""

    is_registered: bool
    was_restored: bool
    went_back: bool
    lag_s: float


class StoredEventReader:
    """Reads over one connection. Every method raises StoreUnavailable and FatalError."""

    def __init__(self, database_url: str) -> None:
        self._session = Session(
            database_url,
            application_name="normalizer relay",
        )

    def terminate(self) -> None:
        """End the connection."""
        self._session.terminate()

    async def registration(self) -> Registration | None:
        """The registered relay; None while changes are not noted."""
        rows = await self._session.fetch(sql.READ_REGISTRATION)
        return Registration(*rows[0]) if rows else None

    async def register(self, registration: Registration) -> None:
        """Have changes noted from now on; nothing if a relay is registered."""
        await self._session.fetch(sql.REGISTER, *registration)

    async def horizon(self) -> Horizon:
        """Which transactions of the database run."""
        return Horizon(*(await self._session.fetch(sql.READ_HORIZON))[0])

    async def take_transaction(self) -> int:
        """Take the number of a transaction: the numbers of all that write already are below it."""
        ((transaction_id,),) = await self._session.fetch(sql.TAKE_TRANSACTION)
        return int(transaction_id)

    async def first_pass(self, position: TablePosition) -> AsyncGenerator[EventPage, None]:
        """Yield all stored events after the position, in the order of their ids."""
        assert position.event_id is not None
        walk = IdRangeWalk(self._session.fetch, EVENTS_A_PAGE)
        async for ids in walk.after(position.event_id):
            last_id = ids.low - 1
            while last_id < ids.high:
                left = IdRange(last_id + 1, ids.high)
                running, rows, last_id = await self._session.run_once(partial(_read_range, left))
                if rows:
                    position = _at_revision(
                        msgspec.structs.replace(position, event_id=last_id), running
                    )
                    yield EventPage(position=position, events=[Envelope(**row) for row in rows])
        yield EventPage(position=msgspec.structs.replace(position, event_id=None))

    async def changed(self, position: TablePosition) -> EventPage | None:
        """The events of the next changes, in the order of their last one; None if there are none.

        They are as they are now. A deleted one is left out.
        """
        return await self._session.run_once(partial(self._read_changed, position))

    async def state(self, position: TablePosition) -> RelayState:
        """Whether this position may be gone on from, and how much is left."""
        return RelayState(*(await self._session.fetch(sql.READ_STATE, *_marks(position)))[0])

    async def delete_sent(self, position: TablePosition) -> None:
        """Delete the changes up to the position and note it, unless another relay is registered."""
        await self._session.fetch(sql.DELETE_SENT, *_marks(position))

    async def _read_changed(
        self, position: TablePosition, connection: asyncpg.Connection
    ) -> EventPage | None:
        changes = await connection.fetch(sql.FIND_CHANGES, *_marks(position)[:2], EVENTS_A_PAGE)
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
        """Rows of ids[start:], each at its last place, that fit in memory; and where they end."""
        last_places = {event_id: place for place, event_id in enumerate(ids)}
        rows: list[asyncpg.Record] = []
        page = PageSize(CHANGED_ROWS)
        while start < len(ids) and not page.is_full:
            end = min(start + page.next_rows(), len(ids))
            wanted = sorted(
                ids[place] for place in range(start, end) if last_places[ids[place]] == place
            )
            read = await connection.fetch(READ_EVENTS, wanted)
            read.sort(key=lambda row: last_places[row["event_id"]])
            page.add(read)
            rows += read
            start = end
        return rows, start


async def unregister(database_url: str) -> None:
    """Have changes no longer noted, and forget those that are, however long that takes.

    Raises StoreUnavailable and FatalError.
    """
    session = Session(
        database_url,
        application_name="normalizer relay",
        command_timeout_s=None,
        settings={"statement_timeout": "0s"},
    )
    try:
        await session.fetch(sql.UNREGISTER)
    finally:
        session.terminate()


async def _read_range(
    ids: IdRange, connection: asyncpg.Connection
) -> tuple[int, list[asyncpg.Record], int]:
    """The oldest transaction, rows as they are then or newer, and the id of the last of them."""
    running = await connection.fetchval(sql.READ_HORIZON)
    rows, last_id = await fetch_rows(connection, ALL_EVENTS, ids)
    return running, rows, last_id


def _at_revision(position: TablePosition, oldest_running: int) -> TablePosition:
    """The position, of rows that are not older than this transaction. Raises FatalError."""
    revision = position.revision_base + oldest_running
    if revision < position.revision:
        raise FatalError(RESTORED)
    return msgspec.structs.replace(position, revision=revision)


def _marks(position: TablePosition) -> tuple[int, int, datetime, str]:
    """The position, as the statements take it."""
    return (
        position.transaction_id,
        position.change_id,
        position.noted_at,
        position.registration,
    )


def _position_after(
    position: TablePosition, changes: Sequence[asyncpg.Record], ids_read: int
) -> TablePosition:
    """The position after this many ids of the changes."""
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


_decoder: Final[msgspec.json.Decoder[TablePosition]] = msgspec.json.Decoder(TablePosition)
