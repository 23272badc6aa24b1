"""One function per endpoint, which reads a snapshot and returns an answer.

run_query          runs a statement for all rows, grouped counts, or a page of a list
grouping           statements that group by time and by keys
search             finds the object that a pasted text names
trends             sums of a window, of the window before it, and of intervals
tiles              the figures at the top of the dashboard
attempts_matrix    calls by attempt and status
error_groups       failed calls grouped by error text
error_statements   its SQL statements
current_state      freshness, retry storms, agreement, and jobs
outcome_counts     how executions ended
recent_outcomes    recent outcomes of calls and executions, for metrics
call_rates         how calls ended: rates by attempt and step
call_failures      failed calls by error and by worker
call_times         percentiles of durations, queue waits and backoffs
producer_faults    fields that producers leave out, or send without documentation
event_counts       events by attempts and status
event_rates        events per second, retries, coercions, late arrivals
log_gaps           gaps of the log
filter_choices     the values that a reader can filter by
quarantine_lists   rejected records
quarantine_detail  one rejected record
execution_lists    lists of executions
stuck_executions   executions that are silent or have no end
call_lists         lists of calls
execution_detail   one execution, its calls, and its events
execution_tree     its parents and children
loops              how far loops are
event_detail       one event, as it was sent and in canonical form
playbook_detail    the versions of one playbook
"""
