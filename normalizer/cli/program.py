"""Registers every command under its name."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import errno
import os
import sys
from typing import Any, Final

import click

from normalizer.cli import query_commands, service_commands
from normalizer.cli.backfill_commands import backfill
from normalizer.cli.export_command import export
from normalizer.cli.forget_command import forget
from normalizer.cli.position_commands import position
from normalizer.cli.relay_command import relay
from normalizer.cli.row_commands import jobs, redact, redrive, renormalize
from normalizer.compiled.core_finder import running_core
from normalizer.exit_codes import FAILED, STOPPED_AT_ONCE

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class CommandGroup(click.Group):
    """Ends all commands alike: Ctrl-C gives 130; a full disk gives a message and 3."""

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(STOPPED_AT_ONCE) from None
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            # Python must not fail again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            click.echo(f"error: cannot write the output: {error.strerror}", err=True)
            raise SystemExit(FAILED) from error


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(
    package_name="event-normalizer",
    message=f"%(prog)s, version %(version)s, core: {running_core()}",
)
def main() -> None:
    """Normalize raw workflow events from Kafka into canonical rows in PostgreSQL, exactly once.

    \b
    normalizer up                      the whole stack with traffic, on this machine
    normalizer check                   check what it needs here
    normalizer run                     the service, until SIGTERM
    normalizer normalize < raw.ndjson  the rules alone, as a filter

    Settings come from the environment: `normalizer config` documents each of them.

    \b
    Exit codes: 0 done, or stopped by a signal; 1 something was found; 2 wrong usage or settings;
    3 no answer, a refused sign-in, or trying again cannot help; 130 ended at once by a signal: the
    second, or the first where there is nothing to finish.
    """


for _command in (
    *(
        service_commands.run,
        relay,
        service_commands.up,
        service_commands.migrate,
        service_commands.normalize,
    ),
    *(
        query_commands.check,
        query_commands.config,
        query_commands.schema,
        query_commands.conform,
        query_commands.metrics,
        query_commands.explain,
    ),
    *(query_commands.quarantine, query_commands.ledger, position),
    *(backfill, renormalize, redact, forget, export, jobs),
):
    main.add_command(_command)
query_commands.quarantine.add_command(redrive)
