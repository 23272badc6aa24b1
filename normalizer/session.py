"""Work in, one READ COMMITTED transaction out; the database's errors die here."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg

from normalizer import statements
from normalizer.buckets import Buckets
from normalizer.errors import StoreUnavailable
from normalizer.rows import RowRefused
from normalizer.sqlstate import FOREIGN_ERRORS, Fault, fault_of, translated

_T = TypeVar("_T")
_Work = Callable[[asyncpg.Connection], Awaitable[_T]]

_SETTINGS: Final = {
    # A frozen process must not hold its positions for ever, nor a statement wait for ever.
    "statement_timeout": "120s",
    "idle_in_transaction_session_timeout": "60s",
    "lock_timeout": "60s",
    "search_path": "normalizer, public",
    "TimeZone": "UTC",
}


class OnceMore(Exception):  # noqa: N818 - never leaves the store
    """Another writer was first, or a bucket was missing: the batch is done again at once."""


class Session:
    """One connection, made when it is needed and again after an outage; not for two tasks."""

    def __init__(self, database_url: str, *, application_name: str, buckets: Buckets) -> None:
        self._database_url = database_url
        self._settings = _SETTINGS | {"application_name": application_name}
        self._buckets = buckets
        self._connection: asyncpg.Connection | None = None

    async def transaction(self, work: _Work[_T], *, rolled_back: bool = False) -> _T:
        """Do the work in a READ COMMITTED transaction; foreign errors die here.

        Raises RowRefused, OnceMore, StoreUnavailable or FatalError; nothing is written then.
        """
        try:
            connection = await self._connected()
            transaction = connection.transaction()
            await transaction.start()
            try:
                answer = await work(connection)
            except BaseException:
                await self._roll_back(transaction)
                raise
            await (transaction.rollback() if rolled_back else transaction.commit())
        except FOREIGN_ERRORS as error:
            match fault_of(error, copying=False):
                case Fault.RECORD:
                    raise RowRefused from error
                case Fault.RACE:
                    raise OnceMore from error
                case Fault.BUCKET:
                    self._buckets.forget()
                    raise OnceMore from error
                case Fault.MOMENT | Fault.OURS:
                    raise translated(error) from error
        else:
            return answer

    async def at_once(self, work: _Work[_T], *, rolled_back: bool = False) -> _T:
        """Work that has no rows of a batch: what a batch would do again, the caller does."""
        try:
            return await self.transaction(work, rolled_back=rolled_back)
        except (RowRefused, OnceMore) as error:
            message = "database: another writer was first"
            raise StoreUnavailable(message) from error

    def hang_up(self) -> None:
        """End the connection at once."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            connection = await asyncpg.connect(
                self._database_url, server_settings=self._settings, timeout=10
            )
            self._connection = connection
            await connection.set_type_codec(
                "jsonb",
                schema="pg_catalog",
                encoder=_encode_jsonb,
                decoder=_decode_jsonb,
                format="binary",
            )
            self._buckets.shift = await connection.fetchval(statements.BUCKET_SHIFT)
        return self._connection

    async def _roll_back(self, transaction: asyncpg.transaction.Transaction) -> None:
        """Roll back if that can still be done; a connection in doubt is given up."""
        try:
            await transaction.rollback()
        except FOREIGN_ERRORS:
            self.hang_up()


def _encode_jsonb(value: bytes) -> bytes:
    """JSON text as jsonb's binary form takes it: a version byte, then the bytes as they are."""
    return b"\x01" + value


def _decode_jsonb(value: bytes) -> bytes:
    return bytes(value[1:])
