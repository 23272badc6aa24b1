"""The command that erases an execution."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

from collections.abc import Coroutine
from typing import Any

import click

from normalizer.cli.exits import load_settings, run_or_exit
from normalizer.cli.job_execution import configure_screen
from normalizer.cli.position_commands import user_at_host
from normalizer.errors import ConfigurationError
from normalizer.jobs.forget import ErasedCounts, ErasureReason, Forget, ForgottenExecution
from normalizer.process.progress import Progress


def _execution(text: str) -> ForgottenExecution:
    try:
        return ForgottenExecution.parse(text)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("execution", type=_execution)
@click.option("--who", help="Who does it.  [default: user@host]")
@click.option("--why", required=True, help="Why: kept with the erasure, so no content.")
@click.option("--dry-run", is_flag=True, help="Only count what would be deleted.")
def forget(*, execution: ForgottenExecution, who: str | None, why: str, dry_run: bool) -> None:
    """Erase EXECUTION: its events, calls and refused bytes. Counts stay.

    \b
    normalizer forget 543942402461926429 --why "request 17" --dry-run
    normalizer forget 543942402461926429 --why "request 17" --who alice

    EXECUTION is its number, or the text that its producer named it by. Events of it
    that arrive later, from the log or from a file, are ignored. Refused records are emptied if
    their bytes contain its id, other than inside a longer word or number. Who, when and why is
    kept in normalizer.forgotten_executions. Not covered: executions that it started, the log
    itself, what a relay sent, backups, files of `normalizer export` and `projector maintain`.
    docs/operate/erase.md says how to find all executions of a person. After a stop or a kill,
    the same command resumes. Its user must be the owner.

    Exit codes: 0 done; 2 wrong usage or settings; 3 the database did not answer, or the execution
    has an open divergence: `projector repair --executions ID` first.
    """
    settings = load_settings("database_url")
    if not why.strip():
        raise click.BadParameter("expected a reason", param_hint="--why")
    flow = Forget(settings.required_database_url, execution)
    progress = Progress(configure_screen(settings), "forget")

    async def with_progress(work: Coroutine[Any, Any, ErasedCounts]) -> ErasedCounts:
        with progress.reporting(flow.done):
            return await work

    if dry_run:
        click.echo(
            f"nothing was changed; it would delete: {run_or_exit(with_progress(flow.count()))}"
        )
        return
    reason = ErasureReason(who=who or user_at_host(), why=why.strip())
    click.echo(
        f"erased execution {execution.execution_id}: {run_or_exit(with_progress(flow.run(reason)))}"
    )
