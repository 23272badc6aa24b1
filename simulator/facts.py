"""What happens on the platform, in its own terms, before any producer writes it down."""

from typing import TYPE_CHECKING

import msgspec

from simulator.ids import Minter

if TYPE_CHECKING:
    from simulator.deployments import Deployment


class Call(msgspec.Struct):
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


class Execution(msgspec.Struct):
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
    deployment: "Deployment"
    minters: tuple[Minter, Minter]
    parent: "Execution | None" = None
    outcome: str = ""
    running: Call | None = None
    trailing: list[Call] = []
    calls: list[Call] = []
    facts: list[tuple[str, str, int]] = []
    children: "list[Execution]" = []


class Content(msgspec.Struct, frozen=True):
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
    execution: Execution
    step: str
    at_us: int
    event_id: int
    outcome: str = ""
    attempts: int = 0
    call: Call | None = None
    worker: str | None = None
    node_type: str | None = None
    duration_ms: int | None = None
    error: tuple[str, str] | None = None
    content: Content | None = None
    caused_by: int | None = None
    pending: bool = False
    shares_id: bool = False
