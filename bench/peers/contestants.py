"""The contestants: what each one runs, and what it leaves out compared with the service."""

from typing import Final, Literal

import msgspec

Kind = Literal["service", "script", "connect"]


class Leaves(msgspec.Struct, frozen=True):
    """How each contestant does each part of the service's work. '' is never right."""

    normalizes: str
    unwraps: str
    repeats: str
    projections: str
    poison: str


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """A program that takes part, and its row in the comparison.

    `program` is what `installs` prepares for it. `members` is the number of processes or tasks that
    share the topic. `breakable` is true if it can run without our guard against records that make
    it fail.
    """

    name: str
    about: str
    kind: Kind
    program: str
    leaves: Leaves
    processes: int = 1
    members: int = 1
    measures_latency: bool = True
    breakable: bool = False


_ALL: Final = Leaves(
    "every rule", "yes", "by id and coordinates, merged", "all", "quarantined, counted"
)
_BY_HAND: Final = Leaves("11 fields by alias", "no: one row", "by id", "none", "dropped, uncounted")
_GUARDED: Final = Leaves(
    "11 fields by alias", "no: one row", "by id", "none", "only by our own guard"
)
_FINISHED: Final = Leaves(
    "no: reads finished rows", "no", "by id, the last report wins", "none", "not tried"
)


def _script(name: str, about: str, leaves: Leaves, *, breakable: bool = True) -> Contestant:
    """A program of bench/peers that runs as one process."""
    return Contestant(
        name=name, about=about, kind="script", program=name, leaves=leaves, breakable=breakable
    )


CONTESTANTS: Final = (
    Contestant(
        name="normalizer", about="normalizer run", kind="service", program="service", leaves=_ALL
    ),
    Contestant(
        name="normalizer-2",
        about="normalizer run, two processes",
        kind="service",
        program="service",
        leaves=_ALL,
        processes=2,
        members=2,
        measures_latency=False,
    ),
    _script("plain", "aiokafka, json, executemany", _BY_HAND),
    Contestant(
        name="plain-2",
        about="the same, two processes",
        kind="script",
        program="plain",
        leaves=_BY_HAND,
        processes=2,
        members=2,
        measures_latency=False,
    ),
    _script("copying", "aiokafka, msgspec, COPY", _BY_HAND),
    _script("faststream", "FastStream, asyncpg", _GUARDED),
    _script("quix", "Quix Streams, its PostgreSQL sink", _GUARDED),
    _script("go", "Go: franz-go, encoding/json, pgx COPY", _BY_HAND),
    _script("bento", "Bento, sql_insert", _GUARDED, breakable=False),
    Contestant(
        name="connect",
        about="Kafka Connect, Debezium's JDBC sink, one task",
        kind="connect",
        program="connect",
        leaves=_FINISHED,
    ),
)
