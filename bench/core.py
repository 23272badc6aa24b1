"""Measures the rules alone: microseconds of CPU a record, as Python and compiled, in turn.

    python -m bench.core                    the simulator's mix, five rounds
    python -m bench.core --rounds 9 --results

A round runs both cores, each in a process of its own, over the same records; the ratio of a round
is of two neighbours in time. Other load makes both slower, so the ratio says more than the times.
"""

import argparse
import os
import subprocess
import sys
import time
from itertools import islice
from statistics import median
from typing import Final

from normalizer.compiled.core_finder import compiled_folder, running_core, unfit_because
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.process.garbage import collect_rarely
from simulator.mix import Mix
from simulator.topic_records import records
from tests.support.results import command_line, write_results

RECORDS: Final = 30_000
PASSES: Final = 3
CORES: Final = {"python": {"NORMALIZER_CORE": "python"}, "compiled": {}}


def measured(count: int) -> float:
    """The least CPU time of some passes over this many records, in microseconds a record."""
    sent = [
        RawRecord(
            one.value,
            "noetl.events",
            0,
            0,
            offset,
            one.key,
            tuple(one.headers),
            one.timestamp_ms,
        )
        for offset, one in enumerate(islice(records(Mix(), 1), count))
    ]
    normalize = Normalizer().normalize
    collect_rarely()
    times = []
    for _ in range(PASSES):
        began_s = time.process_time()
        for record in sent:
            normalize(record)
        times.append(time.process_time() - began_s)
    return min(times) / count * 1e6


def main(options: argparse.Namespace) -> int:
    """Print each round and the medians; return 1 where there is no compiled core."""
    if why := unfit_because(compiled_folder()):
        print(f"no compiled core: {why}; `make core` builds it")
        return 1
    times: dict[str, list[float]] = {name: [] for name in CORES}
    for number in range(options.rounds):
        for name, environ in CORES.items():
            done = subprocess.run(
                [sys.executable, "-m", "bench.core", "--one", f"--records={options.records}"],
                env={k: v for k, v in os.environ.items() if k != "NORMALIZER_CORE"} | environ,
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            kind, microseconds = done.stdout.split()
            assert kind == name
            times[name].append(float(microseconds))
        print(f"round {number + 1}: " + ", ".join(f"{n} {t[-1]:.1f} us" for n, t in times.items()))
    ratios = [one / other for one, other in zip(*times.values(), strict=True)]
    figures: dict[str, object] = {
        **{f"{name}, us of CPU a record": f"{median(of):.1f}" for name, of in times.items()},
        "Python / compiled": f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
    }
    print("\n".join(f"{what}: {figure}" for what, figure in figures.items()))
    if options.results:
        title = f"The rules as Python and compiled, {options.records:,} records"
        write_results("core", title, command_line(), figures, "no server")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", action="store_true", help="write docs/results/core.md")
    parser.add_argument("--one", action="store_true", help="measure this process's core only")
    given = parser.parse_args()
    if given.one:
        print(running_core().kind, f"{measured(given.records):.3f}")
    else:
        sys.exit(main(given))
