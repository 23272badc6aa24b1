"""The command line of the projections."""

import asyncio
import os

import asyncpg
import click

_VIEWS = """
    select   view.relname as name, obj_description(view.oid, 'pg_class') as question
    from     pg_class as view
    where    view.relnamespace = 'projector'::regnamespace and view.relkind = 'v'
             and obj_description(view.oid, 'pg_class') is not null
    order by view.relname
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="event-normalizer")
def main() -> None:
    r"""Read models of the canonical events, grouped by attempts and status.

    They live in PostgreSQL, schema projector, and move in the transaction of their events: any tool
    that speaks SQL reads them.

    \b
    DATABASE_URL=postgresql://reader:secret@db/noetl projector views
    """


@main.command()
def views() -> None:
    r"""Every view, with the question that it answers.

    \b
    projector views | grep -i retr
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise click.ClickException(
            "DATABASE_URL is not set: type export DATABASE_URL=postgresql://..."
        )
    try:
        found = asyncio.run(_read_views(url))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise click.ClickException(
            f"no answer from the database: {type(error).__name__}"
        ) from error
    for name, question in found:
        click.echo(f"projector.{name}\n    {question}")


async def _read_views(url: str) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return [(row["name"], row["question"]) for row in await connection.fetch(_VIEWS)]
    finally:
        await connection.close()
