"""Which producers run together: who tells of an execution, with which ids, in which shapes.

Source: wire-shapes, section 2; the deployments are the pairs of server and worker releases that
were ever in use together.
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from simulator import python_rows, python_server, rust_server, worker
from simulator.facts import Fact
from simulator.telling import Pen, Telling

Teller = Callable[[Fact, Pen], Telling]


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A server and a worker of certain releases.

    `again`: how the server tells an event a second time that its worker has told, under one id.
    `numbered`: whether the worker says which try it reports, so that one command may have several.
    `reissues`: whether the server may issue a retry under its command's id again, with its number.
    `batches`: whether the worker sends what happens at once as one batch. `callbacks`: whether it
    can hand work over and complete later.
    """

    name: str
    server: Teller
    worker: Teller
    ids: Literal["application", "doubled", "small"] = "application"
    executions: Literal["snowflake", "small", "padded", "opaque"] = "snowflake"
    commands: Literal["named", "number", "none"] = "named"
    again: Teller | None = None
    numbered: bool = False
    reissues: bool = False
    batches: bool = False
    callbacks: bool = False
    feed: float = 0.0
    share: float = 1.0


DEPLOYMENTS: Final[tuple[Deployment, ...]] = (
    Deployment(
        name="rust_now",
        server=rust_server.stream_row,
        worker=worker.executor_event,
        again=rust_server.stream_row,
        numbered=True,
        callbacks=True,
        feed=0.3,
        share=5.0,
    ),
    Deployment(
        name="rust_before",
        server=rust_server.stream_row,
        worker=worker.worker_event,
        reissues=True,
        feed=0.1,
        share=2.0,
    ),
    Deployment(
        name="rust_requests",
        server=rust_server.stream_row,
        worker=rust_server.event_request,
        batches=True,
        share=1.0,
    ),
    Deployment(
        name="rust_projector",
        server=rust_server.projector_envelope,
        worker=rust_server.projector_envelope,
        numbered=True,
        share=0.5,
    ),
    Deployment(
        name="python_requests",
        server=python_rows.stored_row,
        worker=python_server.request,
        ids="doubled",
        commands="number",
        batches=True,
        callbacks=True,
        share=3.0,
    ),
    Deployment(
        name="python_emits",
        server=python_server.emit_request,
        worker=python_server.emit_request,
        share=2.0,
    ),
    Deployment(
        name="python_and_rust_worker",
        server=python_rows.stored_row,
        worker=worker.worker_event,
        ids="doubled",
        commands="number",
        reissues=True,
        share=1.0,
    ),
    Deployment(
        name="python_2025",
        server=python_rows.legacy_row,
        worker=python_rows.legacy_row,
        commands="none",
        numbered=True,
        share=1.0,
    ),
    Deployment(
        name="inline",
        server=python_server.request,
        worker=python_server.request,
        executions="padded",
        batches=True,
        share=0.3,
    ),
    Deployment(
        name="command_line",
        server=worker.executor_six,
        worker=worker.executor_six,
        executions="opaque",
        share=0.5,
    ),
    Deployment(
        name="small_numbers",
        server=rust_server.event_request,
        worker=rust_server.event_request,
        executions="small",
        ids="small",
        share=0.2,
    ),
)
