"""What errors say of several causes at once."""

from normalizer.errors import (
    AnotherClusterError,
    FencedError,
    OtherGroupError,
    PartsLostError,
    PositionMovedError,
)


def test_parts_that_were_lost_are_each_named_with_their_reason() -> None:
    reasons = [
        FencedError("topic[0]: another process claimed it", topic="topic", partition=0),
        PositionMovedError("topic[2]: it is at 7", topic="topic", partition=2),
    ]

    lost = PartsLostError(reasons)

    assert str(lost) == "topic[0]: another process claimed it; topic[2]: it is at 7"
    assert lost.reasons == reasons


def test_another_cluster_is_named_with_what_to_do() -> None:
    error = AnotherClusterError("right", "wrong", topic="noetl.events", partition=2)

    assert str(error) == (
        "KAFKA_BOOTSTRAP_SERVERS leads to cluster wrong, topic noetl.events is of cluster right; "
        "correct the address and restart. If you moved to this cluster on purpose, start once "
        "with --accept-reset"
    )
    assert (error.known, error.topic, error.partition) == ("right", "noetl.events", 2)


def test_another_group_is_named_with_what_to_do() -> None:
    error = OtherGroupError("first", "host-1", "second", topic="noetl.events", partition=2)

    assert str(error) == (
        "noetl.events[2]: left to consumer group first, whose process host-1 was alive within the "
        "last 10 s, while this process is in group second. Use one KAFKA_GROUP_ID for one "
        "database. Before you change it, stop every process of group first"
    )
    assert (error.other, error.owner) == ("first", "host-1")
