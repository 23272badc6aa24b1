"""Writes records with the results of the native lane, for native/lane/tests/answers.rs to compare.

A number is eight bytes, little-endian. Bytes and texts follow their length, which is -1 for none.
The file begins with the signs of secrets. Then come the texts that have a sign and that Python
cleans for the lane, each with the cleaned text. Headers in which Python finds nothing to clean are
among them, unchanged. Then comes each record with its events. A record that the lane passes on to
Python has none.
"""

import struct
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Final

from normalizer.core.decode.lane_cleaner import LaneCleaner
from normalizer.core.encoded_events import EncodedEvent
from normalizer.core.raw_record import RawRecord
from tests.support.native_lane import compare_answers

_NUMBER: Final = struct.Struct("<q")


class _RecordingCleaner(LaneCleaner):
    """Keeps the texts that it cleans, and headers that need no cleaning."""

    def __init__(self) -> None:
        super().__init__()
        self.cleaned: dict[bytes, bytes] = {}

    def headers_may_hold_secret(self, headers: bytes) -> bool:
        """As LaneCleaner does."""
        are_suspicious = super().headers_may_hold_secret(headers)
        if not are_suspicious:
            self.cleaned[headers] = headers
        return are_suspicious

    def clean(self, text: bytes) -> bytes | None:
        """As LaneCleaner does."""
        cleaned = super().clean(text)
        if cleaned is not None:
            self.cleaned[text] = cleaned
        return cleaned


def write_answers(path: Path, module: ModuleType, records: Iterable[RawRecord]) -> None:
    """Compare the lane's answers with Python's, and write those of the records that it may get."""
    cleaner = _RecordingCleaner()
    lane = module.Lane(EncodedEvent, cleaner)
    parts = []
    for record in records:
        if record.value is None or record.topic is None:
            continue
        answers = compare_answers(lane, [record])
        assert not answers.wrong, answers.wrong
        (answer,) = lane.read([record])
        parts += [*_record(record), *_events(answer or ())]
    signs, folded, separators = cleaner.search_tables()
    head = [_number(len(signs)), *map(_bytes, signs)]
    head += [_bytes(folded), _bytes(separators)]
    head += [_number(len(cleaner.cleaned)), *map(_bytes, chain(*cleaner.cleaned.items()))]
    path.write_bytes(b"".join([*head, *parts]))


def _record(record: RawRecord) -> Iterable[bytes]:
    yield _bytes(record.value)
    yield _bytes(str(record.topic).encode())
    yield from map(_number, (record.incarnation, record.partition, record.offset))
    yield _number(len(record.headers))
    for name, text in record.headers:
        yield _bytes(name.encode())
        yield _bytes(text)
    yield _number(-1 if record.recorded_ms is None else record.recorded_ms)


def _events(events: tuple[EncodedEvent, ...]) -> Iterable[bytes]:
    yield _number(len(events))
    for event in events:
        yield from (_number(event.event_id), _number(event.execution_id))
        yield from map(_bytes, (event.shape.encode(), event.coercions, event.columns))


def _number(number: int) -> bytes:
    return _NUMBER.pack(number)


def _bytes(value: bytes | None) -> bytes:
    return _number(-1) if value is None else _number(len(value)) + value
