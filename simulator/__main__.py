"""The command line: `python -m simulator play | write`."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import click
import msgspec

from simulator import kafka
from simulator.lines import lines
from simulator.mix import Mix
from simulator.record import Record
from simulator.topic import records

_FLAT_OUT_RATE = 5_000.0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What every command can be told about the traffic."""

    mix: Mix
    seed: int
    executions: int | None
    events: int | None

    def records(self) -> Iterator[Record]:
        """The records asked for: until executions or events have run out."""
        seen = 0
        for record in records(self.mix, self.seed, executions=self.executions):
            if self.events is not None and seen >= self.events:
                return
            seen += len(record.outcomes)
            yield record


def _asked(options: dict[str, Any], **mix: Any) -> Asked:
    """What stands on the command line; `--set` goes over the options of their own."""
    mix |= {name: options[name] for name in ("in_flight", "poison")}
    given = {name: value for name, value in mix.items() if value is not None}
    for setting in options["settings"]:
        name, _, value = setting.partition("=")
        given[name] = value
    known = {field.name for field in msgspec.structs.fields(Mix)}
    if unknown := ", ".join(sorted(set(given) - known)):
        raise click.UsageError(f"no such setting: {unknown}; there are: {', '.join(sorted(known))}")
    try:
        return Asked(
            mix=msgspec.convert(given, Mix, strict=False),
            seed=options["seed"],
            executions=options["executions"],
            events=options["events"],
        )
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error


def _traffic_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--seed", default=1, show_default=True, help="The same seed, the same bytes."),
        click.option("--executions", type=int, help="Begin no more than so many (children apart)."),
        click.option("--events", type=int, help="Stop after so many events."),
        click.option("--in-flight", type=int, help="Executions at any time."),
        click.option("--poison", type=float, help="Share of records from the poison list."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="Any other field of the mix (see simulator/mix.py).",
        ),
    ):
        command = option(command)
    return command


@click.group()
def main() -> None:
    """A workflow platform that plays traffic and knows the truth about it."""


@main.command()
@click.option("--bootstrap-servers", required=True, metavar="HOST:PORT")
@click.option("--topic", default="noetl.events", show_default=True)
@click.option("--rate", default=0.0, help="Events a second; 0: as fast as the broker takes them.")
@click.option("--for", "seconds", type=float, help="Stop after so many seconds.")
@click.option("--live", is_flag=True, help="The platform's clock is the wall clock.")
@_traffic_options
def play(
    *,
    bootstrap_servers: str,
    topic: str,
    rate: float,
    seconds: float | None,
    live: bool,
    **options: Any,
) -> None:
    """Produce to a topic.

    Without --live the records carry the platform's own times, from 2025-06-01 on: give such a
    topic retention.ms=-1, or the broker deletes them.
    """
    start_us = _now_us() if live else None
    asked = _asked(options, rate=rate or _FLAT_OUT_RATE, start_us=start_us)
    paced = live or rate > 0
    sent = asyncio.run(_play(bootstrap_servers, topic, asked, seconds, paced=paced))
    click.echo(f"{sent} records", err=True)


async def _play(
    bootstrap_servers: str, topic: str, asked: Asked, seconds: float | None, *, paced: bool
) -> int:
    began_us = _now_us()
    async with kafka.producer(bootstrap_servers, topic) as sender:
        mix = msgspec.structs.replace(asked.mix, partitions=await sender.partitions())
        stream = msgspec.structs.replace(asked, mix=mix).records()
        if seconds is not None:
            stream = _until(stream, time.monotonic() + seconds)
        return await kafka.play(
            stream, sender, begins_us=began_us if paced else None, now_us=_now_us
        )


def _until(stream: Iterator[Record], deadline: float) -> Iterator[Record]:
    for record in stream:
        if time.monotonic() >= deadline:
            return
        yield record


def _now_us() -> int:
    return time.time_ns() // 1000


@main.command()
@click.argument("file", type=click.File("wb"))
@click.option("--topic", default="noetl.events", show_default=True)
@click.option("--partitions", default=6, show_default=True)
@_traffic_options
def write(*, file: BinaryIO, topic: str, partitions: int, **options: Any) -> None:
    """Write records to FILE (- is standard output) as `kcat -J` prints them."""
    asked = _asked(options, partitions=partitions)
    if asked.executions is None and asked.events is None:
        raise click.UsageError("say how much: --events N or --executions N")
    for line in lines(asked.records(), topic):
        file.write(line)
        file.write(b"\n")


if __name__ == "__main__":
    main()
