"""The program `projector` and its commands."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import click

from normalizer.runtime.command_line import RootCommandGroup, warn_unknown_variables
from projector.api.serve_command import serve
from projector.cli.maintain_command import maintain
from projector.cli.repair_command import repair
from projector.cli.verify_command import verify
from projector.cli.view_commands import views, wait


@click.group(
    cls=RootCommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="event-normalizer")
def main() -> None:
    """Projections of the canonical events, grouped by attempts and status.

    They're tables and views in the PostgreSQL schema projector, updated in the transaction of their
    events. You can read them with any SQL client, and they're never behind the stored events.

    \b
    projector views                    list every view, with the question that it answers
    projector serve                    serve the dashboard and an HTTP API
    projector verify                   compare the projections with the events
    projector wait noetl.events:3:1042 wait until that record is in every view
    projector repair                   repair what verify found to differ
    projector maintain --dry-run       print what retention and compaction would do

    Set DATABASE_URL to the database:

    \b
    DATABASE_URL=postgresql://reader:secret@db/noetl projector views

    \b
    Exit codes:
      0    done, or stopped by a signal
      1    a problem was found
      2    wrong usage or settings
      3    no answer, a refused sign-in, or an error that a retry can't fix
      4    the service can't continue, but a restart helps
      130  ended at once by a signal
    """
    warn_unknown_variables()


for _command in (views, serve, verify, wait, repair, maintain):
    main.add_command(_command)
