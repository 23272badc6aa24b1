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
    Contestant(
        name="plain",
        about="aiokafka, json, executemany",
        kind="script",
        program="plain",
        leaves=_BY_HAND,
        breakable=True,
    ),
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
    Contestant(
        name="copying",
        about="aiokafka, msgspec, COPY",
        kind="script",
        program="copying",
        leaves=_BY_HAND,
        breakable=True,
    ),
    Contestant(
        name="faststream",
        about="FastStream, asyncpg",
        kind="script",
        program="faststream",
        leaves=_GUARDED,
        breakable=True,
    ),
    Contestant(
        name="quix",
        about="Quix Streams, its PostgreSQL sink",
        kind="script",
        program="quix",
        leaves=_GUARDED,
        breakable=True,
    ),
    Contestant(
        name="go",
        about="Go: franz-go, encoding/json, pgx COPY",
        kind="script",
        program="go",
        leaves=_BY_HAND,
        breakable=True,
    ),
    Contestant(
        name="bento",
        about="Bento, sql_insert",
        kind="script",
        program="bento",
        leaves=_GUARDED,
    ),
    Contestant(
        name="connect",
        about="Kafka Connect, Debezium's JDBC sink, one task",
        kind="connect",
        program="connect",
        leaves=_FINISHED,
    ),
)
