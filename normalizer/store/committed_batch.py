"""What a transaction of the store, or of the relay, has committed."""

from collections.abc import Sequence

import msgspec

from normalizer.core.batch import OutcomeTotals
from normalizer.core.encoded_events import EnvelopeOrEncoded
from normalizer.core.identity.stored_events import Placement
from normalizer.store.quarantine_writer import RejectedRecord


class CommittedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction committed: a batch, or a part or piece of one.

    - `events` has the events that were neither rejected nor ignored, in the order of the batch, and
      `placements` has the placement of each.
    - `inserted` holds the new rows.
    - `rejections` has the rejected records, and `newly_quarantined` has, for each of them, whether
      it's new in the quarantine.
    - `expired_unread` is the number of events that were ignored as expired although no earlier
      batch had read them.
    - `ambiguous` is the number of stored rows that became ambiguous with this batch, i.e. that may
      contain a report of another event.
    - `commit_s` is how long COMMIT took, in seconds. In the relay it includes the writing.
    - `batch_id` is the one in the new rows and rejections, or None in the relay, which has no rows.
      A row that's updated keeps its own.
    """

    events: Sequence[EnvelopeOrEncoded]
    inserted: Sequence[EnvelopeOrEncoded]
    placements: Sequence[Placement]
    rejections: Sequence[RejectedRecord]
    newly_quarantined: Sequence[bool]
    totals: OutcomeTotals
    expired_unread: int
    ambiguous: int = 0
    commit_s: float = 0.0
    batch_id: int | None = None
