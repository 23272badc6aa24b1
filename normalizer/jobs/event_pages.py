"""Reads stored events for the relay: all of them once, then those that were inserted or changed.

The changes stand in `event_changes` from the relay's registration on. They are read below the
oldest transaction that still runs: none that is passed can commit later.
"""

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from normalizer.envelope import Envelope
from normalizer.jobs import relay_statements as sql
from normalizer.jobs.engine.id_ranges import (
    BELOW_ALL_IDS,
    IdRange,
    IdRangeWalk,
    fetch_rows,
)
from normalizer.kafka import CommittedOffset
from normalizer.store.grid import Grid
from normalizer.store.session import Session

EVENTS_A_PAGE: Final = 5_000


class TablePosition(msgspec.Struct, frozen=True, kw_only=True):
    """How far the relay of one registration has come.

    `event_id` is there during the first pass, in which all stored events up to it are sent. After
    that all changes up to (transaction_id, change_id) are sent.
    """

    registration: str
    event_id: int | None = None
    transaction_id: int = 0
    change_id: int = 0

    def committed(self) -> CommittedOffset:
        """What to commit to Kafka."""
        return CommittedOffset(self.transaction_id, msgspec.json.encode(self).decode())


def first_position(registration: str) -> TablePosition:
    """Before every event."""
    return TablePosition(registration=registration, event_id=BELOW_ALL_IDS)


def table_position(committed: CommittedOffset | None) -> TablePosition | None:
    """Read what was committed to Kafka; None if nothing, or by somebody else."""
    try:
        return None if committed is None else _decoder.decode(committed.metadata)
    except msgspec.MsgspecError:
        return None


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in the order in which they are sent, and the position after them.

    `revision` never falls from page to page. An event is as it was then, or newer; if it changes
    after that, a later page with a greater revision has it.
    """

    position: TablePosition
    revision: int = 0
    events: Sequence[Envelope] = ()


class Horizon(NamedTuple):
    """The oldest transaction of the database that still runs, and the next one to begin."""

    oldest_running: int
    next_transaction: int


class Registration(NamedTuple):
    """The relay that changes are noted for."""

    name: str
    group_id: str


class StoredEventReader:
    """Reads over one connection. Every method raises StoreUnavailable and FatalError."""

    def __init__(self, database_url: str) -> None:
        self._grid = Grid()
        self._session = Session(
            database_url,
            application_name="normalizer relay",
            grid=self._grid,
            settings={},
        )

    def terminate(self) -> None:
        """End the connection."""
        self._session.terminate()

    async def registration(self) -> Registration | None:
        """The registered relay; None while changes are not noted."""
        row = await self._fetch_row(sql.READ_REGISTRATION)
        return None if row is None else Registration(*row)

    async def register(self, registration: Registration) -> None:
        """Have changes noted from now on; nothing if a relay is registered."""
        await self._execute(sql.REGISTER, *registration)

    async def unregister(self) -> None:
        """Have changes no longer noted, and forget those that are."""
        await self._execute(sql.UNREGISTER)
        await self._execute(sql.FORGET_CHANGES)

    async def horizon(self) -> Horizon:
        """Which transactions of the database run."""
        return Horizon(*await self._fetch_row(sql.READ_HORIZON))

    async def first_pass(self, position: TablePosition) -> AsyncGenerator[EventPage, None]:
        """Yield all stored events after the position, in the order of their ids."""
        assert position.event_id is not None
        walk = IdRangeWalk(self._session.run_once, EVENTS_A_PAGE)
        async for ids in walk.after(position.event_id):
            last_id = ids.low - 1
            while last_id < ids.high:
                left = IdRange(last_id + 1, ids.high)
                revision, rows, last_id = await self._session.run_once(partial(_read_range, left))
                if rows:
                    yield EventPage(
                        position=msgspec.structs.replace(position, event_id=last_id),
                        revision=revision,
                        events=[Envelope(**row) for row in rows],
                    )
        yield EventPage(position=msgspec.structs.replace(position, event_id=None))

    async def changed(self, position: TablePosition) -> EventPage | None:
        """The events of the next changes, in the order of their last one; None if there are none.

        They are as they are now. A deleted one is left out.
        """
        return await self._session.run_once(partial(self._read_changed, position))

    async def delete_sent(self, position: TablePosition) -> float:
        """Delete the changes up to the position; return the age of the oldest that is left."""
        place = (position.transaction_id, position.change_id)
        await self._execute(sql.DELETE_SENT, *place)
        oldest = await self._fetch_row(sql.READ_LAG, *place)
        return oldest["lag_s"] if oldest else 0.0

    async def _read_changed(
        self, position: TablePosition, connection: asyncpg.Connection
    ) -> EventPage | None:
        place = (position.transaction_id, position.change_id)
        changes = await connection.fetch(sql.FIND_CHANGES, *place, EVENTS_A_PAGE)
        if not changes:
            return None
        order = {
            event_id: number
            for number, change in enumerate(changes)
            for event_id in change["event_ids"]
        }
        rows = [
            row
            for low, high, ids in self._grid.grouped(sorted(order))
            for row in await connection.fetch(sql.READ_EVENTS, low, high, ids)
        ]
        rows.sort(key=lambda row: order[row["event_id"]])
        last = changes[-1]
        return EventPage(
            position=msgspec.structs.replace(
                position, transaction_id=last["transaction_id"], change_id=last["change_id"]
            ),
            revision=last["oldest_running"],
            events=[Envelope(**row) for row in rows],
        )

    async def _execute(self, statement: str, *values: object) -> None:
        async def execute(connection: asyncpg.Connection) -> None:
            await connection.execute(statement, *values)

        await self._session.run_once(execute)

    async def _fetch_row(self, statement: str, *values: object) -> Any:
        async def fetch(connection: asyncpg.Connection) -> Any:
            return await connection.fetchrow(statement, *values)

        return await self._session.run_once(fetch)


async def _read_range(
    ids: IdRange, connection: asyncpg.Connection
) -> tuple[int, list[asyncpg.Record], int]:
    """A revision, rows that are not older than it, and the id up to which they are complete."""
    revision = await connection.fetchval(sql.READ_HORIZON)
    rows, last_id = await fetch_rows(connection, sql.EVENTS_BETWEEN, ids)
    return revision, rows, last_id


_decoder: Final[msgspec.json.Decoder[TablePosition]] = msgspec.json.Decoder(TablePosition)
