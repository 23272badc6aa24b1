"""Sends lines [key, partition, value] at a steady rate; writes [partition, offset, time] of each.

send_steadily.py TOPIC SOURCE TARGET RATE
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import uvloop
from aiokafka import AIOKafkaProducer


async def main(topic: str, source: Path, target: Path, rate: float) -> None:
    records = [json.loads(line) for line in source.read_text().splitlines()]
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], acks="all", linger_ms=0
    )
    await producer.start()
    sent = []
    begins_s = time.time() + 0.1
    for index, (key, partition, value) in enumerate(records):
        if (wait_s := begins_s + index / rate - time.time()) > 0:
            await asyncio.sleep(wait_s)
        sent_s = time.time()
        keyed = None if key is None else key.encode()
        answer = await producer.send(topic, value.encode(), key=keyed, partition=partition)
        sent.append((answer, sent_s))
    await producer.flush()
    with target.open("w") as file:
        for answer, sent_s in sent:
            metadata = await answer
            file.write(f"{json.dumps([metadata.partition, metadata.offset, sent_s])}\n")
    await producer.stop()


uvloop.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])))
