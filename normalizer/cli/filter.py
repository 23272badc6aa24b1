"""Runs the rules alone: reads raw records and writes canonical events, one a line.

A refused record gives `{"quarantine":{"line":N,"reason":CODE,"detail":TEXT}}` in its place.
Source: docs/spec/envelope.md#c2, #c8.
"""

from typing import BinaryIO, Final

import msgspec

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Ignored, Rejected, to_canonical
from normalizer.files.record_lines import Readable, pages, record_of

_HINT_FOR_KCAT: Final = (
    "; `kcat -J` prints records like this one; only the payload is an event: print payloads"
    " alone (kcat -f '%s\\n'), or read the file by `normalizer backfill file`"
)

PLAIN_NORMALIZER: Final = Normalizer()


def filter_lines(
    source: Readable, sink: BinaryIO, normalizer: Normalizer = PLAIN_NORMALIZER
) -> int:
    """Normalize every line of the source; return how many records or events were refused.

    What was read is written before it waits for more. Raises what the sink raises.
    """
    normalize = normalizer.normalize
    refused = 0
    for page in pages(source):
        for number, line in page:
            for outcome in normalize(RawRecord(value=line, offset=number)):
                match outcome:
                    case Envelope():
                        sink.write(to_canonical(outcome) + b"\n")
                    case Rejected():
                        refused += 1
                        sink.write(_refusal(number, line, outcome) + b"\n")
                    case Ignored():
                        pass
        sink.flush()
    return refused


def _refusal(number: int, line: bytes, rejected: Rejected) -> bytes:
    is_kcat = rejected.reason == "not_an_event" and record_of(line, number, "").topic
    return msgspec.json.encode(
        {
            "quarantine": {
                "line": number,
                "reason": rejected.reason,
                "detail": rejected.detail + (_HINT_FOR_KCAT if is_kcat else ""),
            }
        }
    )
