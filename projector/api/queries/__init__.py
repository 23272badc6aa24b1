"""One function per endpoint, which reads a snapshot and returns an answer.

run_query.py          runs a statement for all rows, grouped counts, or a page of a list
grouping.py           statements that group by time and by keys
search.py             finds the object that a pasted text names
trends.py             sums of a window, of the window before it, and of intervals
tiles.py              the figures at the top of the dashboard
attempts_matrix.py    calls by attempt and status
error_groups.py       failed calls grouped by error text
error_statements.py   its SQL statements
current_state.py      freshness, retry storms, agreement, and jobs
outcome_counts.py     how executions ended
recent_outcomes.py    recent outcomes of calls and executions, for metrics
call_rates.py         how calls ended: rates by attempt and step
call_failures.py      failed calls by error and by worker
call_times.py         percentiles of durations, queue waits and backoffs
producer_faults.py    fields that producers leave out, or send without documentation
event_counts.py       events by attempts and status
event_rates.py        events per second, retries, coercions, late arrivals
log_gaps.py           gaps of the log
filter_choices.py     the values that a reader can filter by
quarantine_lists.py   rejected records
quarantine_detail.py  one rejected record
execution_lists.py    lists of executions
stuck_executions.py   executions that are silent or have no end
call_lists.py         lists of calls
execution_detail.py   one execution, its calls, and its events
execution_tree.py     its parents and children
loops.py              how far loops are
event_detail.py       one event, as it was sent and in canonical form
playbook_detail.py    the versions of one playbook
"""
