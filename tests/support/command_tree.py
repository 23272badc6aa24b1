"""The commands of a program, by name."""

import click


def subcommands(group: click.Group) -> dict[str, click.Command]:
    """Every command of the group, as --help lists them. Imports the module of each."""
    context = click.Context(group)
    return {
        name: command
        for name in group.list_commands(context)
        if (command := group.get_command(context, name)) is not None
    }
