"""The settings that the page may show."""

import msgspec

from projector.api.thresholds import DEFAULT, Thresholds


class VisibleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that the page may show.

    `thresholds` are those of the tiles. `grafana` is the address of a Grafana with our dashboards,
    or null. `docs` is put in front of the path of a page of the documentation, and may be empty.
    `topics` and `brokers` say where the normalizer should read, which the page shows before the
    first record. The projector doesn't connect to them.
    """

    thresholds: Thresholds = msgspec.field(default_factory=lambda: dict(DEFAULT))
    grafana: str | None = None
    docs: str = ""
    topics: tuple[str, ...] = ()
    brokers: tuple[str, ...] = ()
