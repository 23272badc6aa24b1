"""All settings of the traffic, with their defaults."""

import msgspec

SECOND_US = 1_000_000


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Shares are between 0 and 1; sizes are bytes; times are in seconds.

    `rate` and `in_flight` shape the platform's own clock: `in_flight` concurrent executions make
    `rate` events in a second of it. The sender decides how fast the records are sent.
    """

    rate: float = 200.0
    in_flight: int = 50
    event_bytes_low: int = 200
    event_bytes_high: int = 20_000
    start_us: int = 1_748_736_000 * SECOND_US
    partitions: int = 6
    keyed: bool = True

    failing: float = 0.12
    stuck: float = 0.01
    abandoned: float = 0.005
    cancelled: float = 0.02
    children: float = 0.05
    subscribed: float = 0.03
    custom: float = 0.03
    orchestrated: float = 0.03
    callbacks: float = 0.02
    trailing: float = 0.03
    contradicting: float = 0.005
    secrets: float = 0.02
    odd_text: float = 0.005

    poison: float = 0.002
    huge: float = 0.0
    late: float = 0.01
    late_s: float = 300.0
    redelivered: float = 0.01
    reported_twice: float = 0.1
    disagreeing: float = 0.1
    colliding: float = 0.001
    double_encoded: float = 0.01
    mutated: float = 0.02
    headers: float = 0.2
    deployments: dict[str, float] = {}


PLAIN = Mix(poison=0.0, colliding=0.0, redelivered=0.0, late=0.0)
"""Traffic in which nothing is refused, doubled or late."""
