"""Writes records with the results of the native lane, for native/lane/tests/answers.rs to compare.

A number is eight bytes, little-endian. Bytes and texts follow their length, which is -1 for none.
The file begins with the prefilter's signs of secrets. Then come the texts that have weak signs but
that Python finds clean, and then each record with its events. A record that the lane passes on to
Python has none.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Final

from normalizer.core.encoded_events import EncodedEvent
from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction.prefilter import Prefilter
from tests.support.native_lane import compare_answers

_NUMBER: Final = struct.Struct("<q")


class _RecordingPrefilter(Prefilter):
    """Keeps the texts that it calls clean."""

    def __init__(self) -> None:
        super().__init__()
        self.clean: list[bytes] = []

    def suspects(self, text: bytes) -> bool:
        """As the prefilter does."""
        suspects = super().suspects(text)
        if not suspects:
            self.clean.append(text)
        return suspects


def write_answers(path: Path, module: ModuleType, records: Iterable[RawRecord]) -> None:
    """Compare the lane's answers with Python's, and write those of the records that it may get."""
    prefilter = _RecordingPrefilter()
    lane = module.Lane(EncodedEvent, prefilter)
    parts = []
    for record in records:
        if record.value is None or record.topic is None:
            continue
        answers = compare_answers(lane, [record])
        assert not answers.wrong, answers.wrong
        (answer,) = lane.read([record])
        parts += [*_record(record), *_events(answer or ())]
    signs, weak, folded, separators = prefilter.automaton()
    head = [_number(len(signs)), *map(_bytes, signs)]
    head += [_number(weak), _bytes(folded), _bytes(separators)]
    head += [_number(len(prefilter.clean)), *map(_bytes, prefilter.clean)]
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
