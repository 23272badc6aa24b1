"""The commands that read: check, config, schema, conform, metrics, explain, quarantine, ledger."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import os

import click
import msgspec

from normalizer import environment
from normalizer.cli import conformance
from normalizer.cli.check import check as run_check
from normalizer.cli.exits import (
    exit_with_error,
    load_settings,
    normalizer_or_exit,
    optional_topic_reader,
    run_or_exit,
)
from normalizer.cli.explain import explain as explain_record
from normalizer.cli.explain import parse_coordinates
from normalizer.cli.ledger_check import verify_ledger
from normalizer.errors import REASONS, ConfigurationError
from normalizer.exit_codes import FOUND
from normalizer.json_schema import json_schema
from normalizer.kafka import TopicReader
from normalizer.service.metric_catalog import documented as documented_metrics
from normalizer.store import quarantine_reader


@click.command()
def schema() -> None:
    """The JSON Schema of a canonical event.

    \b
    normalizer schema > event.schema.json
    """
    click.echo(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2))


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--level",
    type=click.Choice(conformance.LEVELS),
    default="lines",
    show_default=True,
    help="lines: canonical lines are returned; shapes: also events whose status no rule has to "
    "judge; rules: also every other record, and every refusal.",
)
@click.option("--show", default=10, show_default=True, help="Print this many differences.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def conform(*, level: conformance.Level, show: int, command: tuple[str, ...]) -> None:
    """Test a program against the contract: it reads lines, and must write what contract/ expects.

    \b
    normalizer conform -- cat
    normalizer conform --level shapes -- ./my-filter --ndjson
    normalizer conform --level rules -- normalizer normalize

    The program reads raw or canonical events on standard input, one a line, and writes canonical
    ones. A refusal is {"quarantine":{"reason":CODE,...}} in the event's place. Exit 1: it differs.
    """
    cases = conformance.read_cases(level)
    try:
        mismatches = conformance.run_program(command, cases)
    except ConfigurationError as error:
        exit_with_error(error)
    for mismatch in mismatches[:show]:
        click.echo("\n".join(conformance.mismatch_lines(mismatch)))
    click.echo(f"{len(cases) - len(mismatches)} of {len(cases)} the same, up to level {level}")
    raise SystemExit(FOUND if mismatches else 0)


@click.command()
def config() -> None:
    """Every setting with what it means, its default and its present value; secrets are masked.

    \b
    normalizer config
    normalizer config > normalizer.env
    """
    click.echo(environment.documented(load_settings()), nl=False)
    for mistake in environment.unknown_variables(os.environ):
        click.echo(mistake, err=True)


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
    """
    settings = load_settings("database_url", "kafka_bootstrap_servers")
    for mistake in environment.unknown_variables(os.environ):
        click.echo(mistake, err=True)

    async def report() -> bool:
        failed = False
        async with TopicReader(settings) as log:
            async for finding in run_check(settings, log):
                click.echo(finding)
                failed = failed or bool(finding.remedy)
        return failed

    raise SystemExit(FOUND if run_or_exit(report()) else 0)


@click.group()
def quarantine() -> None:
    """Records that were refused, and why.

    \b
    normalizer quarantine list --reason invalid_json
    normalizer quarantine show 17
    """


@quarantine.command("list")
@click.option("--reason", type=click.Choice(REASONS), help="Only of this reason.")
@click.option("--topic", help="Only of this topic.")
@click.option("--redriven", is_flag=True, help="Also entries that were stored since.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
def list_quarantined(*, reason: str | None, topic: str | None, redriven: bool, limit: int) -> None:
    """List the latest records that are still refused, one a line, the newest first.

    \b
    normalizer quarantine list
    normalizer quarantine list --reason missing_execution_id --limit 10
    """
    settings = load_settings("database_url")
    assert settings.database_url
    entries = run_or_exit(
        quarantine_reader.list_entries(
            settings.database_url, reason=reason, topic=topic, redriven=redriven, limit=limit
        )
    )
    click.echo(quarantine_reader.table(entries) if entries else "no records are quarantined")


@quarantine.command("show")
@click.argument("number", type=int)
@click.option("--raw", is_flag=True, help="Show the content as received, secrets included.")
def show_quarantined(*, number: int, raw: bool) -> None:
    """Show everything about one entry; its content with secrets redacted.

    \b
    normalizer quarantine show 17
    normalizer quarantine show 17 --raw
    """
    settings = load_settings("database_url")
    assert settings.database_url
    entry, kept = run_or_exit(quarantine_reader.show_entry(settings.database_url, number))
    click.echo(quarantine_reader.page(entry, kept, raw=raw, redact_keys=settings.redact_keys))


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
    is not the one that was read. Without KAFKA_BOOTSTRAP_SERVERS the tables alone are compared.
    """
    settings = load_settings("database_url")
    database_url = settings.database_url
    assert database_url

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
@click.option(
    "--incarnation", type=click.IntRange(0), help="Of a recreated topic; default the newest."
)
def explain(*, coordinates: str, incarnation: int | None) -> None:
    """Show where one record went: its row, or why it has none; its shape, rules and coercions.

    \b
    normalizer explain noetl.events:3:1042

    Where the log still has the record, what today's rules make of it is shown too, redacted.
    """
    settings = load_settings("database_url")
    database_url = settings.database_url
    assert database_url
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
