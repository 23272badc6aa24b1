"""Turns facts into records, in the order in which they reach the topic.

It packs events into batches and wrappers. As real producers and networks do, it reports some events
twice, delays some records, and sends some again. It also adds records that must be rejected. The
same seed and mix always give the same records, byte for byte.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count
from random import Random

import msgspec
from aiokafka.partitioner import murmur2

from simulator import python_server, rust_server
from simulator.deployments import Renderer, choose_deployment
from simulator.facts import Fact, PlaybookRun
from simulator.layers import stored_rows
from simulator.mix import SECOND_US, Mix
from simulator.mutations import mutate
from simulator.packing import Packer
from simulator.poison_records import PoisonMaker
from simulator.rendering import RenderChoices, RenderedEvent
from simulator.sent_record import SentEvent, SentOutcome, SentRecord
from simulator.world import World

_ALL_LAYERS = 0.3
"""How many events arrive in all their layers."""
_MANY_HEADERS = [(f"header-{number}", b"value") for number in range(10_000)]


def records(
    mix: Mix,
    seed: int,
    *,
    executions: int | None = None,
    lived: Callable[[PlaybookRun], None] = lambda _: None,
) -> Generator[SentRecord, None, None]:
    """Yield records in the order of their time, until `executions` have ended, or endlessly.

    `lived` is called with each execution when it ends. If you close the generator early, `lived` is
    also called with the executions that are still running, so that a ledger has all of them.
    """
    topic = _Topic(mix, seed)
    return topic.records(World(mix, Random(f"{seed}/world"), lived), executions)


class _Topic:
    """Events on their way to the topic, ordered by arrival."""

    def __init__(self, mix: Mix, seed: int) -> None:
        self._mix = mix
        self._choices = RenderChoices(Random(f"{seed}/pen"), mix)
        self._random = Random(f"{seed}/topic").random
        self._numbers = count(-1, -1)
        self._poison = PoisonMaker(self._choices, self._numbers.__next__)
        self._under_way: list[tuple[int, int, SentRecord]] = []
        self._sequence = count()
        self._packer = Packer(self._choices)
        self._id_lender: Fact | None = None

    def records(self, world: World, executions: int | None) -> Generator[SentRecord, None, None]:
        under_way = self._under_way
        with closing(world.facts(executions=executions)) as happening:
            for now_us, facts in happening:
                self._collide(facts)
                self._report(now_us, facts)
                while under_way and under_way[0][0] <= now_us:
                    yield self._arrived()
            while under_way:
                yield self._arrived()

    def _arrived(self) -> SentRecord:
        arrives_us, _, record = heappop(self._under_way)
        record.timestamp_ms = arrives_us // 1000
        record.partition = self._partition(record.key)
        return record

    def _partition(self, key: bytes | None) -> int:
        if key is None or not self._mix.keyed:
            return int(self._random() * self._mix.partitions)
        return keyed_partition(key, self._mix.partitions)

    def _report(self, now_us: int, facts: list[Fact]) -> None:
        """Write what happened at one instant: singly, or what the worker sends as one batch."""
        random, mix = self._random, self._mix
        execution = facts[0].execution
        deployment = choose_deployment(execution)
        batch: list[RenderedEvent] = []
        for fact in facts:
            if deployment.layered:
                self._send_layers(now_us, execution.text, deployment.worker(fact, self._choices))
                continue
            if fact.worker is None:
                self._send(now_us, execution.text, deployment.server(fact, self._choices))
                continue
            if deployment.batches and len(facts) > 1:
                batch.append(_item(fact, self._choices))
                continue
            self._send(now_us, execution.text, deployment.worker(fact, self._choices))
            if deployment.again is not None and random() < mix.reported_twice:
                self._report_again(now_us, fact, deployment.again)
        if batch:
            self._send_batch(now_us, execution.text, batch)
        if random() < mix.poison * len(facts):
            value, outcomes = self._poison.make(now_us, execution.execution_id)
            record = _record(execution.text.encode(), value, outcomes)
            if random() < 0.1:
                record.key = b"\xff\xfekey"
            if random() < 0.01:
                record.headers = _MANY_HEADERS
            self._put(now_us, record)

    def _report_again(self, now_us: int, fact: Fact, again: Renderer) -> None:
        """Add the server's row of the worker's report, which sometimes differs."""
        if self._random() < self._mix.disagreeing:
            fact = msgspec.structs.replace(
                fact, attempts=(fact.attempts + 1) % 9, at_us=fact.at_us + 1_500
            )
        self._send(now_us, fact.execution.text, again(fact, self._choices))

    def _send(self, now_us: int, key: str, rendered: RenderedEvent) -> None:
        if self._random() < self._mix.mutated:
            mutate(rendered, self._choices)
        value = self._packer.one(rendered)
        self._put(now_us, _record(key.encode(), value, [self._event(rendered)]))

    def _send_layers(self, now_us: int, key: str, client: RenderedEvent) -> None:
        """All layers of an event in any order, or only one of them."""
        layers = [client, *stored_rows(client)]
        first = int(self._random() * len(layers))
        layers = layers[first:] + layers[:first]
        for rendered in layers if self._random() < _ALL_LAYERS else layers[:1]:
            value = self._packer.one(rendered)
            self._put(now_us, _record(key.encode(), value, [self._event(rendered)]))

    def _send_batch(self, now_us: int, key: str, items: list[RenderedEvent]) -> None:
        value = self._packer.batch(key, items)
        self._put(
            now_us, _record(key.encode(), value, [self._event(rendered) for rendered in items])
        )

    def _event(self, rendered: RenderedEvent) -> SentEvent:
        fact = rendered.fact
        number = fact.number if rendered.reported.event_id is not None else next(self._numbers)
        return SentEvent(number, fact.number, rendered.reported, fact.shares_id)

    def _put(self, now_us: int, record: SentRecord) -> None:
        """Send: usually within 20 ms, sometimes late, sometimes twice."""
        random, mix = self._random, self._mix
        arrives_us = now_us + 500 + int(random() * 20_000)
        if random() < mix.late:
            arrives_us += int(random() ** 2 * mix.late_s * SECOND_US)
        if not record.headers and random() < mix.headers:
            record.headers, record.kept_headers, record.trace_id = self._packer.headers()
        heappush(self._under_way, (arrives_us, next(self._sequence), record))
        if random() < mix.redelivered:
            again = msgspec.structs.replace(
                record, copy_of_earlier=True, outcomes=[self._repeated(o) for o in record.outcomes]
            )
            arrives_us += int(random() * 5 * SECOND_US)
            heappush(self._under_way, (arrives_us, next(self._sequence), again))

    def _repeated(self, outcome: SentOutcome) -> SentOutcome:
        """Return the outcome of a record that is sent again.

        If an event has no id, its second copy counts as a new event, because no reader can tell
        that the event was sent before.
        """
        if isinstance(outcome, SentEvent) and outcome.reported.event_id is None:
            return SentEvent(next(self._numbers), outcome.fact, outcome.reported)
        return outcome

    def _collide(self, facts: list[Fact]) -> None:
        """Give an event the id of another one now and then, as if two nodes had the same number."""
        fact = facts[0]
        if fact.execution.deployment.name != "rust_now" or fact.call is None:
            return
        if self._random() < self._mix.colliding and self._id_lender is not None:
            if self._id_lender.execution is not fact.execution:
                fact.event_id, fact.shares_id = self._id_lender.event_id, True
                self._id_lender = None
        elif fact.worker is not None:
            self._id_lender = fact


def _record(key: bytes, value: bytes | None, outcomes: list[SentOutcome]) -> SentRecord:
    return SentRecord(key=key, value=value, timestamp_ms=0, outcomes=outcomes)


def _item(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    if choose_deployment(fact.execution).worker is rust_server.event_request:
        rendered = rust_server.event_request(fact, choices)
        del rendered.body["execution_id"]
        return rendered
    return python_server.batch_item(fact, choices)


@lru_cache(maxsize=65_536)
def keyed_partition(key: bytes, partitions: int) -> int:
    """The partition every Kafka client would choose for `key`."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
