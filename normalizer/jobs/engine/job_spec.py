"""Identifies a job, so that the same command resumes it.

A job's id is a hash of everything that affects its rows, for example its source and its options. So
you can resume a job on any machine by repeating its command.
"""

import hashlib
from typing import Final, Literal

import msgspec

from normalizer.core.redaction.redact_stored import redact_stored_text
from normalizer.core.redaction.sanitize import Sanitizer

JobKind = Literal["backfill", "renormalize", "redrive", "redact"]

_NAMESPACE: Final = b"event-normalizer job\0"


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Identifies a job: its kind, its source, and every option that affects the rows.

    Two commands with the same JobSpec are the same job, so the second resumes the first. Options
    for throttling and reporting aren't part of it, so you may change them when you resume a job.
    `source` is the name of the source, without passwords, and `options` maps each option to its
    value as text.
    """

    kind: JobKind
    source: str
    options: dict[str, str] = {}
    redact_keys: tuple[str, ...] = ()
    """The words by which secrets are redacted when the job is displayed. They affect no row."""

    @property
    def job_id(self) -> str:
        """Return the id: 16 hex digits."""
        return self._digest().hex()

    @property
    def lock_key(self) -> int:
        """Return the key of the job's advisory lock.

        It has 63 bits, so `pg_locks` shows the same number.
        """
        return int.from_bytes(self._digest(), "big") >> 1

    def __str__(self) -> str:
        """Return the job as text, without the secrets that a query or an option may contain."""
        options = "".join(f" {name}={value}" for name, value in sorted(self.options.items()))
        return redact_stored_text(
            f"{self.kind} {self.source}{options}", Sanitizer(self.redact_keys)
        )

    def _digest(self) -> bytes:
        text = msgspec.json.encode([self.kind, self.source, sorted(self.options.items())])
        return hashlib.blake2b(_NAMESPACE + text, digest_size=8).digest()
