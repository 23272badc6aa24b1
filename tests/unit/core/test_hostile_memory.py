"""The memory that a hostile record may take, beyond its result."""

import tracemalloc
from collections.abc import Iterator

import msgspec
import pytest

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction.secret_names import SecretKeyWords

MB = 1 << 20


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("shared", ["status", "error", "meta", "context"])
@pytest.mark.usefixtures("traced")
def test_shared_fields_of_a_batch_are_decoded_one_event_at_a_time(shared: str) -> None:
    value = {"execution_id": 1, shared: [[]] * 2_000, "events": [{"name": "a"}] * 100}

    outcomes = Normalizer().normalize(RawRecord(value=msgspec.json.encode(value), topic="t"))

    _, peak = tracemalloc.get_traced_memory()
    assert len(outcomes) == 100
    assert peak < 2 * MB


@pytest.mark.usefixtures("traced")
def test_long_keys_are_not_remembered() -> None:
    redaction = SecretKeyWords()
    for number in range(20):
        redaction.secrecy(f"{number}" + "k" * MB)

    held, _ = tracemalloc.get_traced_memory()
    assert held < 5 * MB
