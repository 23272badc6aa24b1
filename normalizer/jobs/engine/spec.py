"""What makes one job another, and the job's id: the same command finds its job again."""

import hashlib
from typing import Final, Literal

import msgspec

from normalizer.core.redact_stored import redact_stored_text
from normalizer.core.sanitize import Sanitizer

JobKind = Literal["backfill", "renormalize", "redrive", "redact"]

_NAMESPACE: Final = b"event-normalizer job\0"


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What makes one job another: its kind, its source, and every option that changes its rows.

    `source` names the source without secrets; `options` are the other options, as text. Throttle
    and reporting options do not belong to it.
    """

    kind: JobKind
    source: str
    options: dict[str, str] = {}
    redact_keys: tuple[str, ...] = ()
    """Only for readers: they change no row."""

    @property
    def job_id(self) -> str:
        """16 hex digits."""
        return self._digest().hex()

    @property
    def lock_key(self) -> int:
        """The advisory lock of the job: 63 bits, so that `pg_locks` shows the same number."""
        return int.from_bytes(self._digest(), "big") >> 1

    def __str__(self) -> str:
        """What readers see: a query or a default may hold a secret, which is cut out."""
        options = "".join(f" {name}={value}" for name, value in sorted(self.options.items()))
        return redact_stored_text(
            f"{self.kind} {self.source}{options}", Sanitizer(self.redact_keys)
        )

    def _digest(self) -> bytes:
        text = msgspec.json.encode([self.kind, self.source, sorted(self.options.items())])
        return hashlib.blake2b(_NAMESPACE + text, digest_size=8).digest()
