"""Projections: tables and views that count events, calls, and executions by attempts and status.

The projections are written in SQL, in migrations/. Triggers update them in the transaction that
stores the events, so a view never lags behind the stored events. This package has what an operator
runs on them: commands that verify, repair, and shrink them, and an HTTP server with a dashboard.

database_session  opens connections with time limits, and retries when a lock is held.
chunks            splits work into statements that end within the time limit.
event_rows        turns rows of events into canonical events.
hours             finds the hours in which a table has rows.
views/            lists the views with example queries, and generates docs/views.json.
verify/           compares projections with the events.
maintenance/      deletes and archives old rows, and compacts counters.
repair/           corrects projections that differ from the events.
api/              serves an HTTP API over the views, and the dashboard that uses it.
cli/              has the commands.
"""
