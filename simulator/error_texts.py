"""Names of custom events, and error texts as sent and as they may be kept."""

CUSTOM_EVENTS = (
    ("checkpoint.committed", "COMPLETED"),
    ("step_result", "COMPLETED"),
    ("metric.reported", ""),
    ("upload_failure", "FAILED"),
    ("task-finished", "COMPLETED"),
    ("job.Canceled", "CANCELLED"),
)


ERRORS = (
    ("HTTP 503 from https://api.example.com/posts", "HTTP 503 from https://api.example.com/posts"),
    ("connection refused", "connection refused"),
    ("UniqueViolation: duplicate key value", "UniqueViolation: duplicate key value"),
    ("exit status 2", "exit status 2"),
    ("tool budget exhausted", "tool budget exhausted"),
    ("deadline exceeded after 30s", "deadline exceeded after 30s"),
    (
        "cannot reach postgres://bob:s3cr3t@db.example.com/app",
        "cannot reach postgres://bob:[REDACTED]@db.example.com/app",
    ),
)
