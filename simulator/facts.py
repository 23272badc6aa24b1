"""The events of the platform in its own terms, before any producer writes them down."""

from typing import Literal

import msgspec

from simulator.ids import Minter


class DeploymentTraits(msgspec.Struct, frozen=True, kw_only=True):
    """How the producers of a deployment behave, whatever shapes they write.

    `numbered` is true if the worker reports which try an event is of, so one command may have
    several tries. `reissues` is true if the server may issue a retry again under the id of its
    command. `batches` is true if the worker sends everything that happens at one instant as one
    batch. `callbacks` is true if the worker can hand work over and complete it later.
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
    """One try of one command. `attempts` is the number of tries before it.

    `named` is true if the command's id contains its step, and `iteration` is the part of the id
    that stands for the iteration of a loop. `facts` holds (kind, number) of its events, in order.
    `outcome` is empty while it runs.
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

    `text` is its id as the platform writes it, which may be digits or any other text.
    `execution_id` is the number that is used everywhere else. It's a hash if the id is `opaque`.
    `deployment` names the producers that report the run, and `minters` make the ids of the server's
    and of the worker's events. `facts` holds (kind, step, number) of the server's events. `calls`
    holds every try of every command, `running` the try that runs now, and `trailing` the tries
    whose completion is reported only after the end of the run. `outcome` is empty until the run
    ends.
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
    """The input or result of a call: as the platform sends it, and as it may be stored.

    Both are JSON with sorted keys. They differ if it holds a secret, or text that PostgreSQL can't
    store.
    """

    sent: msgspec.Raw
    kept: msgspec.Raw
    rules: tuple[str, ...] = ()


class Fact(msgspec.Struct):
    """One thing that happened on the platform.

    `outcome` is empty unless the fact ends something. `number` counts the facts from the first one
    on. `event_id` is the id that the platform assigned, which the producer may leave out of a
    report. `error` is the error text as it is sent and as it may be stored. `pending` marks a
    completion that only hands work over, whose real completion comes as a callback. `shares_id` is
    true if an earlier fact has the same event_id, because two nodes of the id generator had the
    same number.
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
