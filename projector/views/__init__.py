"""The views: their catalog with example queries, and a wait until a record is in all of them.

catalog             lists every view, with an example query.
operator_questions  lists questions of operators, each with a query that answers it.
description         prints the views of a database as text, and as docs/views.json.
wait                waits until a record is in every view.

The definitions are in migrations/views. Each view answers one question, which is its comment. A
view of counts or rates has an hour or a minute among its columns (bucket_start if it mixes both),
because a time range there reaches an index. Rates come with numerator and denominator, so that
hours can be added up. No view of many rows has a CTE at its top, because PostgreSQL wouldn't pull
it up, and no `where` would reach the tables. Shares are compared as whole numbers, because numeric
is several times slower, and floating-point numbers round.
"""
