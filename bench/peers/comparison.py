"""Rounds over all contestants, in turn, and their rows of results."""

import asyncio
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from bench.drain import TOPIC, load
from bench.peers.contestants import CONTESTANTS, Contestant
from bench.peers.drains import Drain, drain
from bench.peers.installs import LeftOutError, prepare, versions
from bench.peers.latencies import Latency, measure_latency, plain_lines
from bench.peers.servers import Servers, send_finished_rows, servers
from tests.support.results import command_line, write_results

_FINISHED: Final = "finished.rows"
_POISON: Final = "poison"
ODD: Final = ("double_encoded", "framed", "headers", "listed", "mutated", "odd_text")
"""Records that some contestant can't read or store, besides poison. No topic has them."""
_MIX: Final = tuple(part for name in ODD for part in ("--set", f"{name}=0"))
_POISON_EVENTS: Final = 20_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements to make. `seconds` is how long a run for latency takes."""

    events: int
    rounds: int
    rate: float
    seconds: float
    only: list[str]
    parts: list[str]
    installs: Path
    results: bool


class Findings(msgspec.Struct):
    """Everything that was measured, and who was left out."""

    drains: dict[str, list[Drain]]
    latencies: dict[str, Latency]
    poison: dict[str, tuple[Drain, Drain | None]]
    left_out: dict[str, str]


def prepared(options: Options) -> tuple[dict[str, list[str | Path]], dict[str, str]]:
    """Return each program's command, and who is left out."""
    commands: dict[str, list[str | Path]] = {}
    left_out = {}
    for program in dict.fromkeys(who.program for who in (CONTESTANTS[0], *_chosen(options))):
        print(f"preparing {program}", flush=True)
        try:
            commands[program] = prepare(program, options.installs)
        except LeftOutError as error:
            left_out[program] = str(error)
            print(f"left out: {program}: {error}", flush=True)
    return commands, left_out


def _chosen(options: Options) -> list[Contestant]:
    return [who for who in CONTESTANTS if who.name in options.only]


async def compare(
    options: Options, commands: dict[str, list[str | Path]], left_out: dict[str, str]
) -> Findings:
    """Measure, and print each figure as it comes."""
    found = Findings(defaultdict(list), {}, {}, left_out)
    chosen = [who for who in _chosen(options) if who.program in commands]
    async with servers(Path(tempfile.mkdtemp(prefix="peers-"))) as stack:
        stack.commands = commands
        finished = await _warm_up(stack, options)
        if "drain" in options.parts:
            await _drains(stack, options, chosen, found)
        if "latency" in options.parts:
            await _latencies(stack, options, chosen, found, finished)
        if "poison" in options.parts:
            await _poison(stack, options, chosen, found)
    return found


async def _warm_up(stack: Servers, options: Options) -> list[str]:
    """Load the topic, and let the service make the finished rows of it."""
    await stack.create_topic(TOPIC)
    await load(stack.kafka.bootstrap_servers, options.events, 1, "--poison=0", *_MIX)
    service = CONTESTANTS[0]
    await drain(stack, service, 0, TOPIC, options.events, keep=True)
    name = f"{service.name}-{TOPIC}-0"
    finished = await send_finished_rows(stack, stack.postgres.database_url(name), _FINISHED)
    await stack.drop_database(name)
    return finished


async def _drains(
    stack: Servers, options: Options, chosen: list[Contestant], found: Findings
) -> None:
    rows = {TOPIC: await stack.ids_in(TOPIC), _FINISHED: await stack.count_records(_FINISHED)}
    for number in range(1, options.rounds + 1):
        turn = (number - 1) * len(chosen) // options.rounds  # each round begins with another
        for who in (*chosen[turn:], *chosen[:turn]):
            topic = _FINISHED if who.kind == "connect" else TOPIC
            expected = None if who.kind == "service" else rows[topic]
            one = await drain(stack, who, number, topic, options.events, expected=expected)
            found.drains[who.name].append(one)
            print(f"drain {number}: {who.name}: {_drained(one)}", flush=True)


async def _latencies(
    stack: Servers,
    options: Options,
    chosen: list[Contestant],
    found: Findings,
    finished: list[str],
) -> None:
    count = int(options.rate * options.seconds)
    plain = plain_lines(stack.folder, count)
    ready = [[None, number % 6, line] for number, line in enumerate(finished[:count])]
    for who in chosen:
        if who.measures_latency:
            lines = ready if who.kind == "connect" else plain
            one = await measure_latency(stack, who, lines, options.rate)
            found.latencies[who.name] = one
            print(
                f"latency: {who.name}: p50 {one.p50_ms:.1f} ms, p99 {one.p99_ms:.1f} ms, "
                f"{one.missing:,} of {one.counted:,} never seen; {one.rate:,.0f} sent a second, "
                f"{one.own_us:.0f} us of its own, {one.postgres_us:.0f} of PostgreSQL"
            )


async def _poison(
    stack: Servers, options: Options, chosen: list[Contestant], found: Findings
) -> None:
    events = min(_POISON_EVENTS, options.events)
    await stack.create_topic(_POISON)
    await load(stack.kafka.bootstrap_servers, events, 1, f"--topic={_POISON}", *_MIX)
    for who in chosen:
        if who.processes > 1 or who.kind == "connect" or not who.measures_latency:
            continue
        guarded = await drain(stack, who, 1, _POISON, events)
        bare = None
        if who.breakable:
            bare = await drain(stack, who, 1, _POISON, events, unguarded=True)
        found.poison[who.name] = (guarded, bare)
        print(f"poison: {who.name}: {_drained(guarded)}", flush=True)
        if bare is not None:
            print(f"poison: {who.name}, without our guard: {_drained(bare)}", flush=True)


def _drained(one: Drain) -> str:
    if one.seconds is None:
        return f"fails, with {one.rows:,} rows. {one.last_words}"
    return f"{one.rate:,.0f} events/s, {one.own_us:.1f} us of its own, {one.rows:,} rows"


def write_rows(found: Findings) -> None:
    """Add a row per contestant to docs/results.csv."""
    abouts = {who.name: who for who in CONTESTANTS}
    columns = (
        *("who", "events/s", "own us", "PostgreSQL us", "Kafka us", "memory MB"),
        *("p50 ms", "p99 ms", "never seen", "normalizes", "unwraps", "repeats", "projections"),
        *("poison", "reads poison", "without our guard", "version"),
    )
    figures: dict[str, object] = {}
    for name, drains in found.drains.items():
        who = abouts[name]
        cells: list[Any] = _costs(drains)
        latency = found.latencies.get(name)
        cells += _waits(latency) if latency else [""] * 3
        leaves = who.leaves
        cells += [leaves.normalizes, leaves.unwraps, leaves.repeats, leaves.projections]
        cells += [leaves.poison, *map(_read, found.poison.get(name, (None, None)))]
        cells.append("" if who.program == "service" else versions(who.program))
        figures[who.about] = " | ".join(map(str, cells))
    for program, why in found.left_out.items():
        figures[program] = " | ".join([f"left out: {why}", *[""] * (len(columns) - 2)])
    write_results("peers", command_line(), figures, columns=columns[1:])


def _costs(drains: list[Drain]) -> list[str]:
    whole = [one for one in drains if one.seconds is not None]
    if not whole:
        return [f"fails: {drains[-1].last_words}", "", "", "", ""]
    rates = [one.rate for one in whole]
    failed = f", {len(drains) - len(whole)} of {len(drains)} fail" if whole != drains else ""
    return [
        f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}){failed}",
        f"{median(one.own_us for one in whole):.1f}",
        f"{median(one.postgres_us for one in whole):.1f}",
        f"{median(one.kafka_us for one in whole):.1f}",
        f"{median(one.memory_mb for one in whole):.0f}",
    ]


def _waits(latency: Latency) -> list[str]:
    missing = f"{latency.missing / latency.counted:.1%}"
    return [f"{latency.p50_ms:.1f}", f"{latency.p99_ms:.1f}", missing]


def _read(poison: Drain | None) -> str:
    if poison is None:
        return ""
    return f"{'stops at' if poison.seconds is None else 'all:'} {poison.rows:,} rows"


def run(options: Options) -> int:
    """Compare, print, and write. Returns 1 if nobody could be measured."""
    load_average = os.getloadavg()[0]
    if load_average > 0.5:
        print(f"the machine is not idle, load average {load_average:.1f}: ratios, no figures")
    found = asyncio.run(compare(options, *prepared(options)))
    if options.results:
        write_rows(found)
    return 0 if found.drains or found.latencies or found.poison else 1
