"""One function per endpoint, which reads a snapshot and returns an answer.

query_answers      runs a statement for all rows, grouped counts, or a page of a list
grouping           statements that group by time and by keys
search             finds the object that a pasted text names
trends             sums of a window, of the window before it, and of intervals
tiles              the figures at the top of the dashboard
attempts_matrix    calls by attempt and status
error_groups       failed calls grouped by error text
current_state      freshness, gaps, retry storms, agreement, and jobs
outcome_counts     how executions ended
call_rates         how calls ended: rates by attempt, step, error, and worker
call_times         percentiles of durations, queue waits and backoffs
producer_faults    fields that producers leave out, or send without documentation
event_rates        events by status, per second, retries, coercions, late arrivals
filter_choices     the values that a reader can filter by
quarantine_lists   rejected records
execution_lists    lists of executions
stuck_executions   executions that are silent or have no end
call_lists         lists of calls
execution_detail   one execution, its calls, its events, its parents and children
loops              how far loops are
event_detail       one event, as it was sent and in canonical form
playbook_detail    the versions of one playbook
"""
