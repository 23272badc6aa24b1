"""Opens short connections that only read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from normalizer.postgres.database import COMMAND_TIMEOUT_S, closing, connect
from normalizer.store.connect_error import translate_connect_error
from normalizer.store.sqlstate import STATEMENT_ERRORS, translate_error

READ_ONLY_SESSION_SETTINGS: Final = {
    "transaction_read_only": "on",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "10s",
    "search_path": "normalizer, public",
}


@asynccontextmanager
async def read_only_connection(
    database_url: str,
    *,
    application_name: str = "normalizer command",
    command_timeout_s: float | None = None,
    **settings: str,
) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection for a block. `settings` override those of READ_ONLY_SESSION_SETTINGS.

    Raises StoreUnavailableError and FatalError, by SQLSTATE.
    """
    try:
        connection = await connect(
            database_url,
            application_name=application_name,
            session=READ_ONLY_SESSION_SETTINGS | settings,
            command_timeout_s=command_timeout_s or COMMAND_TIMEOUT_S,
        )
    except STATEMENT_ERRORS as error:
        raise translate_connect_error(error, database_url) from error
    try:
        async with closing(connection):
            yield connection
    except STATEMENT_ERRORS as error:
        raise translate_error(error) from error
