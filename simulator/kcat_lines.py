"""Writes records as lines of JSON, as `kcat -J` prints them.

Headers are a flat list of names and values: `["name", "value", ...]`. A value or key that isn't
UTF-8 is written in base64, under `payload_b64` or `key_b64`, which are our own additions to kcat's
format. A header value that isn't UTF-8 is written as the canonical envelope stores it.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from simulator.packing import header_text
from simulator.sent_record import SentRecord

_encode = msgspec.json.Encoder().encode


def lines(
    records: Iterable[SentRecord], topic: str, placed: Callable[[SentRecord, str, int, int], None]
) -> Iterator[bytes]:
    """Yield a line per record, with offsets from 0 per partition. `placed` gets the coordinates."""
    offsets: dict[int, int] = {}
    for record in records:
        offset = offsets.get(record.partition, 0)
        offsets[record.partition] = offset + 1
        placed(record, topic, record.partition, offset)
        yield line(record, topic, offset)


def line(record: SentRecord, topic: str, offset: int) -> bytes:
    """One record at these coordinates, without a newline."""
    body: dict[str, Any] = {
        "topic": topic,
        "partition": record.partition,
        "offset": offset,
        "tstype": "create",
        "ts": record.timestamp_ms,
    }
    if record.headers:
        flat: list[str] = []
        for name, value in record.headers:
            flat += (name, header_text(value))
        body["headers"] = flat
    _put(body, "key", record.key)
    _put(body, "payload", record.value)
    return _encode(body)


def _put(body: dict[str, Any], name: str, value: bytes | None) -> None:
    if value is None:
        body[name] = None
        return
    try:
        body[name] = value.decode()
    except UnicodeDecodeError:
        body[f"{name}_b64"] = b64encode(value).decode()
