"""Every command under its name, each from where it stands."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import click

from normalizer.cli import asking, running
from normalizer.cli.position_commands import position
from normalizer.jobs.backfill_commands import backfill
from normalizer.jobs.row_commands import export, jobs, redrive, renormalise


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="event-normalizer")
def main() -> None:
    """Raw workflow events from Kafka in, canonical rows in PostgreSQL out, exactly once.

    \b
    normalizer up                      the whole stack with traffic, on this machine
    normalizer check                   may it run here? what is missing?
    normalizer run                     the service, until SIGTERM
    normalizer normalize < raw.ndjson  the rules alone, as a filter

    Settings come from the environment: `normalizer config` documents each of them.

    \b
    Exit codes: 0 done; 1 something was found; 2 wrong usage or settings; 3 trying again cannot
    cure it; 130 ended at once by a second signal.
    """


for _command in (
    *(running.run, running.up, running.migrate, running.normalize),
    *(asking.check, asking.config, asking.schema, asking.metrics, asking.explain),
    *(asking.quarantine, asking.ledger, position),
    *(backfill, renormalise, export, jobs),
):
    main.add_command(_command)
asking.quarantine.add_command(redrive)
