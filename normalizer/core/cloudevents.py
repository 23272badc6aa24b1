"""Writes a canonical event as a CloudEvent 1.0 in JSON, for consumers that expect this standard.

docs/cloudevents.md lists which field becomes which attribute. The normalizer can read such an event
back, by the rule docs/spec/wire-shapes.md#w7.
"""

from datetime import UTC, datetime
from typing import Final

import msgspec

from normalizer.core.decode.unwrap import CLOUDEVENT_TYPE_PREFIX
from normalizer.envelope import Envelope, to_canonical


def to_cloudevent(event: Envelope) -> bytes:
    """Return the event as a CloudEvent, written as one line of JSON without the line feed.

    The event must have an id. Its canonical line becomes the CloudEvent's `data`, so `normalizer
    normalize` can turn the CloudEvent back into exactly the same line.
    """
    assert event.event_id is not None
    attributes: dict[str, object] = {
        "specversion": "1.0",
        "id": str(event.event_id),
        "source": f"/executions/{event.execution_id}",
        "type": f"{CLOUDEVENT_TYPE_PREFIX}{event.event_type}",
        "subject": event.step or None,
        "time": _time(event.created_at),
        "datacontenttype": "application/json",
        "partitionkey": str(event.execution_id),
        "data": msgspec.Raw(to_canonical(event)),
    }
    return _encode({name: value for name, value in attributes.items() if value is not None})


def _time(time: datetime | None) -> str | None:
    """Return the time in RFC 3339 with microseconds, as in the canonical line."""
    if time is None:
        return None
    utc = time.astimezone(UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='microseconds')}Z"


_encode: Final = msgspec.json.Encoder().encode
