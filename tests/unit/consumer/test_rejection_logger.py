"""What the log says about rejected records."""

import structlog

from normalizer.core.batch import OutcomeTotals
from normalizer.store.committed_batch import CommittedBatch
from normalizer.store.quarantine_reader import RejectionLogger
from normalizer.store.quarantine_writer import RejectedRecord
from tests.support.factories import EXECUTION_ID, TOPIC, raw_record, rejected


def test_every_new_rejection_is_logged_also_one_by_the_database() -> None:
    rejections = [
        RejectedRecord(raw_record(1), rejected()),
        RejectedRecord(
            raw_record(2), rejected(reason="rejected_by_database", detail="the database rejected")
        ),
        RejectedRecord(raw_record(3), rejected()),
    ]
    committed = CommittedBatch(
        events=[],
        inserted=[],
        placements=[],
        rejections=rejections,
        newly_quarantined=[False, True, True],
        totals=OutcomeTotals(quarantined=2, duplicate=1),
        expired_unread=0,
    )

    with structlog.testing.capture_logs() as lines:
        log = RejectionLogger(structlog.get_logger(), clock=lambda: 0.0)
        log.count_rejections(committed)
        log.flush()

    (line,) = lines
    assert line["reasons"] == {"rejected_by_database": 1, "not_an_event": 1}
    assert line["first"] == {
        "record": f"{TOPIC}[0]@2",
        "execution_id": str(EXECUTION_ID),
        "detail": "the database rejected",
    }
