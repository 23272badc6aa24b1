"""The simulated platform: many concurrent executions, and their facts in order of time."""

from collections.abc import Callable, Generator, Iterator
from heapq import heapify, heappop, heapreplace
from itertools import accumulate
from random import Random

from simulator.deployments import DEPLOYMENTS, Deployment, choose_deployment
from simulator.facts import Burst, Fact, PlaybookRun
from simulator.ids import DatabaseMinter, Minter, SmallNumbers, hash_opaque_id
from simulator.lifecycles import Lifecycles
from simulator.mix import Mix
from simulator.payloads import PayloadPool
from simulator.playbooks import Playbook, catalogue

_SERVER_NODES = (64, 517)
_WORKER_NODES = (9, 212, 700, 1023)
"""Node 64 makes ids that look doubled in every other millisecond."""


class World:
    """`in_flight` concurrent executions, each replaced by a new one when it ends or gets stuck."""

    def __init__(self, mix: Mix, random: Random, lived: Callable[[PlaybookRun], None]) -> None:
        self._random = random.random
        self._mix = mix
        self._catalogue = catalogue(random, failing=mix.failing, children=mix.children)
        self._stories = Lifecycles(
            mix, random, begin=self._begin, draw=PayloadPool(mix, random).draw
        )
        self._servers = [Minter(node) for node in _SERVER_NODES]
        self._workers = [Minter(node) for node in _WORKER_NODES]
        self._doubled = DatabaseMinter(0)
        self._small = SmallNumbers(0)
        shares = [mix.deployments.get(d.name, d.share) for d in DEPLOYMENTS]
        self._shares = list(accumulate(shares))
        self._lived = lived
        self._living: dict[int, PlaybookRun] = {}
        self.executions = 0

    def facts(
        self, *, executions: int | None = None
    ) -> Generator[tuple[int, list[Fact]], None, None]:
        """Yield what happens, in the order of time, as pairs: microseconds since 1970, and facts.

        All facts of a pair belong to one execution. `executions` limits how many executions begin,
        not counting their children, and the generator stops when all of them have ended. Without a
        limit it never stops. When you close the generator, `lived` is called for the executions
        that are still running.
        """
        try:
            yield from self._facts(executions)
        finally:
            for execution in self._living.values():
                self._lived(execution)
            self._living.clear()

    def _facts(self, executions: int | None) -> Iterator[tuple[int, list[Fact]]]:
        left = executions if executions is not None else -1
        now_us = self._mix.start_us
        first = self._mix.in_flight if left < 0 else min(self._mix.in_flight, left)
        heap = [(now_us + number * 1000, number, self._new_life()) for number in range(first)]
        heapify(heap)
        left -= first
        number = first
        while heap:
            now_us, key, life = heap[0]
            self._stories.now_us = now_us
            burst = next(life, None)
            if burst is not None:
                facts, gap_us = burst
                if facts:
                    yield now_us, facts
                heapreplace(heap, (now_us + gap_us, key, life))
            elif left != 0:
                left -= 1
                number += 1
                heapreplace(heap, (now_us + 1, number, self._new_life()))
            else:
                heappop(heap)

    def _new_life(self) -> Iterator[Burst]:
        """Run an execution, and pass it to `lived` when it's over."""
        execution, playbook = self._begin(None)
        yield from self._stories.life(execution, playbook)
        self._over(execution)

    def _over(self, execution: PlaybookRun) -> None:
        """Note the end of an execution that has ended or got stuck, and of its children."""
        for one in (execution, *execution.children):
            self._lived(self._living.pop(one.number))

    def _begin(self, parent: PlaybookRun | None) -> tuple[PlaybookRun, Playbook]:
        random = self._random
        playbook = self._catalogue[int(random() * len(self._catalogue))]
        deployment = self._deployment() if parent is None else choose_deployment(parent)
        self.executions += 1
        now_ms = self._stories.now_us // 1000
        minters = self._minters(deployment)
        text = self._id_text(deployment, minters[0], now_ms)
        digits = text.isdigit() and len(text) <= 19 and int(text) < 2**63
        execution = PlaybookRun(
            number=self.executions,
            text=text,
            execution_id=int(text) if digits else hash_opaque_id(text),
            opaque=not digits,
            playbook=playbook.path,
            version=playbook.version,
            catalog_id=playbook.catalog_id,
            deployment=deployment,
            minters=minters,
            parent=parent,
        )
        self._living[execution.number] = execution
        if parent is not None:
            parent.children.append(execution)
        return execution, playbook

    def _minters(self, deployment: Deployment) -> tuple[Minter, Minter]:
        match deployment.ids:
            case "doubled":
                return self._doubled, self._doubled
            case "small":
                return self._small, self._small
            case "application":
                return (
                    self._servers[self.executions % len(self._servers)],
                    self._workers[self.executions % len(self._workers)],
                )

    def _deployment(self) -> Deployment:
        draw = self._random() * self._shares[-1]
        for deployment, upto in zip(DEPLOYMENTS, self._shares, strict=True):
            if draw < upto:
                return deployment
        return DEPLOYMENTS[0]

    def _id_text(self, deployment: Deployment, minter: Minter, now_ms: int) -> str:
        match deployment.executions:
            case "small":
                return str(100 + self.executions)
            case "padded":
                return f"00{4_567_890_000_000_000 + self.executions * 7919}"
            case "opaque" if self.executions % 3 == 0:
                return f"01J{self.executions:010d}ZXCVBNMASDFGH"
            case "opaque" if self.executions % 3 == 1:
                return str(2**63 + self.executions)
            case "opaque":
                return f"cli-local-{self.executions}"
            case _:
                return str(minter.mint(now_ms))
