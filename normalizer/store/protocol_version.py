"""Rejects a database that was migrated for another protocol version than this code writes."""

from typing import Final

import asyncpg

from normalizer.errors import FatalError

_PROTOCOL_VERSION: Final = 1
"""The version of the rules for ids and identity. normalizer.layout has the one that's in force."""


_PROTOCOL: Final = "select protocol from normalizer.layout"


async def check_writer_protocol(connection: asyncpg.Connection) -> None:
    """Raise FatalError if the database requires another protocol version than ours.

    Call this after claiming a position or a job's run. A migration that changes the protocol also
    ends all earlier claims. So once this check has succeeded, it holds for as long as the claim
    does.
    """
    in_force = await connection.fetchval(_PROTOCOL)
    if in_force != _PROTOCOL_VERSION:
        raise FatalError(
            f"the database requires protocol {in_force}, but this version of normalizer writes "
            f"protocol {_PROTOCOL_VERSION}, so it could store the same event again under another "
            "id. Run the version of normalizer that migrated this database last"
        )
