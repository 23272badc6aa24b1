"""`projector serve`: a read-only HTTP API over the views, and the dashboard page on it.

In the order a request meets them:

    serve_command.py     the command line
    serve.py             runs the server until it is stopped
    idle_connections.py  closes connections that are slow to send a request
    middleware.py        checks host name and token, adds security headers
    app.py               the routes
    static_files.py      the page and its files
    endpoints.py         every endpoint by its path
    parameters.py        a query string as typed parameters
    response_cache.py    one query for all identical requests within a second
    snapshots.py         a small pool that reads views only
    queries/             one function an endpoint
    cursors.py           positions in lists
    answers.py           what every answer holds
    responses.py         answers and problems as responses
    api_errors.py        errors by their HTTP status
    openapi.py           the API as a document
    api_metrics.py       metrics of the API itself
    page/                the dashboard
"""
