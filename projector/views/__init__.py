"""The views: their catalog with example queries, and a wait until a record is in all of them.

catalog.py             every view, with an example query
operator_questions.py  questions of operators, each with a query that answers it
description.py         the views of a database, as text and as docs/views.json
wait.py                waits until a record is in every view
"""
