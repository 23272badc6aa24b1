"""What errors say of several causes at once."""

from normalizer.errors import Fenced, PartsLost, PositionMoved


def test_parts_that_were_lost_are_each_named_with_their_reason() -> None:
    reasons = [
        Fenced("topic[0]: another process claimed it", topic="topic", partition=0),
        PositionMoved("topic[2]: it is at 7", topic="topic", partition=2),
    ]

    lost = PartsLost(reasons)

    assert str(lost) == "topic[0]: another process claimed it; topic[2]: it is at 7"
    assert lost.reasons == reasons
