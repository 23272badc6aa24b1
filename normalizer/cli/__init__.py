"""The command line: each command reads its settings, calls one flow, and prints the result.

program              every command under its name
exits                exit codes, settings, and how a command ends
service_commands     run, up, migrate, normalize
relay_command        relay
query_commands       check, config, schema, conform, metrics, explain, quarantine, ledger
position_commands    show and move the position of a partition
backfill_commands    backfill from a topic, from files, from a table
row_commands         renormalize, redact, redrive, jobs
export_command       writes stored events to a file
forget_command       erases an execution
job_options          options that the commands of jobs share
job_execution        runs a job, or its dry run, with a screen
filter               runs the rules alone over lines
check                checks what the service needs
check_result         one line of its report
check_kafka          its checks of the brokers
check_database       its checks of PostgreSQL
conformance          tests another program against the contract's vectors
explain              shows where one record went
ledger_check         checks that every offset is accounted for
ledger_findings      what it reads of positions, and what it found
ledger_statements    its SQL statements
partition_positions  shows positions of partitions, and moves one by hand
"""

from normalizer.cli.program import main

__all__ = ["main"]
