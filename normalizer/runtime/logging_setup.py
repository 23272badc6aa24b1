"""Configures logging, masks secrets in every line, and keeps an incident from flooding the log.

An incident, such as an outage of the database, is logged once when it begins and once when it ends.
Nothing is ever logged per event.
"""

import asyncio
import atexit
import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from normalizer.config.passwords import URL_MASK, mask_url_passwords
from normalizer.errors import NormalizerError, RetryableError, SignInRetryLimit
from normalizer.runtime.log_stream import NonBlockingLogStream

_ECS_VERSION: Final = "8.17.0"
_REPEAT_AFTER_S: Final = 30.0
"""If a library repeats a line, it's logged again after this time, with a count."""

_SILENT_AFTER_S: Final = 10.0
"""Longer than most statements take, and longer than most waits for a lock."""


def configure_logging(
    *,
    level: str = "info",
    log_format: str = "auto",
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Configure the logging of this process, to `stream` or standard error.

    `log_format` is json, ecs (JSON with ECS's field names), pretty (text for a terminal), or auto,
    which means pretty on a terminal and json otherwise. The values in `secrets` are masked in every
    line. Libraries such as aiokafka and asyncio log to the same stream, but only from level WARNING
    on.
    """
    out = sys.stderr if stream is None else stream
    if stream is None:
        atexit.register(_discard_unwritten)
    pretty = log_format == "pretty" or (log_format == "auto" and out.isatty())
    as_json = structlog.processors.JSONRenderer(serializer=_as_json)
    rendering: list[Any] = [as_json]
    if pretty:
        rendering = [structlog.dev.ConsoleRenderer(colors=out.isatty())]
    elif log_format == "ecs":
        rendering = [_as_ecs, as_json]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _SecretMasker(secrets),
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", NonBlockingLogStream(out))),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if not isinstance(kept, LibraryLogHandler)]
    root.addHandler(LibraryLogHandler())
    root.setLevel(logging.WARNING)


def _discard_unwritten() -> None:
    """Discard the lines that couldn't be written, when the process exits.

    Otherwise Python would try to flush them at exit, fail again, and change the exit code.
    """
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def get_logger(**context: object) -> FilteringBoundLogger:
    """Return a logger that adds `context` to each line."""
    logger: FilteringBoundLogger = structlog.get_logger(**context)
    return logger


def describe_error_without_secrets(error: BaseException) -> str:
    """Describe an error for a log line, without quoting anything secret.

    Our own errors are described by their message, and system errors by their name, such as
    "Connection refused". Any other error is described only by its type, because a library's message
    may quote a record or a secret.
    """
    match error:
        case NormalizerError():
            return str(error)
        case OSError() if error.strerror:
            return f"{type(error).__name__}: {error.strerror}"
        case BaseExceptionGroup():
            return ", ".join(dict.fromkeys(map(describe_error_without_secrets, error.exceptions)))
        case _:
            return type(error).__name__


def log_unexpected_error(event: str, error: BaseException) -> None:
    """Log an unexpected error. Its traceback may show content, so it's logged at level debug."""
    logger = get_logger()
    logger.error(event, why=f"unexpected error, our bug: {describe_error_without_secrets(error)}")
    logger.debug("process.traceback", exc_info=error)


class _SecretMasker:
    """A structlog processor that masks secrets in every text of a line, including nested ones."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted((text for text in secrets if len(text) > 2), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, _logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        """Return the line with its secrets masked, and with timestamp, level, and event first."""
        first = {key: line[key] for key in ("timestamp", "level", "event") if key in line}
        return {key: self._masked(value) for key, value in (first | dict(line)).items()}

    def _masked(self, value: Any) -> Any:
        match value:
            case str():
                return self._masked_text(value)
            case Mapping():
                return {key: self._masked(item) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._masked(item) for item in value]
            case None | bool() | int() | float():
                return value
            case _:
                return self._masked_text(str(value))

    def _masked_text(self, text: str) -> str:
        if self._known:
            text = self._known.sub(URL_MASK, text)
        return _TOKEN.sub(URL_MASK, mask_url_passwords(text))


_TOKEN: Final = re.compile(
    r"\b(?:bearer|basic)\s+[A-Za-z0-9+/._~-]{8,}=*"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.IGNORECASE | re.DOTALL,
)


class LibraryLogHandler(logging.Handler):
    """Logs lines of libraries with our logger. Repeated lines of one kind become a count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(level=logging.WARNING)
        self._clock = clock
        self._silent_until: dict[tuple[str, str], float] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log a line, or only count it if a similar line was logged a moment ago."""
        kind = (record.name, str(record.msg))
        now = self._clock()
        if now < self._silent_until.get(kind, 0.0):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._silent_until[kind] = now + _REPEAT_AFTER_S
        logger = get_logger(library=record.name.partition(".")[0])
        context: dict[str, object] = {}
        if left_out := self._left_out.pop(kind, 0):
            context["suppressed"] = left_out
        if record.exc_info and record.exc_info[1]:
            context["error"] = describe_error_without_secrets(record.exc_info[1])
        logger.log(record.levelno, record.getMessage(), **context)


class OutageLogger:
    """Logs one line when something becomes unavailable, and one when it's back."""

    def __init__(
        self, logger: FilteringBoundLogger, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = logger
        self._clock = clock
        self._since_s: float | None = None
        self._is_silent = False
        self._tries = 0
        self._sign_in_tries = SignInRetryLimit()

    def __bool__(self) -> bool:
        return self._since_s is not None

    def count_failure(self, error: RetryableError) -> int:
        """Count another failed try. Returns how many have failed in a row.

        Raises FatalError if the sign-in was rejected too often.
        """
        self._sign_in_tries.count_failure(error)
        self._tries += 1
        if self._since_s is None or self._is_silent:
            self._begin(describe_error_without_secrets(error))
        else:
            self._log.debug(
                "outage.continues", why=describe_error_without_secrets(error), tries=self._tries
            )
        return self._tries

    def log_no_answer(self, why: str) -> None:
        """Log that there's no response yet. A failure after that is logged too."""
        if self._since_s is None:
            self._begin(why)
            self._is_silent = True

    def _begin(self, why: str) -> None:
        self._since_s = self._since_s or self._clock()
        self._is_silent = False
        self._log.warning("outage.began", why=why, then="trying again until it is back")

    @contextlib.contextmanager
    def log_if_no_answer(self) -> Iterator[None]:
        """Log that the database doesn't respond if the block takes longer than _SILENT_AFTER_S."""
        silence = f"database: no answer for {_SILENT_AFTER_S:g} s"
        timer = asyncio.get_running_loop().call_later(_SILENT_AFTER_S, self.log_no_answer, silence)
        try:
            yield
        finally:
            timer.cancel()

    def count_success(self) -> bool:
        """Count a success. Returns whether it ended an outage."""
        if self._since_s is None:
            return False
        away_s = round(self._clock() - self._since_s, 1)
        self._log.info("outage.ended", away_s=away_s, tries=self._tries)
        self._since_s = None
        self._is_silent = False
        self._tries = 0
        self._sign_in_tries.reset_count()
        return True


class ServiceCounters(msgspec.Struct):
    """Counts what the process has done since it started."""

    batches: int = 0
    records: int = 0
    holes: int = 0
    outcomes: int = 0
    stored: int = 0
    duplicate: int = 0
    merged: int = 0
    quarantined: int = 0
    ignored: int = 0
    fenced: int = 0
    gaps: int = 0
    stopped: int = 0
    rejoins: int = 0
    rebalances: int = 0

    def add(self, amounts: Mapping[str, int]) -> None:
        """Add amounts by name."""
        for name, amount in amounts.items():
            setattr(self, name, getattr(self, name) + amount)


_ECS: Final = {
    "timestamp": "@timestamp",
    "level": "log.level",
    "trace_id": "trace.id",
    "span_id": "span.id",
    "library": "log.logger",
    "error": "error.message",
    "exception": "error.stack_trace",
}


def _as_ecs(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Return the line in the Elastic Common Schema.

    Fields that the schema doesn't define go below `normalizer`.
    """
    event, why = line.pop("event"), line.get("why")
    ecs = {name: line.pop(key) for key, name in _ECS.items() if key in line}
    ecs |= {"message": f"{event}: {why}" if why else event, "ecs.version": _ECS_VERSION}
    if "log.logger" not in ecs:
        ecs["event.action"] = event
    return ecs | ({"normalizer": line} if line else {})


def _as_json(line: object, **_options: object) -> str:
    try:
        return msgspec.json.encode(line, enc_hook=str).decode()
    except UnicodeEncodeError:  # text such as a file name may have bytes that aren't UTF-8
        return json.dumps(line, default=str)
