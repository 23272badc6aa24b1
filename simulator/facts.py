"""The events of the platform as they happen, before any producer writes a message about them."""

from typing import Literal

import msgspec

from simulator.ids import Minter


class DeploymentTraits(msgspec.Struct, frozen=True, kw_only=True):
    """How the producers of a deployment behave, in whatever form they write events.

    If `numbered`, the worker reports the number of a try, so a command may have several tries. If
    `reissues`, the server may issue a retry again under the id of its command. If `batches`, the
    worker sends everything that happens at one instant as a single record. If `callbacks`, the
    worker can hand work over to another system, and complete it later.
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
    """One try of a command. `attempts` is the number of tries before it.

    `named` is true if the id of the command contains its step, and `iteration` is the index in a
    loop that is part of the id. `facts` has the kind and number of each event of the try, in order.
    `outcome` is empty until the try ends.
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
    """One run of a playbook (an execution).

    `text` is the id as the platform writes it, in digits or any other characters, and
    `execution_id` is the number that a reader must make of it. If the id isn't a number, `opaque`
    is true and the number is a hash. `deployment` names the producers that report the run, and
    `minters` generate the ids of the server's and the worker's events. `facts` has the kind, step,
    and number of each event of the server.

    `calls` has every try of every command. `running` is the current one, and `trailing` are those
    whose completion is reported after the run has ended. `outcome` is empty until the run ends.
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

    Both are JSON with sorted keys. They differ if the payload has a secret, which must be redacted,
    or text that PostgreSQL can't store.
    """

    sent: msgspec.Raw
    kept: msgspec.Raw
    rules: tuple[str, ...] = ()


class Fact(msgspec.Struct):
    """One thing that happened on the platform, such as the start of a command.

    `number` counts the facts from 1, and `event_id` is the id that the platform assigned, although
    a producer may leave it out. `outcome` is empty unless something ended. `error` is a pair: the
    error text as it's sent, and as it may be stored. If `pending` is true, the call was only handed
    over, and its completion follows as a callback. If `shares_id` is true, an earlier fact has the
    same event_id, because two nodes of the id generator had the same number.
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
