"""Quix Streams with its PostgreSQL sink. The table is created beforehand.

The sink takes the columns of a batch from its first row, and leaves out those that are None. The
whole batch would then lose these columns, so an absent text is '' here, and absent JSON is null.
"""

import os
from typing import Any
from urllib.parse import urlsplit

from fields import COLUMNS, guarded_row
from quixstreams import Application, message_context
from quixstreams.sinks.community.postgresql import PostgreSQLSink

ABSENT = dict.fromkeys(("context", "result", "meta"), "null")
url = urlsplit(os.environ["DATABASE_URL"])
app = Application(
    broker_address=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
    consumer_group=os.environ["KAFKA_GROUP_ID"],
    auto_offset_reset="earliest",
    commit_every=5_000,
    commit_interval=0.5,
    auto_create_topics=False,
    consumer_extra_config={"max.partition.fetch.bytes": 4 << 20},
    loglevel="WARNING",
)


def named_row(value: bytes, _key: Any, recorded_ms: int, _headers: Any) -> dict[str, Any] | None:
    record = message_context()
    row = guarded_row(value, record.partition, record.offset, recorded_ms)
    if row is None:
        return None
    return {
        name: ABSENT.get(name, "") if field is None else field
        for name, field in zip(COLUMNS, row, strict=True)
    }


stream = app.dataframe(app.topic(os.environ["KAFKA_TOPIC"], value_deserializer="bytes"))
stream = stream.apply(named_row, metadata=True).filter(lambda row: row is not None)
stream.sink(
    PostgreSQLSink(
        host=url.hostname,
        port=url.port,
        dbname=url.path[1:],
        user=url.username,
        password=url.password,
        table_name="events",
        schema_auto_update=False,
        on_conflict_do_nothing=True,
        include_metadata=False,
    )
)
app.run()
