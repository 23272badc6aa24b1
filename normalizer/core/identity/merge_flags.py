"""The bits of the column `merge_flags`, which record facts about a row's reports and its id.

A row is merged from one or more reports, i.e. records that describe the same event. For example,
the bit REPORT_WITHOUT_STEP_FLAG says that one of them named no step.
Source: docs/spec/wire-shapes.md#m5.
"""

from datetime import timedelta
from typing import Final

import msgspec

from normalizer.core.coercions import read_coercions
from normalizer.core.identity.coordinates import source_coordinates
from normalizer.envelope import Envelope

REPORT_WITHOUT_STEP_FLAG: Final = 1
"""The row has a step, but one of its reports named none."""
REPORT_WITHOUT_COMMAND_FLAG: Final = 2
"""The row has a command, but one of its reports named none."""
CHANGED_AFTER_STORING_FLAG: Final = 4
"""A report changed the row after it was stored. Comparisons ignore it, because it depends on the
order in which reports arrive."""
SHARES_ID_FLAG: Final = 8
"""Another event has, or had, the same id."""
HAS_RIVAL_FLAG: Final = 16
"""An event of the same execution and class has the same id, or the row's reports name two steps. So
a report without a step or a command may have been merged into the wrong row."""
REPORTED_ELSEWHERE_FLAG: Final = 32
"""An event of a call was also reported in another log, or before the row's own record in its log.
The row has the coordinates of the report that was read first."""

LATE_RECORD_DELAY: Final = timedelta(seconds=5)
"""If a record reached its log this much later than its event, its place in the log says nothing
about the order of events.

5 s was chosen, not measured. A working producer needs milliseconds, so 5 s leaves room for a clock
that's a few seconds behind. Reports that a producer sends again after an outage come later.

The delay is the log's time minus the worker's. If a worker's clock is 5 s behind the broker's, all
its records count as late, and clocks order its events. If it's 5 s ahead, a record that's nearly
10 s late still counts as on time, and may have a misleading place. Under CreateTime, if the worker
sends its own events, both times are from its clock, so neither shows."""

_AMBIGUOUS: Final = b'{"rule":"ambiguous_report","field":"event_id"}'


def missing_name_flags(row: Envelope) -> int:
    """Return the two flags above, each if the row or one of its reports lacks that name."""
    return (
        row.merge_flags & (REPORT_WITHOUT_STEP_FLAG | REPORT_WITHOUT_COMMAND_FLAG)
        | (0 if row.step else REPORT_WITHOUT_STEP_FLAG)
        | (REPORT_WITHOUT_COMMAND_FLAG if row.command_id is None else 0)
    )


def coordinates_if_ordered(row: Envelope) -> str | None:
    """Return the row's coordinates if they show its order among other events, else None.

    Usually a log has events in the order in which they happened. The order may differ if this
    record reached the log late. The coordinates may also be arbitrary, if another report of the
    event could have supplied them instead.
    """
    if (
        row.recorded_at is None
        or row.created_at is None
        or row.merge_flags & REPORTED_ELSEWHERE_FLAG
    ):
        return None
    if row.recorded_at - row.created_at >= LATE_RECORD_DELAY:
        return None
    return ":".join(map(str, source_coordinates(row)))


def row_with_flags(row: Envelope, flags: int) -> Envelope:
    """Return the row with these flags set.

    Adds the coercion ambiguous_report if a report of the row may be about another event.
    """
    flags |= row.merge_flags
    if flags != row.merge_flags:
        row = msgspec.structs.replace(row, merge_flags=flags)
    if flags & HAS_RIVAL_FLAG and missing_name_flags(row) and not has_ambiguous_report(row):
        return msgspec.structs.replace(row, coercions=prepend_coercion(row.coercions, _AMBIGUOUS))
    return row


def prepend_coercion(coercions: bytes | None, coercion: bytes) -> bytes:
    """Return the list with the coercion added at its front."""
    others = b"" if coercions is None else coercions.strip()[1:-1].strip()
    return b"[%b%b%b]" % (coercion, b"," if others else b"", others)


def has_ambiguous_report(row: Envelope) -> bool:
    """Return whether a report of the row may be about another event (ambiguous_report)."""
    return (
        row.coercions is not None
        and b"ambiguous_report" in row.coercions
        and any(coercion.rule == "ambiguous_report" for coercion in read_coercions(row.coercions))
    )
