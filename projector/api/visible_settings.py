"""The settings that the page may show."""

import msgspec

from projector.api.thresholds import DEFAULT, Thresholds


class VisibleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """thresholds: of the tiles. grafana: the address of a Grafana with our dashboards, or null.

    docs: an address to put before the path of a page of the documentation, or "".

    topics, brokers: where the normalizer should read, to show before the first record. The
    projector doesn't connect to them.
    """

    thresholds: Thresholds = msgspec.field(default_factory=lambda: dict(DEFAULT))
    grafana: str | None = None
    docs: str = ""
    topics: tuple[str, ...] = ()
    brokers: tuple[str, ...] = ()
