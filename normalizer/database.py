"""Opens connections to PostgreSQL: every one of the normalizer and of the projector.

What holds for all of them is decided here. A rule test finds calls of asyncpg elsewhere.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import asyncpg

CONNECT_S: Final = 10.0
"""How long opening a connection may take, with its authentication."""

NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})


async def connect(
    database_url: str,
    *,
    application_name: str,
    session: Mapping[str, str] = NO_SETTINGS,
    command_timeout_s: float | None = None,
    **of_pool: Any,
) -> asyncpg.Connection:
    """Open a connection. The caller closes it, and handles asyncpg's errors.

    `session` are the server settings of its session; times are in UTC. Without `command_timeout_s`
    a statement waits for its answer without end. `of_pool` is what asyncpg's pool adds.
    """
    return await asyncpg.connect(
        database_url,
        timeout=CONNECT_S,
        command_timeout=command_timeout_s,
        server_settings={"TimeZone": "UTC", "application_name": application_name, **session},
        **of_pool,
    )
