"""Measures the cost per record of the native lane and of Python, in turn in one run.

    python -m bench.lane                     the peers' mix, five rounds
    python -m bench.lane --records 5000 --rounds 3

Prints microseconds of CPU a record: of Python's rules and its encoding, of the lane, of the records
that the lane leaves, and of `json.loads` alone. On a busy machine only their ratios hold.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import islice
from statistics import median
from typing import Final

from msgspec.structs import replace

from bench.peers.comparison import ODD
from normalizer.core.encoded_events import CALL_RECORDS, EncodedEvent, Lane, encode_columns
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction.prefilter import Prefilter
from normalizer.envelope import Envelope
from normalizer.runtime.native_lane import MODULE
from simulator.mix import Mix
from simulator.topic_records import records

_PEERS_MIX: Final = replace(Mix(poison=0.0), **dict.fromkeys(ODD, 0.0))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    lane: Lane = import_module(MODULE).Lane(EncodedEvent, Prefilter())
    normalizer = Normalizer()
    sent = _records(options.records)

    def by_lane() -> list[RawRecord]:
        left = []
        for first in range(0, len(sent), CALL_RECORDS):
            call = sent[first : first + CALL_RECORDS]
            answers = lane.read(call)
            left += [one for one, answer in zip(call, answers, strict=True) if answer is None]
        return left

    def by_python(some: Sequence[RawRecord]) -> None:
        for record in some:
            for event in normalizer.normalize(record):
                if isinstance(event, Envelope):
                    encode_columns(event)

    left = by_lane()
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "Python, every record": (len(sent), lambda: by_python(sent)),
        "lane, every record": (len(sent), by_lane),
        "Python, the records that the lane leaves": (len(left), lambda: by_python(left)),
        "json.loads, every record": (
            len(sent),
            lambda: [json.loads(one.value or b"0") for one in sent],
        ),
    }
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, (count, run) in ways.items():
            begin = time.process_time()
            run()
            costs[name].append((time.process_time() - begin) / max(count, 1) * 1e6)
    print(f"{len(sent):,} records, {len(left) / len(sent):.1%} left; us of CPU a record")
    for name, each in costs.items():
        print(f"{name:42} median {median(each):7.1f}   least {min(each):7.1f}")


def _records(count: int) -> list[RawRecord]:
    return [
        RawRecord(
            *(sent.value, "noetl.events", 0, max(sent.partition, 0), offset),
            sent.key,
            tuple(sent.headers),
            sent.timestamp_ms,
        )
        for offset, sent in enumerate(islice(records(_PEERS_MIX, 1), count))
    ]


if __name__ == "__main__":
    main()
