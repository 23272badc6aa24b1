"""The thresholds: the values at which a figure of the dashboard becomes a warning, or critical.

For example, `projector serve --threshold error_rate=0.1,0.25` makes an error rate of 10 % a
warning, and one of 25 % critical. The page and the alerts use the same thresholds.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal, get_args

import msgspec

from normalizer.errors import ConfigurationError

TileName = Literal[
    "executions_completed",
    "first_attempt_success",
    "error_rate",
    "retry_ratio",
    "stuck",
    "rejected",
]
TILE_NAMES: Final[tuple[TileName, ...]] = get_args(TileName)
TILES_WHERE_LOWER_IS_WORSE: Final = frozenset({"executions_completed", "first_attempt_success"})

Level = Literal["ok", "warn", "critical"]

_FORM: Final = re.compile(r"([a-z_]+)=([0-9]+(?:\.[0-9]+)?),([0-9]+(?:\.[0-9]+)?)")


class Threshold(msgspec.Struct, frozen=True):
    """A figure at `warn` or beyond is worth a look, and at `critical` or beyond it's an alert."""

    warn: float
    critical: float


Thresholds = dict[TileName, Threshold]

DEFAULT_THRESHOLDS: Final[Thresholds] = {
    "executions_completed": Threshold(0.95, 0.8),
    "first_attempt_success": Threshold(0.9, 0.75),
    "error_rate": Threshold(0.1, 0.25),
    "retry_ratio": Threshold(0.2, 0.5),
    "stuck": Threshold(1, 20),
    "rejected": Threshold(0.001, 0.01),
}


def parse_thresholds(texts: Iterable[str]) -> Thresholds:
    """Return the defaults, changed by settings such as `error_rate=0.1,0.25` (warn, critical).

    Raises ConfigurationError.
    """
    thresholds = dict(DEFAULT_THRESHOLDS)
    for text in texts:
        match = _FORM.fullmatch(text)
        if match is None or match[1] not in TILE_NAMES:
            raise ConfigurationError(
                f"threshold {text!r}: expected NAME=WARN,CRITICAL, such as error_rate=0.1,0.25, "
                f"with one of the names {', '.join(TILE_NAMES)}"
            )
        warn, critical = float(match[2]), float(match[3])
        tile = next(one for one in TILE_NAMES if one == match[1])
        if warn == critical or (critical < warn) != (tile in TILES_WHERE_LOWER_IS_WORSE):
            worse = "below" if tile in TILES_WHERE_LOWER_IS_WORSE else "above"
            raise ConfigurationError(
                f"threshold {text!r}: the second value (critical) must be {worse} the first (warn)"
            )
        thresholds[tile] = Threshold(warn, critical)
    return thresholds


def level_for(tile: TileName, value: float | None, thresholds: Thresholds) -> Level | None:
    """Return how bad a value is, or None without a value."""
    if value is None:
        return None
    limits = thresholds[tile]
    sign = -1 if tile in TILES_WHERE_LOWER_IS_WORSE else 1
    if sign * value >= sign * limits.critical:
        return "critical"
    return "warn" if sign * value >= sign * limits.warn else "ok"
