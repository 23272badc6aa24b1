"""The program of the helper process: reads records from stdin, and writes their outcomes to stdout.

`normalizing_helper` starts this program and sends it the records. It ends when its stdin is closed.
"""

import contextlib
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from normalizer.core.normalize import Normalizer
from normalizer.envelope import Envelope, Normalized

_LENGTH_BYTES: Final = 8
"""The same as in `normalizing_helper`. Importing that would load asyncio, which takes megabytes."""
_MAX_MESSAGE_OUTCOMES: Final = 200
_MAX_MESSAGE_BYTES: Final = 1 << 20
"""A message with more than one outcome stays below this size."""


def main() -> None:
    """Normalize records until standard input ends."""
    with contextlib.suppress(OSError):  # if memory runs out, the kernel should kill this process
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    size = int.from_bytes(source.read(_LENGTH_BYTES))
    redact_keys, shapes = pickle.loads(source.read(size))  # noqa: S301 - from the parent process
    normalize = Normalizer(redact_keys, shapes).normalize
    while size := int.from_bytes(source.read(_LENGTH_BYTES)):
        outcomes = normalize(pickle.loads(source.read(size)))  # noqa: S301 - from the parent process
        for some in _cut_into_messages(outcomes):
            answer = pickle.dumps(some)
            sink.write(len(answer).to_bytes(_LENGTH_BYTES))
            sink.write(answer)
        sink.write(bytes(_LENGTH_BYTES))
        sink.flush()


def _cut_into_messages(outcomes: Sequence[Normalized]) -> Iterator[Sequence[Normalized]]:
    """Cut outcomes into messages that are unpickled within milliseconds."""
    first = size = 0
    for after, outcome in enumerate(outcomes, 1):
        if isinstance(outcome, Envelope):
            large = (outcome.context, outcome.result, outcome.meta, outcome.extra, outcome.headers)
            size += sum(len(one) for one in large if one)
        if after - first >= _MAX_MESSAGE_OUTCOMES or size >= _MAX_MESSAGE_BYTES:
            yield outcomes[first:after]
            first, size = after, 0
    if first < len(outcomes):
        yield outcomes[first:]


if __name__ == "__main__":
    main()
