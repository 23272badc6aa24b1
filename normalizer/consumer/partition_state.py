"""The states of a partition in this process, and the transitions between them.

docs/states.md draws this table, and says what the process does in each state.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from normalizer.store.claim import Claim


class PartitionState(StrEnum):
    """What this process does with a partition."""

    # Every partition begins in this state. If the consumer group has assigned the partition to this
    # process, the next step is to claim it.
    ASSIGNED = "assigned"
    CLAIMED = "claimed"  # reads and writes it
    # Reads no more of it until a part of a batch that waits is written, or a slow record is
    # normalized.
    SET_ASIDE = "set_aside"
    FENCED = "fenced"  # leaves it to the process that claimed it
    STOPPED = "stopped"  # doesn't read it until an operator or a new assignment changes that


class PartitionEvent(StrEnum):
    """What happens to a partition."""

    CLAIM = "claim"
    RELEASE = "release"  # a batch was rolled back, or what set the partition aside is over
    SET_ASIDE = "set_aside"
    MOVE = "move"  # an operator moved or deleted the position
    FENCE = "fence"  # another process claimed it
    STOP = "stop"
    ASSIGN = "assign"  # the group has assigned partitions again
    REVOKE = "revoke"


STATE_TRANSITIONS: Final[Mapping[PartitionState, Mapping[PartitionEvent, PartitionState]]] = {
    PartitionState.ASSIGNED: {
        PartitionEvent.CLAIM: PartitionState.CLAIMED,
        PartitionEvent.STOP: PartitionState.STOPPED,
        PartitionEvent.REVOKE: PartitionState.ASSIGNED,
    },
    PartitionState.CLAIMED: {
        PartitionEvent.RELEASE: PartitionState.ASSIGNED,
        PartitionEvent.MOVE: PartitionState.ASSIGNED,
        PartitionEvent.SET_ASIDE: PartitionState.SET_ASIDE,
        PartitionEvent.FENCE: PartitionState.FENCED,
        PartitionEvent.STOP: PartitionState.STOPPED,
        PartitionEvent.REVOKE: PartitionState.ASSIGNED,
    },
    PartitionState.SET_ASIDE: {
        PartitionEvent.RELEASE: PartitionState.ASSIGNED,
        PartitionEvent.MOVE: PartitionState.ASSIGNED,
        PartitionEvent.FENCE: PartitionState.FENCED,
        PartitionEvent.STOP: PartitionState.STOPPED,
        PartitionEvent.REVOKE: PartitionState.ASSIGNED,
    },
    PartitionState.FENCED: {
        PartitionEvent.REVOKE: PartitionState.ASSIGNED,
    },
    PartitionState.STOPPED: {
        PartitionEvent.MOVE: PartitionState.ASSIGNED,
        PartitionEvent.FENCE: PartitionState.STOPPED,
        PartitionEvent.STOP: PartitionState.STOPPED,
        PartitionEvent.ASSIGN: PartitionState.ASSIGNED,
    },
}
"""The next state, for each state and event. An event that isn't listed changes nothing.

A revoked partition is back in the state in which every partition begins, and docs/states.md draws
that as the end. A stopped partition stays stopped while the group rebalances, so that /readyz keeps
saying why."""

_EVENTS_THAT_END_CLAIMS: Final = {
    PartitionEvent.RELEASE,
    PartitionEvent.MOVE,
    PartitionEvent.FENCE,
    PartitionEvent.ASSIGN,
    PartitionEvent.REVOKE,
}


class TrackedPartition(msgspec.Struct, frozen=True, kw_only=True):
    """What this process knows about a partition.

    - `claim` is the claim in force. A partition that was stopped while it was claimed keeps its
      claim, so that the process notices when an operator moves the position. It loses the claim
      only if another process takes the partition. A partition that couldn't be claimed has no
      claim, and is tried again only after a new assignment or a restart.
    - `last_claim` is the most recent claim, even after it has ended.
    - `why_unreachable` says why the leader of an assigned or claimed partition doesn't respond.
    - `why_other_group` names the other consumer group that reads an assigned partition.
    - `gap` is the last range of offsets (first, next) that retention deleted before it was read.
    """

    state: PartitionState = PartitionState.ASSIGNED
    since_s: float = 0.0
    claim: Claim | None = None
    last_claim: Claim | None = None
    was_claimed: bool = False
    why_stopped: str = ""
    why_unreachable: str = ""
    why_other_group: str = ""
    gap: tuple[int, int] | None = None

    def apply_event(self, event: PartitionEvent, now_s: float) -> "TrackedPartition | None":
        """Return what's known after the event, or None if the event changes nothing."""
        transitions = STATE_TRANSITIONS[self.state]
        if event not in transitions:
            return None
        return msgspec.structs.replace(
            self,
            state=transitions[event],
            since_s=now_s,
            claim=None if event in _EVENTS_THAT_END_CLAIMS else self.claim,
            why_unreachable="",
            why_other_group="",
        )
