"""Measures how much CPU the native lane (the rules in Rust) and Python need per record, in one run.

    python -m bench.lane                     the peers' mix, five rounds
    python -m bench.lane --records 5000 --rounds 3
    python -m bench.lane --shares            by the share of suspicious events, and of batches

It prints microseconds per record: for Python's rules and its encoding, for the lane, for the
records that the lane passes on to Python, and for `json.loads` alone. With `--shares` it prints
them per event for Python alone and for the lane together with Python. It also divides the cost at
50 % by the mean of the costs at 0 and 100 %. On a busy machine only the ratios mean anything.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from itertools import islice
from random import Random
from statistics import median
from typing import Final

from msgspec.structs import replace

from bench.peers.comparison import ODD
from normalizer.core.decode.lane_cleaner import LaneCleaner
from normalizer.core.encoded_events import (
    MAX_LANE_CALL_RECORDS,
    EncodedEvent,
    NativeLane,
    encode_envelope,
)
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope
from normalizer.runtime.native_lane import NATIVE_MODULE_NAME, why_not_installed
from simulator.mix import Mix
from simulator.topic_records import records

_PEERS_MIX: Final = replace(Mix(poison=0.0), **dict.fromkeys(ODD, 0.0))
_SHARES: Final = (0.0, 0.01, 0.1, 0.5, 1.0)
_BATCH_EVENTS: Final = 10

Way = tuple[int, Callable[[], object]]
"""How many records or events are read, and what reads them."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shares", action="store_true", help="print the curves")
    options = parser.parse_args()
    if why := why_not_installed():
        parser.error(f"{why}. Type make native")
    cores = _Cores()
    sent = _records(options.records)
    if options.shares:
        _print_shares(cores, sent, options.rounds)
    else:
        _print_costs(cores, sent, options.rounds)


class _Cores:
    """The lane and the rules in Python, as a process of the service has them."""

    def __init__(self) -> None:
        self._lane: NativeLane = import_module(NATIVE_MODULE_NAME).Lane(EncodedEvent, LaneCleaner())
        self._normalizer = Normalizer()

    def lane(self, sent: Sequence[RawRecord]) -> list[RawRecord]:
        """Let the lane read the records. Returns those that it leaves."""
        left = []
        for first in range(0, len(sent), MAX_LANE_CALL_RECORDS):
            call = sent[first : first + MAX_LANE_CALL_RECORDS]
            answers = self._lane.read(call)
            left += [one for one, answer in zip(call, answers, strict=True) if answer is None]
        return left

    def python(self, sent: Sequence[RawRecord]) -> None:
        """Let Python read and encode the records."""
        for record in sent:
            for event in self._normalizer.normalize(record):
                if isinstance(event, Envelope):
                    encode_envelope(event)

    def both(self, sent: Sequence[RawRecord]) -> None:
        """Let the lane read the records, and Python what it leaves."""
        self.python(self.lane(sent))


def _print_costs(cores: _Cores, sent: Sequence[RawRecord], rounds: int) -> None:
    left = cores.lane(sent)
    costs = _measure(
        {
            "Python, every record": (len(sent), lambda: cores.python(sent)),
            "lane, every record": (len(sent), lambda: cores.lane(sent)),
            "Python, the records that the lane leaves": (len(left), lambda: cores.python(left)),
            "json.loads, every record": (
                len(sent),
                lambda: [json.loads(one.value or b"0") for one in sent],
            ),
        },
        rounds,
    )
    print(f"{len(sent):,} records, {len(left) / len(sent):.1%} left; us of CPU a record")
    for name, each in costs.items():
        print(f"{name:42} median {median(each):7.1f}   least {min(each):7.1f}")


def _print_shares(cores: _Cores, sent: Sequence[RawRecord], rounds: int) -> None:
    clean = [one for one in sent if one.value and cores.lane([one]) == [] and one.value[:1] == b"{"]
    kinds = {"suspicious": _with_secrets, "batches": _with_batches}
    ways: dict[str, Way] = {}
    for kind, mixed in kinds.items():
        for share in _SHARES:
            some = mixed(clean, share)
            for name, read in (("Python", cores.python), ("lane", cores.both)):
                ways[f"{kind}, {name}, {share:.0%}"] = (len(clean), partial(read, some))
    costs = {name: median(each) for name, each in _measure(ways, rounds).items()}
    print(f"{len(clean):,} events; us of CPU an event")
    print(f"{'':20}", *(f"{share:>8.0%}" for share in _SHARES), " 50 % beside the straight line")
    for kind in kinds:
        for name in ("Python", "lane"):
            each = [costs[f"{kind}, {name}, {share:.0%}"] for share in _SHARES]
            line = (each[0] + each[-1]) / 2
            print(
                f"{kind + ', ' + name:20}",
                *(f"{cost:8.1f}" for cost in each),
                f"  {each[-2] / line:.2f}",
            )


def _measure(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """The microseconds of CPU of each way, one for each round."""
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (count, run) in ways.items():
            begin = time.process_time()
            run()
            costs[name].append((time.process_time() - begin) / max(count, 1) * 1e6)
    return costs


def _with_secrets(events: Sequence[RawRecord], share: float) -> list[RawRecord]:
    """This share of the events holds a password."""
    random = Random(7)
    return [
        replace(one, value=b'{"password":"x1-y2-z3",' + (one.value or b"")[1:])
        if random.random() < share
        else one
        for one in events
    ]


def _with_batches(events: Sequence[RawRecord], share: float) -> list[RawRecord]:
    """This share of the events is in batches."""
    random = Random(7)
    mixed: list[RawRecord] = []
    for first in range(0, len(events), _BATCH_EVENTS):
        some = events[first : first + _BATCH_EVENTS]
        if random.random() < share:
            mixed.append(
                replace(some[0], value=b"[%b]" % b",".join(one.value or b"" for one in some))
            )
        else:
            mixed += some
    return mixed


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
