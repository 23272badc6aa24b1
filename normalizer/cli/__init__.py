"""The command line: each command reads its settings, calls one flow, and prints the result.

program              finds the module of each command
exits                loads settings, and ends a command
rule_commands        normalize, schema, conform, and config, which need no server
service_commands     run, up, migrate
relay_command        relay
query_commands       check, metrics, explain, ledger
quarantine_commands  list, show, and redrive quarantined records
position_commands    show and move the position of a partition
backfill_commands    backfill from a topic, from files, from a table
row_commands         renormalize, redact, jobs
export_command       writes stored events to a file
forget_command       erases an execution
job_options          options that the commands of jobs share
job_execution        runs a job or its dry run with a screen, and prints the result
filter               runs the rules alone over lines
check                checks what the service needs
check_result         one line of its report
check_environment    its checks of unknown variables and those of tracing
check_kafka          its checks of the brokers
check_database       its checks of PostgreSQL
conformance          tests another program against the contract's vectors
explain              shows where one record went
ledger_check         checks that every offset is accounted for
ledger_findings      the positions that it reads, and its findings
ledger_statements    its SQL statements
partition_positions  shows positions of partitions, and moves one on request
"""

from normalizer.cli.program import main

__all__ = ["main"]
