"""Times, spans and scopes that commands take as text."""

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from projector.hours import hour_of
from projector.verify.ranges import Scope


def scope_of(
    since: str | None, until: str | None, last: str | None, sample: int | None, seed: int | None
) -> Scope:
    """The scope of the options --since, --until, --last and --sample. Raises click.UsageError."""
    if since and last:
        raise click.UsageError("give --since or --last, not both")
    bounds: dict[str, Any] = {}
    if since:
        bounds["since"] = hour_of(_parse_moment(since))
    if last:
        bounds["since"] = hour_of(datetime.now(UTC) - parse_span(last))
    if until:
        bounds["until"] = hour_of(_parse_moment(until) + timedelta(hours=1, microseconds=-1))
    if sample:
        drawn = secrets.randbelow(1_000_000) if seed is None else seed
        return Scope(kind="sample", hours=sample, seed=drawn, **bounds)
    return Scope(kind="range" if bounds else "all", **bounds)


def _parse_moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a time: write it as 2026-07-01T09:00") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_span(text: str) -> timedelta:
    """A number with m, h or d, for example 90m. Raises click.BadParameter."""
    found = re.fullmatch(r"(\d+)([mhd])", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a span: write it as 90m, 24h or 7d")
    unit = {"m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return timedelta(**{unit: int(found[1])})
