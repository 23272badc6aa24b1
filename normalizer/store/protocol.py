"""A connection in; an error out where this code must not write to that database."""

from typing import Final

import asyncpg

from normalizer.errors import FatalError
from normalizer.store import store_statements

PROTOCOL: Final = 1
"""How this code decides ids and identity; normalizer.layout names the one that is in force."""


async def check_protocol(connection: asyncpg.Connection) -> None:
    """Raises FatalError where a migration has changed what a writer decides.

    To be asked after the position, or the run of the job, was taken: the migration fences whoever
    took it before.
    """
    in_force = await connection.fetchval(store_statements.PROTOCOL)
    if in_force != PROTOCOL:
        raise FatalError(
            f"the database asks for protocol {in_force}, this version of normalizer writes by "
            f"{PROTOCOL}: one event would be stored under two ids; run the version that goes with "
            "the newest migration"
        )
