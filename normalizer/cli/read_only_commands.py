"""The commands that only read: check, metrics, explain, ledger."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import os

import click

from normalizer.cli.check import check_environment, run_checks
from normalizer.cli.check_result import CheckResult
from normalizer.cli.exit_on_error import (
    build_normalizer_or_exit,
    load_settings_or_exit,
    run_or_exit,
)
from normalizer.cli.explain import explain as explain_record, parse_required_record_address
from normalizer.cli.job_options import NON_NEGATIVE_INT32_TYPE
from normalizer.cli.ledger_check import verify_ledger
from normalizer.kafka import GrouplessClient, optional_groupless_client
from normalizer.observability.metric_catalog import metric_table_lines as documented_metrics
from normalizer.runtime.exit_codes import PROBLEM_FOUND
from normalizer.runtime.native_lane import why_python_only


@click.command()
def metrics() -> None:
    """Print what every metric means and what to do about it.

    \b
    normalizer metrics | grep lag
    """
    for line in documented_metrics():
        click.echo(line)


@click.command()
def check() -> None:
    """Check everything that the service needs with these settings. Changes nothing.

    \b
    DATABASE_URL=postgresql://writer:secret@db/events \\
    KAFKA_BOOTSTRAP_SERVERS=kafka:9092 normalizer check

    Run it before the first start and after each change of the settings. Each check prints a line
    that begins with ok, FAIL, or warn. After FAIL or warn, the next line says what to do. The exit
    code is 1 if a check failed. A warn doesn't count, because the service works in spite of it.
    """
    settings = load_settings_or_exit("database_url", "kafka_bootstrap_servers")
    build_normalizer_or_exit(settings)
    why = why_python_only(settings)
    core = CheckResult("core", f"python, because {why}" if why else "native")
    environment_findings = [*check_environment(os.environ, settings), core]
    for finding in environment_findings:
        click.echo(finding)

    async def report() -> bool:
        failed = any(finding.is_failure for finding in environment_findings)
        async with GrouplessClient(settings) as log:
            async for finding in run_checks(settings, log):
                click.echo(finding)
                failed = failed or finding.is_failure
        return failed

    raise SystemExit(PROBLEM_FOUND if run_or_exit(report()) else 0)


@click.group()
def ledger() -> None:
    """Check that every record is accounted for.

    \b
    normalizer ledger verify
    """


@ledger.command("verify")
def verify_ledger_command() -> None:
    """Compare the running totals with the tables and the log. Exit 1 if they differ.

    \b
    normalizer ledger verify

    \b
    LOST             A record is missing.
    MORE             There are rows that aren't in any total.
    RECREATED        The topic isn't the one that was read.
    ANOTHER CLUSTER  The brokers belong to another cluster than the one that was read.
                     KAFKA_BOOTSTRAP_SERVERS may be wrong.
    UNREADABLE       The record batch at the position can't be decoded.

    Without KAFKA_BOOTSTRAP_SERVERS, the totals are compared only with the tables.
    """
    settings = load_settings_or_exit("database_url")
    database_url = settings.required_database_url

    async def report() -> bool:
        differs = False
        async with optional_groupless_client(settings) as log:
            async for partition in verify_ledger(database_url, log):
                click.echo(partition)
                differs = differs or bool(partition.wrong)
        return differs

    raise SystemExit(PROBLEM_FOUND if run_or_exit(report()) else 0)


@click.command()
@click.argument("coordinates", metavar="TOPIC:PARTITION:OFFSET")
@click.option(
    "--incarnation",
    type=NON_NEGATIVE_INT32_TYPE,
    help="Use it if the topic was deleted and created again, to say which topic the record comes "
    "from: 0 is the first one, 1 is the second, and so on. Default: the newest.",
)
def explain(*, coordinates: str, incarnation: int | None) -> None:
    """Show what happened to a record, or why it has no row.

    \b
    normalizer explain noetl.events:3:1042
    normalizer explain 'noetl.events[3]@1042'

    If Kafka still has the record, it also shows the canonical event that today's rules make of it,
    with secrets redacted.
    """
    settings = load_settings_or_exit("database_url")
    database_url = settings.required_database_url
    normalizer = build_normalizer_or_exit(settings)

    async def report() -> list[str]:
        async with optional_groupless_client(settings) as log:
            return await explain_record(
                database_url,
                log,
                parse_required_record_address(coordinates),
                incarnation=incarnation,
                normalizer=normalizer,
            )

    click.echo("\n".join(run_or_exit(report())))
