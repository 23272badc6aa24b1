"""The command that publishes canonical events to Kafka."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

from typing import Final

import click
from msgspec.structs import replace

from normalizer.cli.exits import run_or_exit
from normalizer.cli.service_commands import (
    load_logged_settings,
    reset_option,
    run_service,
    run_until_stopped,
    shapes_option,
)
from normalizer.config.settings import Settings
from normalizer.relay.event_pages import unregister as unregister_relay
from normalizer.relay.event_relay import EventRelay
from normalizer.relay.event_relay_monitor import monitoring
from normalizer.relay.relay_store import relay_stores
from normalizer.runtime.signals import stop_on_signals

GROUP: Final = "relay"
TABLE_GROUP: Final = "relay-from-postgres"
"""Suffixes of the service's group. If the relay joined the service's own group, the two would share
its partitions, and each would read only some of them."""


@click.command()
@reset_option
@shapes_option
@click.option(
    "--from-postgres", is_flag=True, help="Publish the events stored in DATABASE_URL instead."
)
@click.option(
    "--unregister",
    is_flag=True,
    help="End --from-postgres permanently: the database stops recording changes for it.",
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
    offset, and reason (never its bytes) go to KAFKA_REJECTED_TOPIC. Both topics must exist. Readers
    with isolation.level=read_committed see each event exactly once, even if processes are killed.

    The first form normalizes KAFKA_TOPICS and needs no database. If two records report the same
    event, it publishes both. You can run any number of processes at once. They share the
    partitions in the group KAFKA_GROUP_ID.relay.

    With --from-postgres a single process publishes the stored, merged events: first all of them,
    then each new or changed one, with a revision in a header. A database can have one such relay.
    Its first start registers it, and from then on the database records changes until --unregister.
    """
    if (from_postgres or unregister) and (accept_reset or accept_shapes):
        raise click.UsageError(
            "--accept-reset and --accept-shapes need a relay that reads KAFKA_TOPICS"
        )
    needs = ("database_url",) if unregister or from_postgres else ()
    settings = load_logged_settings(*needs, *(() if unregister else ("kafka_bootstrap_servers",)))
    if unregister:
        run_or_exit(unregister_relay(settings.required_database_url))
        return
    if from_postgres:
        run_until_stopped(_serve_stored(_of_group(settings, TABLE_GROUP)))
        return
    settings = replace(_of_group(settings, GROUP), database_url=None)
    run_until_stopped(
        run_service(
            settings,
            accept_reset=accept_reset,
            accept_shapes=accept_shapes,
            open_stores=relay_stores,
        )
    )


def _of_group(settings: Settings, suffix: str) -> Settings:
    return replace(settings, kafka_group_id=f"{settings.kafka_group_id}.{suffix}")


async def _serve_stored(settings: Settings) -> None:
    relaying = EventRelay(settings)
    with monitoring(settings, relaying), stop_on_signals(relaying.stop):
        await relaying.run()
