"""The native lane answers each record as the rules in Python do, to the byte, or leaves it."""

import json
import random
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from msgspec.structs import replace

from bench.peers.comparison import ODD as NOT_OF_PEERS
from normalizer.core.decode.lane_cleaner import LaneCleaner
from normalizer.core.encoded_events import EncodedEvent, NativeLane
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules_hash import rules_sha256
from simulator.mix import Mix
from simulator.topic_records import records
from tests.property.raw_events import records as raw_records_of_laws
from tests.support.cargo import why_no_cargo
from tests.support.cut_bytes import with_changed_bytes
from tests.support.factories import raw_event
from tests.support.hostile_records import hostile_values
from tests.support.lane_tables import TABLES, tables
from tests.support.native_lane import (
    BUILD_S,
    OLDEST_MINOR,
    Answers,
    cargo,
    compare_answers,
    native_lane,
    native_module,
    raw_records,
)
from tests.support.results import PrintLine, write_results
from tests.support.secret_corpus import harmless, secrets
from tests.vectors.corpus import SINGLE, raw_record, read_vectors

pytestmark = [
    pytest.mark.timeout(BUILD_S),
    pytest.mark.skipif((_WHY := why_no_cargo(OLDEST_MINOR)) is not None, reason=str(_WHY)),
]

SOAKED: Final = 10_000_000
LEFT: Final = Path(__file__).parent / "left_vectors.json"
"""The vectors that the lane leaves, and how many it answers, by file."""

ODD: Final = (
    b'{"event_type":"a","execution_id":1,"child_execution_id":2,"result":{"child_execution_id":3}}',
    b'{"global_sequence":1,"x":"a","y":2,"payload":{"name":"a","execution_id":1,"x":"a","y":"2"}}',
    b'{"global_sequence":1,"x":"a","payload":{"name":"a","execution_id":1,"x":"b"}}',
    b'{"event_type":"a","execution_id":1,"context":1.5,"payload":2.5}',
    b'{"event_type":"a","execution_id":1,"worker_id":-1.5}',
    b'{"event_type":"a","execution_id":1,"worker_id":0.%b}' % (b"1" * 98),
    b'{"event_type":"a","execution_id":1,"worker_id":%b}' % (b"9" * 38),
    b'{"events":[{"name":"a","x":1},{"name":"b","x":null}],"x":2,"execution_id":7}',
)
EVENT: Final = b'{"event_type":"a","execution_id":1,"context":%b}'
EXTREME: Final = (
    *(b"", b" ", b"null", b"[]", b"{}", b'"', b"\xef\xbb\xbf{}", b"[" * 100_000),
    EVENT % (b"[" * 20_000 + b"]" * 20_000),
    EVENT % (b'{"a":' * 9_000 + b"1" + b"}" * 9_000),
    b'{"event_type":"' + b"a" * 60_000 + b'"}',
    b'{"worker_id":"' + b"w" * 20_000 + b'","events":[' + b",".join([b"{}"] * 9_000) + b"]}",
    b'{"event_type":"a","execution_id":1,"worker_id":0.%b}' % (b"1" * 99),
    b'{"event_type":"a","execution_id":1,"worker_id":%b}' % (b"9" * 40),
    b'{"transaction_id":1,"payload":"' + b'\\"' * 20_000 + b'"}',
    b'{"event_type":"a","execution_id":' + b"9" * 40_000 + b"}",
)


@pytest.fixture(scope="module")
def lane() -> NativeLane:
    return native_lane()


def test_the_module_needs_no_library_of_one_python() -> None:
    """Its wheel is for every Python from 3.11 on, and many have no such library."""
    assert b"libpython" not in Path(str(native_module().__file__)).read_bytes()


def test_the_tables_are_those_of_the_rules() -> None:
    assert TABLES.read_text() == tables(), "run: python -m tests.support.lane_tables"


def test_the_lane_carries_the_hash_of_the_rules_it_was_built_beside() -> None:
    assert rules_sha256() == native_module().RULES_SHA256


@pytest.mark.parametrize(
    ("mix", "least_share"),
    [
        (replace(Mix(poison=0.0), **dict.fromkeys(NOT_OF_PEERS, 0.0)), 0.98),
        (Mix(), 0.85),
        (Mix(mutated=1.0), 0.75),
    ],
    ids=["peers", "default", "mutated"],
)
def test_simulated_records_are_answered_as_in_python(
    lane: NativeLane, mix: Mix, least_share: float
) -> None:
    answers = compare_answers(lane, simulated(mix, 6_000, seed=random.randrange(1_000_000)))

    assert not answers.wrong, answers.wrong[:5]
    assert answers.native_share >= least_share


def test_records_with_changed_bytes_are_answered_as_in_python(lane: NativeLane) -> None:
    rng = random.Random(seed := random.randrange(1_000_000))
    sent = [record for record in simulated(Mix(mutated=0.2), 2_000, seed) if record.value]
    values = [with_changed_bytes(rng.choice(sent).value or b"", rng) for _ in range(8_000)]

    answers = compare_answers(lane, raw_records(values))

    assert not answers.wrong, answers.wrong[:5]
    assert answers.native_share >= 0.1


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_odd_records_are_answered_as_in_python(lane: NativeLane, value: bytes) -> None:
    """What neither the simulator nor a vector sends, and a mutant of the lane answers otherwise."""
    answers = compare_answers(lane, raw_records([value]))

    assert not answers.wrong
    assert answers.equal == 1


def test_first_valid_traceparent_of_several_is_the_trace(lane: NativeLane) -> None:
    spelled = ("Traceparent", "traceparent", "TRACEPARENT")
    values = (b"none", b"00-%032x-%016x-01" % (7, 7), b"00-%032x-%016x-01" % (8, 8))
    (record,) = raw_records(
        [b'{"name":"a","execution_id":1}'], headers=tuple(zip(spelled, values, strict=True))
    )

    answers = compare_answers(lane, [record])

    assert (answers.equal, answers.wrong) == (1, [])


def test_hostile_records_are_answered_as_in_python_or_left(lane: NativeLane) -> None:
    values = [*hostile_values(random.randrange(1_000_000), 5_000), *EXTREME]

    answers = compare_answers(lane, raw_records(values))

    assert not answers.wrong, answers.wrong[:5]
    assert answers.native_share >= 0.03
    assert lane.panics == 0


@given(raw_records_of_laws())
def test_any_record_is_answered_as_in_python_or_left(lane: NativeLane, record: RawRecord) -> None:
    answers = compare_answers(lane, [record])

    assert not answers.wrong, answers.wrong


def test_the_lane_leaves_the_vectors_that_it_is_known_to_leave(lane: NativeLane) -> None:
    """A rule that silently falls back to Python shows here: change the list on purpose only."""
    found = {name: _vector_answers(lane, name) for name in SINGLE}

    written = ",\n".join(f" {json.dumps(name)}: {json.dumps(one)}" for name, one in found.items())
    assert LEFT.read_text() == f"{{\n{written}\n}}\n"


def test_records_of_no_log_and_of_a_stored_row_are_left(lane: NativeLane) -> None:
    plain = RawRecord(b'{"event_type":"a.b","execution_id":7}', "t", recorded_ms=1_784_000_000_000)
    answered, *left = lane.read(
        [
            plain,
            RawRecord(plain.value),
            RawRecord(plain.value, "t", index=1, recorded_ms=1),
            RawRecord(plain.value, "t", shape="worker", recorded_ms=1),
            RawRecord(None, "t"),
            RawRecord(plain.value, "t", headers=(("a", b"1"), ("a", b"2")), recorded_ms=1),
        ]
    )

    assert answered is not None
    assert left == [None] * 5


def test_a_record_that_the_lane_cannot_read_is_left_and_the_others_are_answered() -> None:
    """The lane never raises: else the process would end, and end again at the same record."""
    plain = RawRecord(b'{"event_type":"a.b","execution_id":7}', "t", recorded_ms=1_784_000_000_000)
    not_bytes: Any = (("a", "text"),)

    answered, *left, last = native_lane().read(
        [
            plain,
            replace(plain, recorded_ms=2**63),
            replace(plain, recorded_ms=-(2**63) - 1),
            replace(plain, headers=not_bytes),
            replace(plain, headers=None),
            replace(plain, partition=2**70),
            plain,
        ]
    )

    assert answered is not None
    assert last == answered
    assert left == [None] * 5


def test_a_record_is_left_where_the_look_for_secrets_fails() -> None:
    class Failing(LaneCleaner):
        def clean(self, text: bytes) -> bytes | None:
            raise ValueError(text)

    plain, weak = raw_records(
        [
            b'{"event_type":"a.b","execution_id":7}',
            b'{"event_type":"a.b","execution_id":7,"context":{"token_count":1}}',
        ]
    )

    answered, left = native_module().Lane(EncodedEvent, Failing()).read([plain, weak])

    assert answered is not None
    assert left is None


def test_a_word_that_an_operator_added_is_cut() -> None:
    with_word = native_module().Lane(EncodedEvent, LaneCleaner(["iban"]))
    (record,) = raw_records([b'{"event_type":"a.b","execution_id":7,"context":{"iban":"x"}}'])

    (plain,), (cut,) = native_lane().read([record]), with_word.read([record])

    assert plain is not None
    assert cut is not None
    assert b'{"iban":"x"}' in plain[0].columns
    assert b'{"iban":"[REDACTED]"}' in cut[0].columns


@pytest.mark.parametrize(
    "headers",
    [
        (("name", b"DB_PASSWORD"), ("value", b"hunter2")),
        (("event_type", b"a.b"), ("type", b"password"), ("value", b"hunter2")),
        (("event_type", b"a.b"), ("step", b"password=hunter2")),
    ],
)
def test_a_record_with_a_secret_in_its_headers_is_left(lane: NativeLane, headers: Any) -> None:
    """Only in an event are values of keys such as `name` never secret, nor the names of others."""
    (record,) = raw_records([b'{"event_type":"a.b","execution_id":7}'], headers=headers)

    assert lane.read([record]) == [None]


def test_every_form_of_a_secret_is_cut_as_in_python_or_left(lane: NativeLane) -> None:
    forms = [*secrets()]
    contexts = [*(one.value for one in forms), *harmless()]
    values = [msgspec.json.encode(raw_event(at, context={"v": v})) for at, v in enumerate(contexts)]
    sent = raw_records(values)

    answers = compare_answers(lane, sent)

    assert not answers.wrong, answers.wrong[:5]
    assert answers.native_share >= 0.5
    for first in range(0, len(forms), 100):
        some = forms[first : first + 100]
        for form, events in zip(some, lane.read(sent[first : first + len(some)]), strict=True):
            assert not events or form.secret.encode() not in events[0].columns, form.form


def test_the_crates_own_tests_pass_and_clippy_is_silent() -> None:
    cargo("test", "--locked", "--quiet")
    cargo("clippy", "--locked", "--quiet", "--all-targets", "--", "--deny", "warnings")


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_ten_million_changed_records_are_answered_as_in_python(
    lane: NativeLane, say: PrintLine
) -> None:
    seeds = random.Random(7)
    records = equal = 0
    while records < SOAKED:
        rng = random.Random(seed := seeds.randrange(1_000_000_000))
        sent = simulated(Mix(mutated=rng.random()), 3_000, seed)
        values = [with_changed_bytes(rng.choice(sent).value or b"{}", rng) for _ in range(6_000)]
        for some in (sent, raw_records([*values, *hostile_values(seed, 3_000)])):
            answers = compare_answers(lane, some)
            assert not answers.wrong, (seed, answers.wrong[:5])
            records += len(some)
            equal += answers.equal
        say(f"{records:,} records, {equal:,} answered, all as in Python")

    assert lane.panics == 0
    write_results(
        "lane",
        'make soak ARGS="-k ten_million_changed"',
        {"records": records, "answered as in Python": equal, "answered otherwise": 0, "panics": 0},
    )


def simulated(mix: Mix, count: int, seed: int) -> list[RawRecord]:
    """Records of the simulator, as the service gets them."""
    return [
        RawRecord(
            *(sent.value, "noetl.events", 0, max(sent.partition, 0), offset),
            sent.key,
            tuple(sent.headers),
            sent.timestamp_ms,
        )
        for offset, sent in enumerate(islice(records(mix, seed), count))
    ]


def _vector_answers(lane: NativeLane, name: str) -> dict[str, object]:
    equal, left = 0, []
    for vector in read_vectors(name):
        if "filter" in vector or "redact_keys" in vector:
            continue
        answers: Answers = compare_answers(lane, [raw_record(vector)])
        assert not answers.wrong, f"{vector['id']}: {answers.wrong}"
        equal += answers.equal
        left += [vector["id"]] * answers.left
    return {"equal": equal, "left": left}
