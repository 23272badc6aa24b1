"""The command line of the projector: each command calls one flow and prints its result.

commands            every command under its name
command_ends        exit codes, output, and errors as one line
scope_options       times, spans and scopes that the commands take as text
view_commands       views, wait
verify_command      verify
repair_command      repair
maintain_command    maintain
"""

from projector.cli.commands import main

__all__ = ["main"]
