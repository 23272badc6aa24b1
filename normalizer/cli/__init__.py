"""The command line: each command reads its settings, calls one flow, and says what came of it.

program    every command under its name
running    the commands that do something: run, up, migrate, normalize
asking     the commands that answer: check, config, schema, conform, metrics, explain, quarantine,
           ledger
edge       what they share: settings, errors, exit codes
filter     the core alone, a line in, a line out
check      may the service run here?
conform    the contract's vectors, and what another program makes of them
explain    where one record went
ledger     is every offset accounted for?
position_commands   the commands that show and move a position
positions  where partitions stand, and moving one by hand
forget_command      the command that erases an execution

The commands of history stand in jobs/.
"""

from normalizer.cli.program import main

__all__ = ["main"]
