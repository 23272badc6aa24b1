"""Parses the times, spans, and scopes of commands."""

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from projector.hours import start_of_hour
from projector.verify.ranges import VerifyScope


def parse_scope(
    since: str | None, until: str | None, last: str | None, sample: int | None, seed: int | None
) -> VerifyScope:
    """Build the scope from --since, --until, --last, and --sample. Raises click.UsageError."""
    if since and last:
        raise click.UsageError(
            "--since and --last can't be used together, because both set the start of the range"
        )
    bounds: dict[str, Any] = {}
    if since:
        bounds["since"] = _parse_hour(since)
    if last:
        bounds["since"] = start_of_hour(datetime.now(UTC) - parse_duration(last))
    if until:
        bounds["until"] = _parse_hour(until, up=True)
        if "since" in bounds and bounds["since"] >= bounds["until"]:
            start = since or f"{bounds['since']:%Y-%m-%dT%H:%M} UTC"
            raise click.UsageError(f"the end, {until}, must be later than the start, {start}")
    if sample:
        drawn = secrets.randbelow(1_000_000) if seed is None else seed
        return VerifyScope(sampled_hours=sample, seed=drawn, **bounds)
    return VerifyScope(**bounds)


def _parse_hour(text: str, *, up: bool = False) -> datetime:
    """Return the hour of a time, or with `up` the next one unless the time begins an hour."""
    try:
        moment = datetime.fromisoformat(text)
        utc = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        return start_of_hour(utc + timedelta(hours=1, microseconds=-1) if up else utc)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} is not a time. Write it like 2026-07-01T09:00"
        ) from error


def parse_duration(text: str) -> timedelta:
    """Parse a span such as 90m, 24h, or 7d. Raises click.BadParameter if the text isn't one.

    0 is rejected because it's ambiguous: `--keep-raw 0d` could mean to delete everything, or to
    keep it indefinitely.
    """
    found = re.fullmatch(r"(?!0+[mhd])([0-9]{1,5})([mhd])", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is not a length of time. Write it like 90m, 24h, or 7d")
    unit = {"m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return timedelta(**{unit: int(found[1])})
