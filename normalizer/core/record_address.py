"""Parses how a user names a record or a partition.

It accepts both notations that we print. The commands use noetl.events:3:1042, and logs show the
same record as noetl.events[3]@1042.
"""

import re
from typing import Final, NamedTuple

_PARTITION: Final = r"(?P<topic>.{1,249}?)(?::(?P<colon>[0-9]{1,9})|\[(?P<bracket>[0-9]{1,9})\])"
_PARTITION_ALONE: Final = re.compile(_PARTITION)
_RECORD: Final = re.compile(_PARTITION + r"(?(colon):|@)(?P<offset>[0-9]{1,18})")

PARTITION_SYNTAX: Final = "TOPIC:PARTITION or TOPIC[PARTITION], for example noetl.events:3"
RECORD_ADDRESS_SYNTAX: Final = (
    "TOPIC:PARTITION:OFFSET or TOPIC[PARTITION]@OFFSET, for example noetl.events:3:1042"
)


class RecordAddress(NamedTuple):
    """One offset of one partition."""

    topic: str
    partition: int
    offset: int


def parse_record_address_or_none(text: str) -> RecordAddress | None:
    """Parse the name of a record, or return None. The topic may contain colons."""
    found = _RECORD.fullmatch(text.strip())
    if found is None:
        return None
    return RecordAddress(found["topic"], _number(found), int(found["offset"]))


def parse_topic_partition_or_none(text: str) -> tuple[str, int] | None:
    """Parse a topic and partition, or return None. The topic may contain colons."""
    found = _PARTITION_ALONE.fullmatch(text.strip())
    return None if found is None else (found["topic"], _number(found))


def _number(found: re.Match[str]) -> int:
    return int(found["colon"] or found["bracket"])
