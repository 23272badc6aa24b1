"""Packs reports of events into records, each with a value and headers.

A record may hold a single report, a batch of them, or a report in a wrapper. A report may also be
encoded as JSON twice. Source: docs/spec/wire-shapes.md#w1, #w2, #w4, #w6, #b1, #b2.
"""

from base64 import b64encode
from typing import Any

import msgspec

from simulator.payloads import REDACTED
from simulator.rendering import RenderChoices, RenderedEvent

_encode = msgspec.json.Encoder().encode

RecordHeaders = list[tuple[str, bytes]]


class Packer:
    """Packs reports like producers. Values of a wrapper or batch become part of the reports."""

    def __init__(self, choices: RenderChoices) -> None:
        self._choices = choices
        self._sequence = 0

    def one(self, rendered: RenderedEvent) -> bytes:
        """The value of a record that holds one event."""
        feed = rendered.fact.execution.deployment.feed
        if rendered.reported.shape == "rust_row" and self._choices.random() < feed:
            return self._encoded(self._fed(rendered))
        if self._choices.random() < self._choices.mix.listed:
            return _encode([rendered.body])
        return self._encoded(rendered.body)

    def batch(self, execution: str, reports: list[RenderedEvent]) -> bytes:
        """Return the value of a record with several events and one execution for all of them."""
        random = self._choices.random
        name = "events" if random() < 0.9 else "records"
        outer: dict[str, Any] = {"execution_id": execution, name: []}
        worker = reports[0].fact.worker
        if random() < 0.8:
            outer["worker_id"] = worker if random() < 0.8 else "pool-of-workers"
        if random() < 0.2:
            outer["catalog_id"] = str(reports[0].fact.execution.catalog_id)
        if random() < 0.1:
            outer["x_batch"] = {"size": len(reports)}
        outer[name] = [self._item(rendered, outer) for rendered in reports]
        return self._encoded(outer)

    def _item(self, rendered: RenderedEvent, outer: dict[str, Any]) -> Any:
        """Return an item as it is in the batch. Its own values win, outer ones fill gaps (#b1)."""
        body, reported = rendered.body, rendered.reported
        random = self._choices.random
        if "worker_id" in outer and outer["worker_id"] != rendered.fact.worker:
            body["worker_id"] = reported.worker_id = rendered.fact.worker
        elif "worker_id" in outer and body.get("worker_id") is None:
            reported.worker_id = outer["worker_id"]
            if random() < 0.1:
                body["worker_id"] = None
        if "catalog_id" in outer:
            reported.catalog_id = rendered.fact.execution.catalog_id
        if "x_batch" in outer:
            reported.extra = reported.extra | {"x_batch": outer["x_batch"]}
        draw = random()
        if draw < 0.03:
            return _encode(body).decode()
        if draw < 0.05:
            return self._fed(rendered)
        return body

    def _fed(self, rendered: RenderedEvent) -> dict[str, Any]:
        """Return the feed's wrapper. #w2: its own keys are kept."""
        self._sequence += 1
        kept = {"global_sequence": self._sequence, "transaction_id": self._sequence // 3}
        rendered.reported.extra = rendered.reported.extra | kept
        return {
            **kept,
            "execution_id": rendered.reported.execution_id,
            "payload": _encode(rendered.body).decode(),
        }

    def _encoded(self, body: dict[str, Any]) -> bytes:
        """JSON: compact, with blanks as Python's json writes it, framed, or a string of JSON."""
        value = _encode(body)
        mix = self._choices.mix
        draw = self._choices.random()
        if draw < mix.double_encoded:
            return _encode(value.decode())
        if draw < mix.double_encoded + mix.framed:
            return b"\0\0\0\0\x07" + value
        if draw > 0.95 and b"\\u" not in value:
            return msgspec.json.format(value, indent=0)
        return value

    def headers(self) -> tuple[RecordHeaders, dict[str, Any], str]:
        """Headers as sent and as they may be kept, and the trace they name."""
        random = self._choices.random
        trace = f"{int(random() * 2**62):032x}"
        parent = f"00-{trace}-00f067aa0ba902b7-01"
        sent = [("traceparent", parent.encode()), ("source", b"simulator")]
        kept: dict[str, Any] = {"traceparent": parent, "source": "simulator"}
        draw = random()
        if draw < 0.1:
            sent.append(("Authorization", b"Bearer abcdef0123456789"))
            kept["Authorization"] = REDACTED
        elif draw < 0.2:
            sent += [("hop", b"gateway"), ("hop", b"broker")]
            kept["hop"] = ["gateway", "broker"]
        elif draw < 0.3:
            sent.append(("digest", b"\xff\x00\xfe"))
            kept["digest"] = header_text(b"\xff\x00\xfe")
        return sent, kept, trace


def header_text(value: bytes) -> str:
    """Return a header's value as text. Bytes that aren't UTF-8 become base64 with a prefix."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"base64:{b64encode(value).decode()}"
