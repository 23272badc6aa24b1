"""The events of the platform as they happen, before any producer writes a message about them."""

from typing import Literal

import msgspec

from simulator.ids import Minter


class DeploymentTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What the producers of a deployment do differently, apart from the form of their events.

    - `numbered`: the worker says which try an event belongs to, so that a command can have several
      tries.
    - `reissues`: the server may issue a retry again, under the id of the same command.
    - `batches`: the worker sends all events of one instant in a single record.
    - `callbacks`: the worker can hand a call over to another system, and report its completion
      later.
    """

    name: str
    ids: Literal["application", "doubled", "small"] = "application"
    executions: Literal["snowflake", "small", "padded", "opaque"] = "snowflake"
    commands: Literal["named", "number", "none"] = "named"
    numbered: bool = False
    reissues: bool = False
    batches: bool = False
    callbacks: bool = False
    feed: float = 0.0


class CommandTry(msgspec.Struct):
    """One try of a command. `attempts` is the number of tries before it, so 0 for the first.

    If `named`, the id of the command contains the name of its step, and in a loop the index of the
    iteration (`iteration`). `facts` lists what happened in the try, in order, as pairs of a kind
    and a fact's number. `outcome` is empty until the try ends.
    """

    command_id: str
    step: str
    node_type: str
    worker: str
    attempts: int
    max_attempts: int
    named: bool = True
    iteration: int | None = None
    index: int = 0
    outcome: str = ""
    facts: list[tuple[str, int]] = []


class PlaybookRun(msgspec.Struct):
    """One run of a playbook, which the normalizer calls an execution.

    `text` is the run's id as the platform writes it, and a reader must turn that text into
    `execution_id`. If the text isn't a number, `execution_id` is a hash of it, and `opaque` is
    true. `deployment` names the producers that report the run. `minters` generate the ids of the
    server's events and of the worker's.

    `calls` lists every try of every command, `running` is the current try, and `trailing` are tries
    whose completion is reported only after the run has ended. `facts` lists the server's events as
    kind, step, and number. `outcome` is empty until the run ends.
    """

    number: int
    text: str
    execution_id: int
    playbook: str
    version: str
    catalog_id: int
    opaque: bool
    deployment: DeploymentTraits
    minters: tuple[Minter, Minter]
    parent: "PlaybookRun | None" = None
    outcome: str = ""
    running: CommandTry | None = None
    trailing: list[CommandTry] = []
    calls: list[CommandTry] = []
    facts: list[tuple[str, str, int]] = []
    children: "list[PlaybookRun]" = []


class Payload(msgspec.Struct, frozen=True):
    """The input or result of a call: as it's sent, and as a database may store it.

    Both forms are JSON with sorted keys. They differ only if the payload contains text that
    PostgreSQL can't store, or a secret, which must be redacted.
    """

    sent: msgspec.Raw
    kept: msgspec.Raw
    rules: tuple[str, ...] = ()


class Fact(msgspec.Struct):
    """One thing that happened on the platform, such as the start of a command.

    Facts are numbered from 1. `event_id` is the id that the platform gave to the fact, although a
    producer may leave it out of its report. `error` is a pair: the text that's sent, and the same
    text as a database may store it. `pending` means that the call was handed over to another
    system, and that its completion will be a separate fact. `shares_id` means that an earlier fact
    has the same id, because two nodes of the platform's id generator had the same number. `outcome`
    is empty unless something ended.
    """

    number: int
    kind: str
    execution: PlaybookRun
    step: str
    at_us: int
    event_id: int
    outcome: str = ""
    attempts: int = 0
    call: CommandTry | None = None
    worker: str | None = None
    node_type: str | None = None
    duration_ms: int | None = None
    error: tuple[str, str] | None = None
    content: Payload | None = None
    caused_by: int | None = None
    pending: bool = False
    shares_id: bool = False


Burst = tuple[list[Fact], int]
"""Facts of one instant, and microseconds until the next burst of the same execution."""
