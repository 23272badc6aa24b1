"""What happens on the platform, in its own terms, before any producer writes it down."""

from typing import Literal

import msgspec

from simulator.ids import Minter


class DeploymentTraits(msgspec.Struct, frozen=True, kw_only=True):
    """How the producers of a deployment behave, whatever shapes they write.

    `numbered`: whether the worker says which try it reports, so that one command may have several.
    `reissues`: whether the server may issue a retry under its command's id again, with its number.
    `batches`: whether the worker sends what happens at once as one batch. `callbacks`: whether it
    can hand work over and complete later.
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
    """One try of one command. `attempts` counts the retries that came before it.

    `named` says that the command's id holds its step, and `iteration` is what it holds of a loop.
    `facts` are (kind, number) of what was said of it, in order; `outcome` is '' while it runs.
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

    `text` is its id as the platform says it (digits, or anything); `execution_id` the number that
    stands for it everywhere else, a hash if `opaque`. `deployment` names the producers that report
    it, `minters` give the ids of its server's events and of its worker's. `facts` are (kind, step,
    number) of what its server said, `calls` every try of every command, `running` the one that
    runs now, `trailing` those whose completion is told only after the end. `outcome` is '' until
    it ends.
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
    """What a call returns or takes: as it is sent, and as it may be kept (JSON, sorted keys).

    They differ where it holds a secret, or text that Postgres cannot hold.
    """

    sent: msgspec.Raw
    kept: msgspec.Raw
    rules: tuple[str, ...] = ()


class Fact(msgspec.Struct):
    """One thing that happened. `outcome` is '' for what is no end of anything.

    `number` counts facts. `event_id` is the one the platform gave it: whether a telling carries it
    is up to the producer. `error` is the text as it is sent and as it may be kept. `pending` is a
    completion that is none yet: the work was handed over, and a callback will tell. `shares_id`: an
    earlier fact has the same event_id, for two node numbers met.
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
