"""Names of custom events, error texts, and the ways in which a try fails."""

from typing import Final

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

_ERROR: Final = ("ERROR", ("call.done", "ERROR"), ("command.failed", "FAILED"))
_FAILED: Final = ("FAILED", ("call.error", "FAILED"), ("command.failed", "FAILED"))
WAYS_TO_FAIL: Final = (
    *(_ERROR, _ERROR, _FAILED, _FAILED, _FAILED),
    ("ERROR", ("call.done", "ERROR"), ("command.completed", "FAILED")),
    ("FAILED", ("call.done", "FAILED"), ("command.failed", "FAILED")),
    ("CANCELLED", ("call.done", "CANCELLED"), ("command.cancelled", "CANCELLED")),
    # The worker's own check of the result fails, a server gives up, or somebody cancels.
    ("FAILED", ("call.done", "COMPLETED"), ("command.failed", "FAILED")),
    ("CANCELLED", ("call.done", "COMPLETED"), ("command.cancelled", "CANCELLED")),
)
"""How the try ended, then what its call and its command report."""
