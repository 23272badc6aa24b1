"""The command that erases an execution."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

from collections.abc import Coroutine
from typing import Any

import click

from normalizer.cli.exit_on_error import load_settings_or_exit, run_or_exit
from normalizer.cli.job_execution import configure_logging_on_screen
from normalizer.cli.position_commands import user_at_host
from normalizer.errors import ConfigurationError
from normalizer.jobs.forget import ErasedCounts, ErasureWhoAndWhy, ExecutionToForget, Forget
from normalizer.runtime.progress import ProgressPrinter


def _execution(text: str) -> ExecutionToForget:
    try:
        return ExecutionToForget.parse(text)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("execution", type=_execution)
@click.option(
    "--who",
    help="Who erases the execution, for example alice. The name is stored in the table "
    "normalizer.forgotten_executions. Default: the user and the machine that run the command, such "
    "as alice@host.",
)
@click.option(
    "--why",
    required=True,
    help="Why the execution is erased, for example 'request 17'. The text is stored in the table "
    "normalizer.forgotten_executions, which is never cleaned up. So don't quote anything that you "
    "want to erase.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Count what would be deleted, but delete nothing.",
)
def forget(*, execution: ExecutionToForget, who: str | None, why: str, dry_run: bool) -> None:
    """Erase an execution: its events, calls, and quarantined bytes. Its counts stay.

    \b
    normalizer forget 543942402461926429 --why "request 17" --dry-run
    normalizer forget 543942402461926429 --why "request 17" --who alice

    EXECUTION is the execution's number, or the text that its producer used as its id. Its events
    that arrive later, from Kafka or a file, are ignored. A quarantined record that contains the id
    loses its bytes, unless the id is part of a longer word or number. The table
    normalizer.forgotten_executions records who erased it, when, and why.

    It doesn't erase executions that this one started, the records in Kafka, events that a relay has
    published, backups, or files written by `normalizer export` and `projector maintain`.
    docs/operate/erase.md says how to find all executions of a person.

    Run it as the owner of the database. If it was interrupted, run the same command to resume.

    Exit codes: 0 done, 2 wrong usage or settings, 3 the database didn't respond, or the projections
    of the execution may be wrong. In that case run `projector repair --executions ID` first.
    """
    settings = load_settings_or_exit("database_url")
    if not why.strip():
        raise click.BadParameter(
            "expected a reason, such as 'request 17', but the text is empty", param_hint="--why"
        )
    flow = Forget(settings.required_database_url, execution)
    progress = ProgressPrinter(configure_logging_on_screen(settings), "forget")

    async def with_progress(work: Coroutine[Any, Any, ErasedCounts]) -> ErasedCounts:
        with progress.print_while_running(flow.work_progress):
            return await work

    if dry_run:
        click.echo(
            f"nothing was changed. It would delete: {run_or_exit(with_progress(flow.count_rows()))}"
        )
        return
    reason = ErasureWhoAndWhy(who=who or user_at_host(), why=why.strip())
    click.echo(
        f"erased execution {execution.execution_id}: {run_or_exit(with_progress(flow.run(reason)))}"
    )
