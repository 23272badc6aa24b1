"""The events of the platform in its own terms, before any producer writes them down."""

from typing import Literal

import msgspec

from simulator.ids import Minter


class DeploymentTraits(msgspec.Struct, frozen=True, kw_only=True):
    """How the producers of a deployment behave, in whatever shapes they write.

    `numbered`: whether the worker reports the number of the try, so that one command may have
    several. `reissues`: whether the server may issue a retry under its command's id again.
    `batches`: whether the worker sends what happens at one instant as one batch. `callbacks`:
    whether it can hand work over and complete later.
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
    """One try of one command. `attempts` counts the retries before it.

    `named`: the command's id contains its step, and `iteration` is the part for a loop. `facts` are
    (kind, number) of its events, in order; `outcome` is '' while it runs.
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
    """One run of a playbook.

    `text` is its id as the platform writes it (digits, or anything); `execution_id` is the number
    used everywhere else, a hash if `opaque`. `deployment` names the producers that report it,
    `minters` make the ids of its server's events and of its worker's. `facts` are (kind, step,
    number) of its server's events, `calls` every try of every command, `running` the current one,
    `trailing` those whose completion is reported only after the end. `outcome` is '' until it ends.
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
    """A call's input or result: as it's sent, and as it may be kept (JSON, sorted keys).

    They differ if it holds a secret, or text that PostgreSQL cannot store.
    """

    sent: msgspec.Raw
    kept: msgspec.Raw
    rules: tuple[str, ...] = ()


class Fact(msgspec.Struct):
    """One thing that happened. `outcome` is '' unless it ends something.

    `number` counts facts. `event_id` is the one the platform assigned; the producer may leave it
    out of a report. `error` is the text as it is sent and as it may be kept. `pending` is a
    completion that only hands work over: a callback reports the real one. `shares_id`: an earlier
    fact has the same event_id, because two node numbers collided.
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
