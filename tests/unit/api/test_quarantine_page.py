"""What `normalizer quarantine show` prints of a rejected record's content."""

from datetime import UTC, datetime
from typing import Final

import pytest

from normalizer.store.quarantine_reader import (
    QuarantineEntry,
    RejectedRecordBytes,
    format_quarantine_entry,
)

ENTRY: Final = QuarantineEntry(
    quarantine_id=1,
    quarantined_at=datetime(2026, 7, 10, tzinfo=UTC),
    reason="missing_execution_id",
    detail="execution_id: expected an id, got none",
    sqlstate=None,
    shape="",
    normalizer_version=3,
    source_topic="noetl.events",
    source_incarnation=0,
    source_partition=0,
    source_offset=7,
    source_index=0,
    value_bytes=9,
    recorded_at=None,
    redriven_at=None,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b'{"password":"hunter2"}', '{"password":"[REDACTED]"}'),
        (b"\0\0\0\0\7\2\6", "not shown, because only JSON can be redacted (--raw shows it)"),
        (
            rb'{"specversion":"1.0","data\u005fbase64":"aHVudGVyMg=="}',
            "not shown, because base64 can't be redacted (--raw shows it)",
        ),
    ],
    ids=["JSON", "a frame", "base64"],
)
def test_content_is_shown_only_where_secrets_can_be_seen(value: bytes, shown: str) -> None:
    kept = RejectedRecordBytes(key=None, value=value, headers=None, sha256="00", whole=True)

    printed = format_quarantine_entry(ENTRY, kept, raw=False)

    assert printed.splitlines()[-1].split(maxsplit=1) == ["content", shown]
