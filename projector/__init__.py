"""Read models of the canonical events, grouped by attempts and status, and what keeps them true.

The projections themselves are SQL: migrations/0002 and up, moved by triggers in the transaction of
the events. Here is what an operator does with them, in the order a question meets it:

    operators.py        the questions of an operator, each with a query that answers it
    questions.py        the views, each with an example query
    document.py         views in a database -> docs/views.md
    database.py         a database URL -> a connection with its limits
    wait.py             until an event is visible
    comparisons/        what each projection shows, beside the fold of its events
    hours.py            the hours that a table has rows of
    windows.py          all, a range or a sample -> stretches that fit one short snapshot
    verify.py           stretches compared -> match, divergent, or cannot tell
    repair.py           what differs made to agree again, beside everybody's work
    report.py           what a repair does, said to whoever waits
    upkeep.py           shards added up, minutes dropped, statistics
    retention.py        old events, executions and refusals let go; their counts stay
    tellings.py         what was noted of records that told again of what is gone
    bookkeeping.py      old gaps and runs of jobs let go
    maintain.py         all four, in a safe order, one maintainer at a time
    api/                an HTTP API over the views, and the dashboard on it
    cli.py              the commands
"""
