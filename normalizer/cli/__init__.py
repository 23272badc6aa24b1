"""The command line: each command reads its settings, calls one function, and prints the result.

Only a command ends the process. Everything that it calls raises an error instead, and
`exit_on_error` turns that into a line and an exit code.

program              is the program `normalizer`, and names the module of each command.
exit_on_error        loads settings, and ends a command.
offline_commands     has normalize, schema, conform, and config, which need no server.
service_commands     has run, up, migrate.
relay_command        has relay.
read_only_commands   has check, metrics, explain, ledger.
quarantine_commands  lists, shows, and redrives quarantined records.
position_commands    shows and changes the position of a partition.
backfill_commands    reads history from a topic, from files, or from a table.
stored_row_commands  has renormalize, redact, jobs.
export_command       writes stored events to a file.
forget_command       erases an execution.
job_options          has the options that several commands of jobs share.
job_execution        runs a job or its dry run, with a screen, and prints the result.
check                checks what the service needs, and its environment variables.
check_result         is one line of the report of check.
check_kafka          checks the brokers.
check_database       checks PostgreSQL.
conformance          tests another program against the contract's vectors.
explain              shows what happened to one record.
ledger_check         checks that every offset is accounted for.
ledger_verdicts      has the positions that the ledger check reads, and its verdicts.
partition_positions  shows positions of partitions, and changes one for an operator.
"""

from normalizer.cli.program import main

__all__ = ["main"]
