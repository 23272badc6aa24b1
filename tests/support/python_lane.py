"""A native lane in Python, to put in the place of the built module."""

import sys
from collections.abc import Callable, Sequence
from types import ModuleType

import pytest

from normalizer.core.encoded_events import MAX_LANE_CALL_RECORDS, EncodedEvent
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction.prefilter import Prefilter
from normalizer.core.rules_hash import rules_sha256
from normalizer.envelope import Envelope
from normalizer.runtime.native_lane import NATIVE_MODULE_NAME
from tests.support.factories import encoded

LEFT_EVERY = 5
"""Each fifth record is left to Python, and so is every record that is no event."""


class PythonLane:
    """Reads records by the rules in Python, and panics at the records that it's given."""

    def __init__(
        self,
        make: type[EncodedEvent],
        _: Prefilter | None = None,
        panics_at: Sequence[bytes] = (),
    ) -> None:
        assert make is EncodedEvent
        self._normalize = Normalizer().normalize
        self._panics_at = panics_at
        self.panics = 0
        self.call_records: list[int] = []
        self.read_natively = 0

    def read(self, records: Sequence[RawRecord]) -> list[tuple[EncodedEvent, ...] | None]:
        assert 0 < len(records) <= MAX_LANE_CALL_RECORDS
        self.call_records.append(len(records))
        if any(mark in (one.value or b"") for mark in self._panics_at for one in records):
            self.panics += 1
            return [None] * len(records)
        return [self._read(record) for record in records]

    def _read(self, record: RawRecord) -> tuple[EncodedEvent, ...] | None:
        outcomes = self._normalize(record)
        events = tuple(encoded(one) for one in outcomes if isinstance(one, Envelope))
        if record.offset % LEFT_EVERY == 0 or len(events) < len(outcomes):
            return None
        self.read_natively += len(events)
        return tuple(event for event in events if isinstance(event, EncodedEvent))


def install(
    monkeypatch: pytest.MonkeyPatch,
    make_lane: Callable[[type[EncodedEvent], Prefilter], PythonLane] = PythonLane,
    rules: str | None = None,
) -> None:
    """Make the lane what the built module has, as built from these rules or from today's."""
    module = ModuleType(NATIVE_MODULE_NAME)
    module.__dict__.update(Lane=make_lane, RULES_SHA256=rules or rules_sha256())
    monkeypatch.setitem(sys.modules, NATIVE_MODULE_NAME, module)


def uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no built module."""
    monkeypatch.setitem(sys.modules, NATIVE_MODULE_NAME, None)
