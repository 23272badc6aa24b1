"""The command line of the projector: each command calls one flow and prints its result.

commands            all commands by name
command_ends        exit codes, output, and one-line errors
scope_options       parses times, spans, and scopes
view_commands       views, wait
verify_command      verify
repair_command      repair
maintain_command    maintain
"""

from projector.cli.commands import main

__all__ = ["main"]
