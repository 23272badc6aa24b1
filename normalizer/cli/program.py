"""The program `normalizer`, and the module of each command."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

from importlib import import_module
from importlib.metadata import version
from typing import Final

import click

from normalizer.runtime.command_line import RootCommandGroup

COMMAND_GROUPS: Final = {
    "Run": {
        "up": "service_commands",
        "migrate": "service_commands",
        "run": "service_commands",
        "relay": "relay_command",
    },
    "Inspect": {
        "check": "read_only_commands",
        "config": "offline_commands",
        "metrics": "read_only_commands",
        "explain": "read_only_commands",
        "ledger": "read_only_commands",
        "jobs": "stored_row_commands",
    },
    "Repair": {
        "position": "position_commands",
        "quarantine": "quarantine_commands",
        "renormalize": "stored_row_commands",
        "redact": "stored_row_commands",
        "forget": "forget_command",
    },
    "History": {
        "backfill": "backfill_commands",
        "export": "export_command",
    },
    "Develop": {
        "normalize": "offline_commands",
        "schema": "offline_commands",
        "conform": "offline_commands",
    },
}
"""The commands in the order of --help, with the module of each. Only the module of the command that
runs is imported."""

_MODULES: Final = {
    name: module for group in COMMAND_GROUPS.values() for name, module in group.items()
}


class _LazyCommandGroup(RootCommandGroup):
    """Finds and imports a command."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click passes it
        """Return the names of all commands."""
        return list(_MODULES)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands group by group."""
        longest = max(map(len, _MODULES))
        for group, names in COMMAND_GROUPS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(group):
                formatter.write_dl(
                    [
                        (name.ljust(longest), found.get_short_help_str(formatter.width))
                        for name, found in commands
                        if found
                    ]
                )

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - as above
        cmd_name: str,
    ) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"normalizer.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


def _print_version(ctx: click.Context, _: click.Parameter, is_set: bool) -> None:  # noqa: FBT001 - as click passes it
    """Print the version, and whether this installation uses the native core.

    It's the native core unless a setting turns that off.
    """
    if not is_set:
        return
    why = import_module("normalizer.runtime.native_lane").why_not_installed()
    core = f"python ({why})" if why else "native"
    click.echo(f"{ctx.info_name}, version {version('event-normalizer')}, core: {core}")
    ctx.exit()


@click.group(
    cls=_LazyCommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and which core is in use, native or Python, and exit.",
)
def main() -> None:
    """Turn raw workflow events from Kafka into canonical rows in PostgreSQL, exactly once.

    \b
    normalizer up                      start the whole stack with traffic on this machine
    normalizer check                   check everything that the service needs
    normalizer run                     run the service until SIGTERM
    normalizer normalize < raw.ndjson  apply the rules to lines, without a server

    Settings come from environment variables. `normalizer config` documents each one.

    \b
    Exit codes:
      0    done, or stopped by a signal
      1    a problem was found, or a dry run was stopped
      2    wrong usage or settings
      3    no answer, a refused sign-in, or an error that a retry can't fix
      4    the service can't continue, but a restart helps
      130  ended at once by a signal: a second one, or the first if nothing was unfinished
    """
