"""`projector repair`."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import click

from normalizer.errors import StoreUnavailableError
from normalizer.runtime.exit_codes import PROBLEM_FOUND
from projector.cli.command_runner import print_result, run_command
from projector.cli.scope_options import parse_scope
from projector.database_session import database_url_from_env, open_connection
from projector.maintenance.maintain import maintenance_lock
from projector.repair.repair import RepairRequest, preview_repair, repair as run_repair
from projector.verify.ranges import VerifyScope


@click.command()
@click.option(
    "--executions",
    is_flag=True,
    help="Repair the executions with these ids and their calls, for example --executions "
    "481036337152 481036337153.",
)
@click.option(
    "--hours",
    is_flag=True,
    help="Repair the projections of all hours from the first time up to, but not including, the "
    "second, for example --hours 2026-07-01T09:00 2026-07-02. A time without a zone is UTC.",
)
@click.option("--counters", is_flag=True, help="Repair only the counters, but those of all hours.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Repair everything, including projections that are empty. By default, only open "
    "divergences are repaired, such as those that `projector verify` has found.",
)
@click.option("--dry-run", is_flag=True, help="Print what differs, but change nothing.")
@click.argument("which", nargs=-1, metavar="[ID... | FROM TO]")
def repair(
    *,
    executions: bool,
    hours: bool,
    counters: bool,
    everything: bool,
    dry_run: bool,
    which: tuple[str, ...],
) -> None:
    """Correct projections that differ from the events.

    Writers and readers can continue in the meantime.

    \b
    projector repair                                  all open divergences
    projector repair --dry-run                        print them only
    projector repair --executions 481036337152        these executions, their calls, their counters
    projector repair --hours 2026-07-01T09:00 2026-07-02
    projector repair --counters                       counters of all hours
    projector repair --all                            everything, including empty projections

    An open divergence is an execution or hour that `projector verify` found to differ, or whose
    events had to be stored without updating projections. The view projector.agreement counts them.
    A repair rebuilds executions and calls from their events, and corrects counters by the
    difference. Each step is a short transaction, so you can stop or kill a repair at any time, and
    run the same command again to continue. Run it as the owner of the tables.

    \b
    call_facts        match: 61,218 rows compared, 3 repaired (0.9 s)

    Exit 0 if everything compared agrees, 1 if something still differs, is inconclusive (took too
    long to compare), or would be repaired without --dry-run, 3 if another repair or maintain is
    running, or the database did not answer.
    """
    request = _repair_request(
        which, executions=executions, hours=hours, counters=counters, all_=everything
    )
    progress = _RepairProgress()

    async def run() -> bool:
        agrees, has_verdict = True, False
        url = database_url_from_env()
        with progress.reporting():
            async with (
                contextlib.nullcontext() if dry_run else maintenance_lock(url),
                open_connection(url) as connection,
            ):
                verdicts = (
                    preview_repair(connection, request)
                    if dry_run
                    else run_repair(connection, request, activity=progress.set_activity)
                )
                async for verdict in verdicts:
                    print_result(str(verdict))
                    agrees, has_verdict = agrees and verdict.verdict == "match", True
        if not has_verdict:
            print_result("no divergence is open; `projector verify` looks for new ones")
        return agrees

    if not run_command(run()):
        raise SystemExit(PROBLEM_FOUND)


def _repair_request(
    which: tuple[str, ...], *, executions: bool, hours: bool, counters: bool, all_: bool
) -> RepairRequest:
    if executions + hours + counters + all_ > 1:
        raise click.UsageError(
            "--executions, --hours, --counters, and --all can't be combined. Use only one of them"
        )
    if which and not executions and not hours:
        raise click.UsageError(
            f"{' '.join(which)} could mean executions or hours. Use --executions ID ... to repair "
            "executions, or --hours FROM TO to repair a range of hours"
        )
    if executions:
        try:
            ids = tuple(int(one) for one in which)
        except ValueError as error:
            raise click.BadParameter(
                f"expected ids of executions, such as 481036337152; got {' '.join(which)}"
            ) from error
        if not ids:
            raise click.UsageError(
                "--executions needs the ids of executions after it, such as 481036337152"
            )
        if not all(-(1 << 63) <= one < 1 << 63 for one in ids):
            raise click.BadParameter(
                "one of these ids is out of range, because an execution id is a signed integer of "
                "64 bits"
            )
        return RepairRequest(scope=VerifyScope(execution_ids=ids))
    if hours:
        if len(which) != 2:
            raise click.UsageError(
                "--hours needs two times, the first hour and the hour to stop at, for example: "
                "--hours 2026-07-01T09:00 2026-07-01T12:00 (UTC)"
            )
        return RepairRequest(scope=parse_scope(which[0], which[1], None, None, None))
    if counters or all_:
        return RepairRequest(scope=VerifyScope(), only_counters=counters)
    return RepairRequest()


_REPORT_EVERY_S: Final = 10.0


class _RepairProgress:
    """Prints on standard error, every few seconds, what a repair is doing (`activity`).

    A repair of everything may take hours, and without these lines it would print nothing until the
    first projection is finished. `activity` is empty before the first step.
    """

    def __init__(self) -> None:
        self.activity = ""
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Report while the block runs.

        Adds the activity to a StoreUnavailableError raised in it.
        """
        self._schedule_report()
        try:
            yield
        except StoreUnavailableError as error:
            if not self.activity:
                raise
            message = f"{error}, while {self.activity}. Run the same command again to continue"
            raise StoreUnavailableError(message, sqlstate=error.sqlstate) from error
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def set_activity(self, activity: str) -> None:
        """Set what the repair is doing from now on."""
        self.activity = activity

    def _schedule_report(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_REPORT_EVERY_S, self._report)

    def _report(self) -> None:
        if self.activity:
            click.echo(self.activity, err=True)
        self._schedule_report()
