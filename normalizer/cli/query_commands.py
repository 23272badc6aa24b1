"""The commands that read what is stored: check, metrics, explain, ledger."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import os

import click

from normalizer.cli.check import check as run_check
from normalizer.cli.check_environment import check_environment
from normalizer.cli.exits import (
    load_settings,
    normalizer_or_exit,
    run_or_exit,
)
from normalizer.cli.explain import explain as explain_record
from normalizer.cli.explain import parse_coordinates
from normalizer.cli.job_options import SMALL_NUMBER
from normalizer.cli.ledger_check import verify_ledger
from normalizer.exit_codes import FOUND
from normalizer.kafka import TopicReader, optional_topic_reader
from normalizer.service.metric_catalog import documented as documented_metrics


@click.command()
def metrics() -> None:
    """Every metric of /metrics: what it means, and what to do about it. A Markdown table.

    \b
    normalizer metrics | grep lag
    """
    for line in documented_metrics():
        click.echo(line)


@click.command()
def check() -> None:
    """Check what the service may do with these settings; changes nothing. Exit 1: a check failed.

    \b
    DATABASE_URL=postgresql://writer:secret@db/events \\
    KAFKA_BOOTSTRAP_SERVERS=kafka:9092 normalizer check

    A line each: ok, FAIL or warn, the last two with what to do. With a warn alone the exit code is
    0: the service works all the same.
    """
    settings = load_settings("database_url", "kafka_bootstrap_servers")
    of_environment = list(check_environment(os.environ))
    for finding in of_environment:
        click.echo(finding)

    async def report() -> bool:
        failed = any(finding.failed for finding in of_environment)
        async with TopicReader(settings) as log:
            async for finding in run_check(settings, log):
                click.echo(finding)
                failed = failed or finding.failed
        return failed

    raise SystemExit(FOUND if run_or_exit(report()) else 0)


@click.group()
def ledger() -> None:
    """Check that every record is accounted for.

    \b
    normalizer ledger verify
    """


@ledger.command("verify")
def verify_command() -> None:
    """Compare the running totals with the tables and with the log. Exit 1: they differ.

    \b
    normalizer ledger verify

    LOST: a record is missing. MORE: there are rows that nobody counted. RECREATED: the topic
    is not the one that was read. ANOTHER CLUSTER: nor are the brokers; KAFKA_BOOTSTRAP_SERVERS may
    be wrong. UNREADABLE: no reader gets past the batch at the position. Without
    KAFKA_BOOTSTRAP_SERVERS the tables alone are compared.
    """
    settings = load_settings("database_url")
    database_url = settings.required_database_url

    async def report() -> bool:
        differs = False
        async with optional_topic_reader(settings) as log:
            async for partition in verify_ledger(database_url, log):
                click.echo(partition)
                differs = differs or bool(partition.wrong)
        return differs

    raise SystemExit(FOUND if run_or_exit(report()) else 0)


@click.command()
@click.argument("coordinates", metavar="TOPIC:PARTITION:OFFSET")
@click.option("--incarnation", type=SMALL_NUMBER, help="Of a recreated topic; default the newest.")
def explain(*, coordinates: str, incarnation: int | None) -> None:
    """Show where one record went: its row, or why it has none; its shape, rules and coercions.

    \b
    normalizer explain noetl.events:3:1042

    Where the log still has the record, what today's rules make of it is shown too, redacted.
    """
    settings = load_settings("database_url")
    database_url = settings.required_database_url
    normalizer = normalizer_or_exit(settings)

    async def report() -> list[str]:
        async with optional_topic_reader(settings) as log:
            return await explain_record(
                database_url,
                log,
                parse_coordinates(coordinates),
                incarnation=incarnation,
                normalizer=normalizer,
            )

    click.echo("\n".join(run_or_exit(report())))
