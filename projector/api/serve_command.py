"""`projector serve`: the command line of the API."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import asyncio
import os
from typing import Any, Final

import click

from normalizer.errors import ConfigurationError
from projector.api.thresholds import DEFAULT_THRESHOLDS, parse_thresholds
from projector.api.visible_settings import VisibleSettings
from projector.database_session import database_url_from_env

_DEFAULTS: Final = ", ".join(
    f"{name}={limits.warn:g},{limits.critical:g}" for name, limits in DEFAULT_THRESHOLDS.items()
)


@click.command()
@click.option(
    "--host",
    envvar="PROJECTOR_HOST",
    default="127.0.0.1",
    show_default=True,
    show_envvar=True,
    help="The address to listen on. One that other machines can reach, such as 0.0.0.0, needs "
    "PROJECTOR_TOKEN.",
)
@click.option(
    "--port",
    envvar="PROJECTOR_PORT",
    type=click.IntRange(0, 65_535),
    default=8384,
    show_default=True,
    show_envvar=True,
    help="The port to listen on. Use 0 for any free port.",
)
@click.option(
    "--connections",
    envvar="PROJECTOR_CONNECTIONS",
    type=click.IntRange(1, 32),
    default=4,
    show_default=True,
    show_envvar=True,
    help="The most database connections to use for requests. A request waits up to 5 s for a "
    "free one. Probes and scrapes of metrics use a separate connection.",
)
@click.option(
    "--timeout",
    "timeout_s",
    envvar="PROJECTOR_TIMEOUT_S",
    type=click.IntRange(1, 60),
    default=5,
    metavar="SECONDS",
    show_default=True,
    show_envvar=True,
    help="The longest time that the database may take for one answer.",
)
@click.option(
    "--threshold",
    "thresholds",
    envvar="PROJECTOR_THRESHOLDS",
    multiple=True,
    metavar="NAME=WARN,CRITICAL",
    show_envvar=True,
    help="The values at which a figure of the page becomes a warning, and critical. Repeat the "
    f"option for several figures, or separate them by spaces in the environment. Defaults: "
    f"{_DEFAULTS}.",
)
@click.option(
    "--allow-origin",
    "origins",
    envvar="PROJECTOR_ALLOW_ORIGINS",
    multiple=True,
    metavar="ORIGIN",
    show_envvar=True,
    help="The site whose pages may read answers in a browser (CORS), such as "
    "https://grafana.example. Repeat the option for several sites.",
)
@click.option(
    "--grafana",
    envvar="PROJECTOR_GRAFANA",
    metavar="URL",
    show_envvar=True,
    help="The address of a Grafana that has the dashboards of deploy/grafana/dashboards. The "
    "page links to them.",
)
@click.option(
    "--docs",
    envvar="PROJECTOR_DOCS",
    default="",
    metavar="URL",
    show_envvar=True,
    help="The address of this project's files, such as https://git.example/project/blob/main/. "
    "The page links each state to the section that says what to do about it. Without this "
    "option, it shows only the path of that section.",
)
@click.option(
    "--topics",
    envvar="KAFKA_TOPICS",
    default="noetl.events",
    show_default=True,
    show_envvar=True,
    help="The topics that the normalizer reads, comma-separated. The page shows them until the "
    "first record arrives, so that you can check them. `projector serve` doesn't read them.",
)
@click.option(
    "--brokers",
    envvar="KAFKA_BOOTSTRAP_SERVERS",
    default="",
    show_envvar=True,
    help="The brokers that the normalizer connects to, comma-separated. Like --topics, the page "
    "only shows them.",
)
def serve(
    *,
    host: str,
    port: int,
    connections: int,
    timeout_s: int,
    origins: tuple[str, ...],
    **shown: Any,
) -> None:
    """Serve the dashboard and a read-only HTTP API over the views.

    \b
    export DATABASE_URL=postgresql://dashboard:...@db/noetl
    projector serve                                # http://127.0.0.1:8384
    curl -s '127.0.0.1:8384/api/v1/error-rate-by-attempt?last=24h&by=attempts'
    curl -s '127.0.0.1:8384/api/v1/calls?failed=true&step=fetch&attempts=0&limit=10'
    curl -s -H 'Accept: text/csv' '127.0.0.1:8384/api/v1/error-groups?last=1h'
    curl -s  127.0.0.1:8384/openapi.json           # every endpoint, as OpenAPI

    Every answer says how fresh it is (as_of, behind_s). A failed query returns an error with a
    reason. Queries run as the role projector_reader, which can read only views. The user of
    DATABASE_URL needs that role:

    \b
    create role dashboard login password '...' in role projector_reader;

    To serve other machines, set a token. The page asks you for it, and curl sends it like this:

    \b
    export PROJECTOR_TOKEN=$(openssl rand -hex 32)
    projector serve --host 0.0.0.0
    curl -s -H "Authorization: Bearer $PROJECTOR_TOKEN" http://projector:8384/api/v1/freshness

    Put TLS in front of it. /livez, /readyz and /metrics are for the orchestrator. On SIGTERM it
    finishes requests in flight, for up to 5 s, and exits with 0.
    """
    from projector.api import serve as server  # noqa: PLC0415 - other commands start sooner without

    try:
        asyncio.run(
            server.serve(
                server.ApiSettings(
                    database_url=database_url_from_env(),
                    host=host,
                    port=port,
                    token=os.environ.get("PROJECTOR_TOKEN") or None,
                    connections=connections,
                    timeout_s=timeout_s,
                    origins=origins,
                    visible=_visible(**shown),
                ),
                print_line=click.echo,
            )
        )
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error


def _visible(
    *, thresholds: tuple[str, ...], grafana: str | None, docs: str, topics: str, brokers: str
) -> VisibleSettings:
    return VisibleSettings(
        thresholds=parse_thresholds(thresholds),
        grafana=grafana,
        docs=docs,
        topics=_listed(topics),
        brokers=_listed(brokers),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(","))))
