"""Deployments: which release of the server runs with which release of the worker.

Each release writes events differently, so the deployment decides what the events of an execution
look like. This module has every pair of releases that was ever in use, and three more. Those cover
ways of numbering retries that no real pair has. Source: docs/spec/wire-shapes.md#python-server,
#rust-server, #workerevent.
"""

from collections.abc import Callable
from typing import Final

from simulator import layers, python_rows, python_server, rust_server, rust_worker
from simulator.facts import DeploymentTraits, Fact, PlaybookRun
from simulator.rendering import RenderChoices, RenderedEvent

Renderer = Callable[[Fact, RenderChoices], RenderedEvent]


class Deployment(DeploymentTraits, frozen=True, kw_only=True):
    """A server and a worker that run together, each of a certain release.

    - `server` and `worker` write an event in the form of their release.
    - `again`, if set, writes a second report of an event that the worker has already reported. It's
      the server's own report, under the same id.
    - `layered` is true if an event may arrive in several forms: as its client sent it, as a row of
      either server, or as all three.
    - `share` is the weight of this pair when the deployment of an execution is drawn.
    """

    server: Renderer
    worker: Renderer
    again: Renderer | None = None
    layered: bool = False
    share: float = 1.0


DEPLOYMENTS: Final[tuple[Deployment, ...]] = (
    Deployment(
        name="rust_now",
        server=rust_server.stream_row,
        worker=rust_worker.executor_event,
        again=rust_server.stream_row,
        numbered=True,
        callbacks=True,
        feed=0.3,
        share=5.0,
    ),
    Deployment(
        name="rust_before",
        server=rust_server.stream_row,
        worker=rust_worker.worker_event,
        reissues=True,
        feed=0.1,
        share=2.0,
    ),
    Deployment(
        name="rust_requests",
        reissues=True,
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
        reissues=True,
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
        reissues=True,
        server=python_server.emit_request,
        worker=python_server.emit_request,
        share=2.0,
    ),
    Deployment(
        name="python_and_rust_worker",
        server=python_rows.stored_row,
        worker=rust_worker.worker_event,
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
        reissues=True,
        server=python_server.request,
        worker=python_server.request,
        executions="padded",
        batches=True,
        share=0.3,
    ),
    Deployment(
        name="command_line",
        reissues=True,
        server=rust_worker.executor_six,
        worker=rust_worker.executor_six,
        executions="opaque",
        share=0.5,
    ),
    Deployment(
        name="layers",
        server=layers.client_report,
        worker=layers.client_report,
        layered=True,
        numbered=True,
        callbacks=True,
        share=1.0,
    ),
    Deployment(
        name="small_numbers",
        server=rust_server.event_request,
        worker=rust_server.event_request,
        executions="small",
        ids="small",
        share=0.2,
    ),
    Deployment(
        name="worker_alone_numbers",
        server=rust_worker.executor_six,
        worker=rust_worker.executor_event,
        reissues=True,
        share=0.3,
    ),
    Deployment(
        name="issuer_numbers_retries",
        server=python_server.request,
        worker=rust_worker.worker_event,
        reissues=True,
        share=0.3,
    ),
    Deployment(
        name="worker_numbers_retries",
        server=rust_worker.executor_six,
        worker=python_server.request,
        reissues=True,
        share=0.3,
    ),
)

_BY_NAME: Final = {deployment.name: deployment for deployment in DEPLOYMENTS}


def choose_deployment(execution: PlaybookRun) -> Deployment:
    """The deployment that reports an execution."""
    return _BY_NAME[execution.deployment.name]
