"""Applies the rules without a server: reads raw records, and writes canonical events, one per line.

It's the core of `normalizer normalize`. For a rejected record it writes
`{"quarantine":{"line":N,"reason":CODE,"detail":TEXT}}` instead of an event. Source:
docs/spec/envelope.md#c2, #c8.
"""

from typing import BinaryIO, Final

import msgspec

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Ignored, Rejected, to_canonical
from normalizer.files.record_lines import ByteStream, parse_record_line, read_line_pages

_HINT_FOR_KCAT: Final = (
    ". This looks like a record printed by `kcat -J`, whose payload is the event. Print only "
    "payloads (kcat -f '%s\\n'), or load the file with `normalizer backfill file`"
)

_PLAIN_NORMALIZER: Final = Normalizer()


def normalize_lines(
    source: ByteStream, sink: BinaryIO, normalizer: Normalizer = _PLAIN_NORMALIZER
) -> int:
    """Normalize every line of the source. Returns how many records or events were rejected.

    It never waits for more input before it has written the results for everything that it has read.
    So it works in a pipe whose writer pauses. Raises the errors of the sink.
    """
    normalize = normalizer.normalize
    rejected = 0
    for page in read_line_pages(source):
        for number, line in page:
            for outcome in normalize(RawRecord(value=line, offset=number)):
                match outcome:
                    case Envelope():
                        sink.write(to_canonical(outcome) + b"\n")
                    case Rejected():
                        rejected += 1
                        sink.write(_rejection(number, line, outcome) + b"\n")
                    case Ignored():
                        pass
        sink.flush()
    return rejected


def _rejection(number: int, line: bytes, rejected: Rejected) -> bytes:
    is_kcat = rejected.reason == "not_an_event" and parse_record_line(line, number, "").topic
    return msgspec.json.encode(
        {
            "quarantine": {
                "line": number,
                "reason": rejected.reason,
                "detail": rejected.detail + (_HINT_FOR_KCAT if is_kcat else ""),
            }
        }
    )
