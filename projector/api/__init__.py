"""`projector serve`: a read-only HTTP API over the views, and the dashboard page on it.

In the order a request meets them:

    serve.py        settings -> a server, until it is told to stop
    guard.py        headers, host name and token
    app.py          the routes
    files.py        the page and its files
    questions.py    every question by its path
    parameters.py   a query string -> typed parameters
    sharing.py      one query for all who ask the same within a second
    database.py     a small pool that reads views only; snapshots
    queries/        one function a question
    cursors.py      places in lists
    answers.py      what every answer holds
    responses.py    answers and problems as responses
    errors.py       what can go wrong, by status
    openapi.py      all of this as a document
    metrics.py      what the API says of itself
    page/           the dashboard
"""
