"""Waits until every view includes a record, for scripts and tests."""

import asyncio
import time
from typing import Final

import asyncpg

from normalizer.errors import NormalizerError

_PAUSE_S: Final = 0.05

_READ_TO: Final = """
    select next_offset
    from   projector.freshness
    where  topic = $1::text and partition = $2::integer
"""

_QUARANTINED: Final = """
    select   quarantine_id, reason
    from     projector.quarantine_records as kept
    join     projector.freshness using (topic, partition, incarnation)
    where    topic = $1::text and partition = $2::integer and source_offset = $3::bigint
    and      redriven_at is null
    order by source_index
    limit    1
"""


class NotVisibleYetError(NormalizerError):
    """The record wasn't read in time. The message says how far its partition was read."""


class InQuarantineError(NormalizerError):
    """The record was read, and an event of it is in quarantine instead of in the views."""


async def wait_until_visible(
    connection: asyncpg.Connection,
    topic: str,
    partition: int,
    offset: int,
    *,
    timeout_s: float = 30.0,
) -> int:
    """Wait until `offset` is committed. Returns the next offset to read.

    Raises NotVisibleYetError after `timeout_s`, and InQuarantineError if the record was rejected.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        read_to: int | None = await connection.fetchval(_READ_TO, topic, partition)
        if read_to is not None and read_to > offset:
            if kept := await connection.fetchrow(_QUARANTINED, topic, partition, offset):
                raise InQuarantineError(
                    f"{topic}[{partition}]@{offset} is in quarantine ({kept['reason']}), so it "
                    f"isn't in the views. See: normalizer quarantine show {kept['quarantine_id']}"
                )
            return read_to
        if time.monotonic() > deadline:
            where = "read by nobody" if read_to is None else f"read to {read_to}"
            message = (
                f"{topic}[{partition}]: the partition was {where} after {timeout_s:g} s, so the "
                f"record at offset {offset} isn't in the views yet"
            )
            raise NotVisibleYetError(message)
        await asyncio.sleep(_PAUSE_S)
