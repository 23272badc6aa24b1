"""The settings that the page may show."""

import msgspec

from projector.api.thresholds import DEFAULT_THRESHOLDS, Thresholds


class VisibleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that the page may show.

    `thresholds` are the values at which a figure becomes a warning. `grafana` is the address of a
    Grafana that has our dashboards, or null. `docs` is the address of the documentation, to which
    the page's links append a path, and may be empty. `topics` and `brokers` are what the normalizer
    should read. The projector itself doesn't use them. The page shows them until the first record
    has arrived, so that somebody can notice a wrong one.
    """

    thresholds: Thresholds = msgspec.field(default_factory=lambda: dict(DEFAULT_THRESHOLDS))
    grafana: str | None = None
    docs: str = ""
    topics: tuple[str, ...] = ()
    brokers: tuple[str, ...] = ()
