"""All settings of the traffic, with their defaults."""

from typing import Annotated

import msgspec
from msgspec import Meta

SECOND_US = 1_000_000

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about the simulated traffic that can be set, with defaults.

    Shares are between 0 and 1, sizes are in bytes, and names that end in `_s` are in seconds.
    `in_flight` executions run at the same time, and together they make `rate` events per second by
    the platform's simulated clock. How fast the records are really sent is up to the sender.
    """

    rate: Annotated[float, Meta(gt=0, le=1_000_000)] = 200.0
    in_flight: Count = 50
    event_bytes_low: Count = 200
    event_bytes_high: Count = 20_000
    start_us: int = 1_748_736_000 * SECOND_US
    partitions: Count = 6
    keyed: bool = True

    failing: Share = 0.12
    stuck: Share = 0.01
    abandoned: Share = 0.005
    cancelled: Share = 0.02
    children: Share = 0.05
    subscribed: Share = 0.03
    custom: Share = 0.03
    orchestrated: Share = 0.03
    callbacks: Share = 0.02
    trailing: Share = 0.03
    contradicting: Share = 0.005
    secrets: Share = 0.02
    odd_text: Share = 0.005

    poison: Share = 0.002
    huge: Share = 0.0
    late: Share = 0.01
    late_s: Annotated[float, Meta(ge=0)] = 300.0
    redelivered: Share = 0.01
    reported_twice: Share = 0.1
    disagreeing: Share = 0.1
    colliding: Share = 0.001
    double_encoded: Share = 0.01
    framed: Share = 0.01
    listed: Share = 0.01
    mutated: Share = 0.02
    headers: Share = 0.2
    deployments: dict[str, float] = {}


CLEAN_MIX = Mix(poison=0.0, colliding=0.0, redelivered=0.0, late=0.0)
"""Traffic in which nothing is rejected, doubled or late."""
