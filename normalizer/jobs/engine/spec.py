"""What a command asks for in, the id of its job out: the same command finds its job again."""

import hashlib
from typing import Final, Literal

import msgspec

JobKind = Literal["backfill", "renormalize", "redrive", "redact"]

_NAMESPACE: Final = b"event-normalizer job\0"


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What makes one job another: its kind, its source, and every option that changes its rows.

    `source` names the source without secrets; `options` are what else was asked, as text. How fast
    it may go and how it reports are no part of it.
    """

    kind: JobKind
    source: str
    options: dict[str, str] = {}

    @property
    def job_id(self) -> str:
        """16 hex digits."""
        return self._digest().hex()

    @property
    def lock_key(self) -> int:
        """The advisory lock of the job: 63 bits, so that it reads the same in `pg_locks`."""
        return int.from_bytes(self._digest(), "big") >> 1

    def __str__(self) -> str:
        options = "".join(f" {name}={value}" for name, value in sorted(self.options.items()))
        return f"{self.kind} {self.source}{options}"

    def _digest(self) -> bytes:
        text = msgspec.json.encode([self.kind, self.source, sorted(self.options.items())])
        return hashlib.blake2b(_NAMESPACE + text, digest_size=8).digest()
