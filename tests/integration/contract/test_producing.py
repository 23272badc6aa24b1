"""docs/producing.md: what it shows is what comes out, through a real broker and a real database."""

import asyncio
import json
import sys
from datetime import datetime
from itertools import pairwise

import pytest
import yaml
from aiokafka import AIOKafkaConsumer

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, to_canonical
from tests.support.doc_pages import blocks
from tests.support.stack import Database, Topic
from tests.support.table_rows import connected

PAGE = "producing.md"
EXAMPLES = [
    (record.text.strip(), event.text.strip())
    for record, event in pairwise(blocks(PAGE))
    if (record.info, event.info) == ("json record", "json event")
]
TOPIC = "noetl.events"

NOETL_EVENT = """
    create schema noetl;

    create table noetl.event (
        execution_id bigint, catalog_id bigint not null, event_id bigint, parent_event_id bigint,
        parent_execution_id bigint, created_at timestamp not null default current_timestamp,
        event_type varchar, node_id varchar, node_name varchar, node_type varchar, status varchar,
        duration double precision, context jsonb, result jsonb, meta jsonb, error text,
        current_index integer, current_item text, worker_id varchar, stack_trace text,
        primary key (execution_id, event_id)
    ) partition by range (execution_id);

    create table noetl.event_default partition of noetl.event default;
"""


@pytest.mark.parametrize(("record", "event"), EXAMPLES, ids=["python", "rust", "row", "nats"])
def test_each_record_gives_the_event_below_it(record: str, event: str) -> None:
    (outcome,) = Normalizer().normalize(RawRecord(value=record.encode()))

    assert isinstance(outcome, Envelope)
    assert to_canonical(outcome).decode() == event


@pytest.mark.parametrize("topic", [1], indirect=True)
async def test_the_python_example_runs_and_sends_its_record(
    topic: Topic, bootstrap_servers: str
) -> None:
    (code,) = blocks(PAGE, "python")

    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code.text.replace(f'"{TOPIC}"', f'"{topic.name}"')),
        env={"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await child.communicate()

    assert child.returncode == 0, said.decode()
    async with AIOKafkaConsumer(
        topic.name, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        async with asyncio.timeout(30):
            sent = await consumer.getone()
    value, shown = json.loads(sent.value), json.loads(EXAMPLES[0][0])
    assert sent.key == b"333895119667515392"
    assert list(value) == list(shown)
    assert datetime.fromisoformat(value.pop("created_at")).tzinfo is not None
    assert value.pop("event_id") > 0
    assert value.items() <= shown.items()


async def test_the_trigger_tells_the_row_that_is_displayed(empty_database: Database) -> None:
    (ddl,), (row,) = blocks(PAGE, "sql"), blocks(PAGE, "sql row")
    async with connected(empty_database) as connection:
        await connection.execute(NOETL_EVENT)
        await connection.execute(ddl.text)
        await connection.execute(_KEEP_WHAT_WAS_INSERTED)

        await connection.execute(row.text)

        published = await connection.fetch(
            "select aggregateid, payload::text as payload from inserted"
        )
        left = await connection.fetchval("select count(*) from noetl.event_outbox")
    assert [tuple(one) for one in published] == [("333895119667515392", EXAMPLES[2][0])]
    assert left == 0


_KEEP_WHAT_WAS_INSERTED = """
    create table inserted (like noetl.event_outbox);

    create function keep() returns trigger language plpgsql as $$
    begin
        insert into inserted select new.*;
        return null;
    end
    $$;

    create trigger keep after insert on noetl.event_outbox
        for each row execute function keep();
"""


def test_the_connector_and_the_bridge_send_to_our_topic() -> None:
    (connector,), (bridge,) = blocks(PAGE, "json connector"), blocks(PAGE, "yaml")
    config = json.loads(connector.text)["config"]
    output = yaml.safe_load(bridge.text)["output"]["kafka_franz"]

    assert config["transforms.outbox.route.topic.replacement"] == TOPIC
    assert config["table.include.list"] == "noetl.event_outbox"
    assert output["topic"] == TOPIC
    assert "execution_id" in output["key"]
