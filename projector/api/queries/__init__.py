"""Every question is a function here: a snapshot and what was asked in, an answer out.

asking.py       how a question is asked: about now, for counts in groups, for a page of a list
grouping.py     a view, what to group it by and what to add up -> one fixed statement
outcomes.py     how executions ended, over time
calls.py        how calls go: by attempt, step, playbook, worker and error
events.py       how events come; what was refused, guessed or left unsaid
standing.py     freshness, retry storms, agreement with the log, jobs
executions.py   lists of executions
tries.py        lists of calls
execution.py    one execution, its tries and its events
"""
