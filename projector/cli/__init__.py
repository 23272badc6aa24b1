"""The commands of the program `projector`. Each calls one flow and prints its result.

commands            is the program `projector`, with its help and its exit codes.
command_runner      runs a command, and prints an error as one line.
scope_options       parses times, spans, and scopes.
view_commands       has views, which lists the views, and wait, which waits for a record.
verify_command      has verify, which compares projections with the events.
repair_command      has repair, which corrects what verify found to differ.
maintain_command    has maintain, which deletes old rows and compacts counters.
"""

from projector.cli.commands import main

__all__ = ["main"]
