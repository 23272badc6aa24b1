"""The views: what they are, how one asks them, and when a record is in them.

catalog.py             every view, with an example query
operator_questions.py  the questions of an operator, each with a query that answers it
markdown.py            the views of a database as docs/views.md
wait.py                waits until a record is in every view
"""
