"""The command that publishes canonical events to Kafka."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

from typing import Final

import click
from msgspec.structs import replace

from normalizer.cli.exit_on_error import run_or_exit
from normalizer.cli.service_commands import (
    accept_reset_option,
    accept_shapes_option,
    load_settings_and_configure_log,
    run_service,
    run_service_or_exit,
)
from normalizer.config.settings import Settings
from normalizer.relay.event_pages import unregister_relay
from normalizer.relay.event_relay import EventRelay
from normalizer.relay.event_relay_monitor import serve_monitoring
from normalizer.relay.kafka_store import relay_stores
from normalizer.runtime.signals import stop_on_signals

FROM_POSTGRES_GROUP_SUFFIX: Final = "relay-from-postgres"


@click.command()
@accept_reset_option
@accept_shapes_option
@click.option(
    "--from-postgres",
    is_flag=True,
    help="Publish the events from the database at DATABASE_URL instead of from KAFKA_TOPICS. The "
    "database has each event once, with all its reports merged. Without this option, an event that "
    "two records report is published twice.",
)
@click.option(
    "--unregister",
    is_flag=True,
    help="Stop the database from recording changes for a relay with --from-postgres, and exit. Use "
    "it when you no longer need that relay, because the recorded changes would otherwise pile up "
    "in the database. If you start the relay again later, it publishes all events again.",
)
def relay(
    *, accept_reset: bool, accept_shapes: bool, from_postgres: bool, unregister: bool
) -> None:
    """Publish canonical events to a topic until SIGTERM.

    \b
    KAFKA_BOOTSTRAP_SERVERS=kafka:9092 normalizer relay
    DATABASE_URL=postgresql://writer:secret@db/events \\
    KAFKA_BOOTSTRAP_SERVERS=kafka:9092 normalizer relay --from-postgres

    Canonical events go to KAFKA_CANONICAL_TOPIC. For each rejected record, its topic, partition,
    offset, and reason go to KAFKA_REJECTED_TOPIC, but never its bytes. Both topics must exist.
    Readers with isolation.level=read_committed see each event exactly once, even if processes are
    killed.

    The first form reads KAFKA_TOPICS and needs no database. It can't know whether two records
    report the same event, so it publishes both. You can run any number of processes, which share
    the partitions in the group KAFKA_GROUP_ID.relay.

    With --from-postgres, a single process publishes the events as they're stored, where reports of
    the same event are merged. It sends all events first, and then each one that's new or has
    changed, with a revision in a header. Its first start registers it in the database, which then
    records changes until you run it with --unregister. A database can have only one such relay.
    """
    if (from_postgres or unregister) and (accept_reset or accept_shapes):
        raise click.UsageError(
            "--accept-reset and --accept-shapes apply only to a relay that reads KAFKA_TOPICS, so "
            "they can't be used with --from-postgres or --unregister"
        )
    needs = ("database_url",) if unregister or from_postgres else ()
    settings = load_settings_and_configure_log(
        *needs, *(() if unregister else ("kafka_bootstrap_servers",))
    )
    if unregister:
        run_or_exit(unregister_relay(settings.required_database_url))
        return
    if from_postgres:
        run_service_or_exit(_serve_stored(_with_group(settings, FROM_POSTGRES_GROUP_SUFFIX)))
        return
    settings = replace(_with_group(settings, "relay"), database_url=None)
    run_service_or_exit(
        run_service(
            settings,
            accept_reset=accept_reset,
            accept_shapes=accept_shapes,
            open_stores=relay_stores,
        )
    )


def _with_group(settings: Settings, suffix: str) -> Settings:
    """Return the settings with a group of the relay's own.

    If it joined the service's group, the two would share the partitions, and each would read only
    some of them.
    """
    return replace(settings, kafka_group_id=f"{settings.kafka_group_id}.{suffix}")


async def _serve_stored(settings: Settings) -> None:
    relaying = EventRelay(settings)
    with serve_monitoring(settings, relaying), stop_on_signals(relaying.stop):
        await relaying.run()
