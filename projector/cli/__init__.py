"""The commands of the program `projector`. Each calls one flow and prints its result.

commands            the program, its help, and its exit codes
command_ends        runs a flow, and prints an error as one line
scope_options       parses times, spans, and scopes
view_commands       views, wait
verify_command      verify
repair_command      repair
maintain_command    maintain
"""

from projector.cli.commands import main

__all__ = ["main"]
