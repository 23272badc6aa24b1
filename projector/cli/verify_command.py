"""`projector verify`."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import click

from normalizer.runtime.exit_codes import PROBLEM_FOUND
from projector.cli.command_runner import print_result, run_command
from projector.cli.scope_options import parse_scope
from projector.database_session import database_url_from_env, open_connection
from projector.verify.divergences import store_verdict
from projector.verify.queries import COMPARISONS
from projector.verify.verify import verify as compare


@click.command()
@click.option(
    "--since",
    metavar="TIME",
    help="The first hour to compare, for example 2026-07-01T09:00. A time without a zone is UTC. "
    "By default, the comparison starts with the oldest hour.",
)
@click.option(
    "--until",
    metavar="TIME",
    help="The hour to stop at, for example 2026-07-02T09:00. Only earlier hours are compared. A "
    "time without a zone is UTC. By default, the comparison ends with the newest hour.",
)
@click.option(
    "--last",
    metavar="SPAN",
    help="Start the comparison this long ago, for example 90m, 24h, or 7d. Use it instead of "
    "--since.",
)
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="HOURS",
    help="Compare only this many hours, for example 24, drawn at random from those that still have "
    "events. By default, all hours are compared.",
)
@click.option(
    "--seed",
    type=int,
    help="Seed for the random sample. Pass the seed that an earlier run printed to compare the "
    "same hours again. By default, each run picks a new one.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([comparison.name for comparison in COMPARISONS]),
    metavar="PROJECTION",
    help="Compare only one projection: "
    + ", ".join(comparison.name for comparison in COMPARISONS)
    + ". Repeat the option to compare several. By default, all are compared.",
)
def verify(
    *,
    since: str | None,
    until: str | None,
    last: str | None,
    sample: int | None,
    seed: int | None,
    only: tuple[str, ...],
) -> None:
    """Compute the projections from the events and compare them. Exit 1 if any differs.

    \b
    projector verify                    everything
    projector verify --last 24h         the last 24 hours
    projector verify --sample 5         five hours and some of their executions, at random
    projector verify --only call_facts  one projection

    Writers can continue, because each range is compared in one statement and one snapshot. A range
    that takes longer than ten seconds is halved, down to one hour or one execution, which may take
    a minute. For a verdict of match, the comparison must also detect three rows that it has
    tampered with. "nothing to compare" isn't a match: the hours have no event and no row of this
    projection. inconclusive, also exit 1, means that something took too long. Run it again when the
    database is less busy.

    \b
    event_hours       divergent: 282 rows compared, 1 differ (0.3 s)
        hour 2026-07-01T09:00, step fetch, ...: events shows 7, should be 6

    The view projector.agreement shows the result. An hour or execution that differs stays divergent
    there until a comparison of that hour or execution agrees. `projector repair` repairs it. Run it
    as the owner. A user who may only read every table can compare too, and a line on stderr says
    that nothing is stored.
    """
    scope = parse_scope(since, until, last, sample, seed)
    chosen = [one for one in COMPARISONS if not only or one.name in only]

    async def run() -> bool:
        agrees = is_stored = True
        async with open_connection(database_url_from_env()) as connection:
            async for verdict in compare(connection, scope, comparisons=chosen):
                print_result(str(verdict))
                is_stored = await store_verdict(connection, verdict) and is_stored
                agrees = agrees and verdict.verdict == "match"
        if not is_stored:
            click.echo("not stored, because this user may not write here", err=True)
        return agrees

    if scope.sampled_hours:
        print_result(f"sample of {scope.sampled_hours} hours, --seed {scope.seed}")
    if not run_command(run()):
        raise SystemExit(PROBLEM_FOUND)
