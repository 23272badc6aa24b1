"""`projector serve`: a read-only HTTP API over the views, and the dashboard page.

In the order a request meets them:

    serve_command.py      the command line
    serve.py              runs the server until it is stopped
    connection_limits.py  closes stalled connections, and limits their number
    middleware.py         checks host name and token, adds security headers
    app.py                the endpoints as routes
    visible_settings.py   settings that the page may show
    service_routes.py     probes, metrics, and the description of the API
    event_download.py     the events of an execution as a file
    static_files.py       the page and its files
    endpoints.py          every endpoint by its path
    query_strings.py      parses a query string into typed parameters
    parameters.py         their types
    execution_waiter.py   waits for the end of executions
    response_cache.py     one query for all identical requests of the same second
    snapshots.py          a small pool of connections that can read only views
    queries/              one function for each endpoint
    answers.py            the fields that every answer has
    formats.py            answers as JSON or CSV
    responses.py          answers and problems as responses
    thresholds.py         from when on a figure is worth a warning
    api_errors.py         errors by their HTTP status
    openapi.py            the OpenAPI document
    api_index.py          every path with its question
    api_reference.py      the same document as a page to read
    api_metrics.py        metrics of the API, and of outcomes, for alerts
    page/                 the dashboard
"""
