"""Decides at the start of a process whether the native lane reads records before Python does.

The native lane is a library in Rust that computes the same rows as the Python rules in less time. A
process uses it if it's installed, was built from the same rules, and supports the settings. A log
line at the start says whether it's used.

A bug in the lane must not stop the service. If it panics, the panic is caught and logged, and after
_MOST_PANICS panics Python reads every record.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Final

from normalizer.config.settings import Settings
from normalizer.core.decode.lane_cleaner import LaneCleaner
from normalizer.core.encoded_events import EncodedEvent, NativeLane
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules_hash import rules_sha256
from normalizer.runtime.logging_setup import get_logger

NATIVE_MODULE_NAME: Final = "event_normalizer_native"
_MOST_PANICS: Final = 3

_log: Final = get_logger()


def why_not_installed() -> str:
    """Return why no process of this installation can use the lane, or '' if one can."""
    try:
        built_from = getattr(import_module(NATIVE_MODULE_NAME), "RULES_SHA256", "")
    except ImportError as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == NATIVE_MODULE_NAME
        return (
            f"{NATIVE_MODULE_NAME} isn't installed"
            if is_missing
            else f"{NATIVE_MODULE_NAME} can't be loaded: {error}"
        )
    if built_from != rules_sha256():
        return f"{NATIVE_MODULE_NAME} was built from other rules. Build it again"
    return ""


def why_python_only(settings: Settings) -> str:
    """Return why only Python reads the records with these settings, or '' if the lane does too."""
    if settings.core == "python":
        return "NORMALIZER_CORE is python"
    if settings.shapes is not None:
        return "NORMALIZER_SHAPES adds shapes, which only Python knows"
    return why_not_installed()


class GuardedLane:
    """The lane of one process. After _MOST_PANICS panics it leaves every record to Python."""

    def __init__(self, lane: NativeLane) -> None:
        self._lane = lane
        self._panicked: set[str] = set()
        self.panics = 0

    def is_on(self) -> bool:
        """Return whether the lane is still used."""
        return self.panics < _MOST_PANICS

    def read(self, records: Sequence[RawRecord]) -> Sequence[tuple[EncodedEvent, ...] | None]:
        """Read records with the lane, and return None for each record that's left to Python.

        If a call panics, its records are remembered and left to Python from then on. Otherwise a
        single bad record could cause all _MOST_PANICS panics, because a record may be read several
        times. For example, a record that doesn't fit into its batch is read again for the next one.
        """
        if not self.is_on() or (
            self._panicked and any(one.coordinates_text in self._panicked for one in records)
        ):
            return [None] * len(records)
        outcomes = self._lane.read(records)
        if self._lane.panics > self.panics:
            self.panics = self._lane.panics
            self._panicked.update(record.coordinates_text for record in records)
            _log.error(
                "lane.panicked",
                records=f"{records[0].coordinates_text} to {records[-1].coordinates_text}",
                panics=self.panics,
                what="Python reads them"
                if self.is_on()
                else "Python reads every record from now on",
            )
        return outcomes


def open_native_lane(settings: Settings) -> GuardedLane | None:
    """Open the lane of this process, or return None if only Python reads records. Logs which."""
    if why := why_python_only(settings):
        _log.info("core.chosen", core="python", why=why)
        return None
    _log.info("core.chosen", core="native")
    return GuardedLane(
        import_module(NATIVE_MODULE_NAME).Lane(EncodedEvent, LaneCleaner(settings.redact_keys))
    )
