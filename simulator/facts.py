"""What happens on the platform, in its own terms, before any producer writes it down."""

from typing import TYPE_CHECKING

import msgspec

from simulator.ids import Minter

if TYPE_CHECKING:
    from simulator.deployments import Deployment


class Execution(msgspec.Struct):
    """One run of a playbook.

    `text` is its id as the platform says it (digits, or anything); `execution_id` the number that
    stands for it everywhere else. `deployment` names the producers that report it, `minters` give
    the ids of its server's events and of its worker's.
    """

    number: int
    text: str
    execution_id: int
    playbook: str
    version: str
    catalog_id: int
    deployment: "Deployment"
    minters: tuple[Minter, Minter]
    parent: "Execution | None" = None
    outcome: str = ""


class Call(msgspec.Struct):
    """One try of one command. `attempts` counts the retries that came before it.

    `named` says that the command's id holds its step, and `iteration` is what it holds of a loop.
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


class Content(msgspec.Struct, frozen=True):
    """What a call returns or takes: as it is sent, and as it may be kept (JSON, sorted keys).

    They differ where it holds a secret, or text that Postgres cannot hold.
    """

    sent: msgspec.Raw
    kept: msgspec.Raw
    rules: tuple[str, ...] = ()


class Fact(msgspec.Struct):
    """One thing that happened. `outcome` is '' for what is no end of anything.

    `event_id` is the one the platform gave it: whether a telling carries it is up to the producer.
    `number` counts facts as they are first told.
    """

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
    error: str | None = None
    content: Content | None = None
    caused_by: int | None = None
    pending: bool = False
    number: int = 0
