"""Read models of the canonical events, grouped by attempts and status, and their upkeep.

The projections themselves are SQL, in migrations/. Triggers update them in the transaction of the
events. This package has everything that an operator does with them:

    database_session.py   a connection with its limits, and retries on locks
    chunks.py             cuts work into statements that end within the limit
    event_rows.py         reads the canonical events of rows
    hours.py              the hours that a table has rows of
    views/                the views, example queries, docs/views.json
    verify/               compares projections with the events
    maintenance/          retention, archive, compaction, statistics
    repair/               makes projections agree with the events again
    api/                  an HTTP API over the views, and the dashboard on it
    cli/                  the commands
"""
