"""The command line: each command reads its settings, calls one flow, and prints the result.

program            every command under its name
exits              exit codes, settings, and how a command ends
service_commands   run, up, migrate, normalize
query_commands     check, config, schema, conform, metrics, explain, quarantine, ledger
position_commands  show and move the position of a partition
backfill_commands  backfill of a topic, of files, of a table
row_commands       renormalize, redact, redrive, export, jobs
forget_command     erases an execution
job_options        options that the commands of jobs share
job_execution      runs a job, or its dry run, on a screen
filter             the core alone: a line in, a line out
check              may the service run here?
conformance        the contract's vectors, and what another program makes of them
explain            where one record went
ledger_check       is every offset accounted for?
partition_positions  positions of partitions, and moving one by hand
"""

from normalizer.cli.program import main

__all__ = ["main"]
