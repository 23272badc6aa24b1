"""Builds the native lane, and compares what it answers with the rules in Python."""

import importlib.util
import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from normalizer.core.decode.lane_cleaner import LaneCleaner
from normalizer.core.encoded_events import (
    MAX_LANE_CALL_RECORDS,
    EncodedEvent,
    NativeLane,
    decode_envelope,
    encode_envelope,
)
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules_hash import rules_sha256
from normalizer.envelope import Envelope

NATIVE: Final = Path(__file__).parents[2] / "native"
NAME: Final = "event_normalizer_native"
OLDEST_MINOR: Final = 85
BUILD_S: Final = 600
"""A first build fetches and compiles 22 crates, on a machine that others use too."""

_normalizer: Final = Normalizer()


def cargo(*arguments: str) -> str:
    """What cargo prints in the workspace of the lane."""
    done = subprocess.run(
        ["cargo", *arguments],
        cwd=NATIVE,
        env=os.environ | {"RULES_SHA256": rules_sha256()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
def native_module() -> ModuleType:
    """The module, built of today's sources."""
    cargo("build", "--locked", "--release", "--quiet")
    path = NATIVE / "target" / "release" / f"lib{NAME}.so"
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def native_lane() -> NativeLane:
    """A lane of that module."""
    lane: NativeLane = native_module().Lane(EncodedEvent, LaneCleaner())
    return lane


class Answers(msgspec.Struct):
    """How the lane answered some records, beside Python."""

    equal: int = 0
    left: int = 0
    wrong: list[str] = []

    @property
    def native_share(self) -> float:
        """The share of the records that the lane answered."""
        return self.equal / max(self.equal + self.left, 1)


def compare_answers(lane: NativeLane, records: Sequence[RawRecord]) -> Answers:
    """Let the lane read the records. Every answer must be the same as Python's."""
    answers = Answers()
    for first in range(0, len(records), MAX_LANE_CALL_RECORDS):
        call = records[first : first + MAX_LANE_CALL_RECORDS]
        for record, answer in zip(call, lane.read(call), strict=True):
            if answer is None:
                answers.left += 1
            elif (difference := _difference(record, answer)) is None:
                answers.equal += 1
            else:
                answers.wrong.append(difference)
    return answers


def _difference(record: RawRecord, answer: tuple[EncodedEvent, ...]) -> str | None:
    """Return how the lane and Python differ on a record, or None."""
    outcomes = _normalizer.normalize(record)
    expected = [_encoded(one) for one in outcomes if isinstance(one, Envelope)]
    if len(expected) == len(outcomes) and list(answer) == expected:
        return None
    said = [decode_envelope(event.columns) for event in answer]
    differing = Counter(
        f"{name}: {getattr(native, name)!r} instead of {getattr(python, name, python)!r}"
        for native, python in zip(said, outcomes, strict=False)
        for name in Envelope.__struct_fields__
        if getattr(native, name) != getattr(python, name, None)
    )
    return f"{record.value!r}: {len(answer)} of {len(outcomes)} events; {list(differing)[:5]}"


def _encoded(event: Envelope) -> EncodedEvent:
    assert event.event_id is not None
    columns = encode_envelope(event)
    return EncodedEvent(event.event_id, event.execution_id, event.shape, event.coercions, columns)


def raw_records(values: Iterable[bytes | None], **fields: Any) -> list[RawRecord]:
    """A record of each value, at offsets of their own."""
    common: dict[str, Any] = {"topic": "noetl.events", "recorded_ms": 1_784_000_000_000} | fields
    return [RawRecord(value, offset=offset, **common) for offset, value in enumerate(values)]
