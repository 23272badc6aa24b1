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
from normalizer.runtime.progress import Progress


def _execution(text: str) -> ForgottenExecution:
    try:
        return ForgottenExecution.parse(text)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("execution", type=_execution)
@click.option("--who", help="Who does this.  [default: user@host]")
@click.option("--why", required=True, help="Why. Kept with the erasure, so don't quote content.")
@click.option("--dry-run", is_flag=True, help="Only count what would be deleted.")
def forget(*, execution: ForgottenExecution, who: str | None, why: str, dry_run: bool) -> None:
    """Erase EXECUTION: its events, calls, and quarantined bytes. Counts stay.

    \b
    normalizer forget 543942402461926429 --why "request 17" --dry-run
    normalizer forget 543942402461926429 --why "request 17" --who alice

    EXECUTION is its number, or the text that its producer used as id. Events of it that arrive
    later, from Kafka or a file, are ignored. Quarantined records lose their bytes if these contain
    the id (but not inside a longer word or number). normalizer.forgotten_executions keeps who,
    when, and why.

    It doesn't cover executions that this one started, the Kafka log itself, events that a relay has
    published, backups, or files made by `normalizer export` and `projector maintain`.
    docs/operate/erase.md says how to find all executions of a person.

    Run it as the owner of the database. After a stop or a kill, run the same command to resume.

    Exit codes: 0 done, 2 wrong usage or settings, 3 the database did not answer, or the execution
    has an open divergence. In that case run `projector repair --executions ID` first.
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
            f"nothing was changed. It would delete: {run_or_exit(with_progress(flow.count()))}"
        )
        return
    reason = ErasureReason(who=who or user_at_host(), why=why.strip())
    click.echo(
        f"erased execution {execution.execution_id}: {run_or_exit(with_progress(flow.run(reason)))}"
    )
