"""A `normalizer` for tests that is killed at once by each record that contains DEADLY.

`python -m tests.support.deadly_records run` has the options of `normalizer run`.
"""

import os
import signal
from typing import Final

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.runtime.program_start import run_cli

DEADLY: Final = "this record kills"

_normalize: Final = Normalizer.normalize


def _die_at(self: Normalizer, record: RawRecord) -> tuple[Normalized, ...]:
    if DEADLY.encode() in (record.value or b""):
        os.kill(os.getpid(), signal.SIGKILL)
    return _normalize(self, record)


if __name__ == "__main__":
    os.environ["NORMALIZER_CORE"] = "python"
    Normalizer.normalize = _die_at  # type: ignore[method-assign]
    run_cli("normalizer")
