"""The life of one execution, told as bursts of facts: what happens at one instant, in order.

A life is a generator. Whoever runs it sets `now_us`, takes a burst, and comes back after its gap.
"""

from collections.abc import Generator, Iterator
from math import log
from random import Random
from typing import TYPE_CHECKING, Any

from simulator.facts import Call, Content, Execution, Fact
from simulator.mix import SECOND_US, Mix
from simulator.playbooks import Playbook, Step

if TYPE_CHECKING:
    from simulator.ids import Minter

Burst = tuple[list[Fact], int]
"""Facts of one instant, and microseconds until the next burst of the same execution."""

_EVENTS_A_GAP = 2.1
"""Measured: so many events reach the topic for each mean gap of an execution's life."""
_ERRORS = (
    "HTTP 503 from https://api.example.com/posts",
    "connection refused",
    "UniqueViolation: duplicate key value",
    "exit status 2",
    "tool budget exhausted",
    "deadline exceeded after 30s",
)


class Stories:
    """Tells lives; holds what all of them share: the clock, the ids, the catalogue."""

    def __init__(self, mix: Mix, random: Random, *, begin: Any, draw: Any) -> None:
        self.now_us = mix.start_us
        self._mix = mix
        self._random = random.random
        self._begin = begin
        self._draw = draw
        self._mean_gap = mix.in_flight / mix.rate * SECOND_US * _EVENTS_A_GAP

    def life(self, execution: Execution, playbook: Playbook) -> Iterator[Burst]:
        """One execution from its start to its end, its cancelling, or where it gets stuck."""
        random, mix = self._random, self._mix
        draw = random()
        cut = 3 + int(random() * 4 * len(playbook.steps)) if draw < mix.stuck + mix.cancelled else 0
        cancelled = draw >= mix.stuck
        started = self._fact("playbook.started", execution, playbook.path)
        first = [started]
        if random() < 0.3:
            first.insert(0, self._fact("playbook.initialized", execution, playbook.path))
        yield first, self._gap(0.5)
        if random() < mix.abandoned:
            return
        body = self._body(execution, playbook, started.event_id)
        for number, burst in enumerate(body, start=1):
            if number == cut:
                if not cancelled:
                    return
                execution.outcome = "CANCELLED"
                break
            yield burst
        yield from self._end(execution, playbook, started.event_id)

    def _body(self, execution: Execution, playbook: Playbook, cause: int) -> Iterator[Burst]:
        execution.outcome = "COMPLETED"
        yield [self._fact("workflow.started", execution, "workflow", cause=cause)], self._gap(0.2)
        for step in playbook.steps:
            fine = yield from self._step(execution, step, cause)
            if not fine:
                execution.outcome = "FAILED"
                return

    def _end(self, execution: Execution, playbook: Playbook, cause: int) -> Iterator[Burst]:
        outcome = execution.outcome
        if outcome == "CANCELLED":
            ended = self._fact("playbook.cancelled", execution, playbook.path, outcome, cause=cause)
            yield [ended], 0
            return
        kinds = ("workflow.completed", "playbook.completed")
        if outcome == "FAILED":
            kinds = ("workflow.failed", "playbook.failed")
        yield (
            [
                self._fact(kinds[0], execution, "workflow", outcome, cause=cause),
                self._fact(kinds[1], execution, playbook.path, outcome, cause=cause),
            ],
            0,
        )

    def _step(self, execution: Execution, step: Step, cause: int) -> Generator[Burst, None, bool]:
        """A step with its commands; True if it ended well."""
        random = self._random
        if random() < step.skipped:
            yield [self._fact("step.skipped", execution, step.name, "SKIPPED")], self._gap(0.1)
            return True
        entered = self._fact("step.enter", execution, step.name, cause=cause)
        yield [entered], self._gap(0.1)
        fine = True
        if step.child and execution.parent is None:
            child, playbook = self._begin(execution)
            yield from self.life(child, playbook)
            fine = child.outcome != "FAILED"
        elif step.iterations:
            for index in range(step.iterations):
                fine = (yield from self._command(execution, step, entered.event_id, index)) and fine
        else:
            fine = yield from self._command(execution, step, entered.event_id, None)
        outcome = "COMPLETED" if fine else "FAILED"
        exit_ = self._fact("step.exit", execution, step.name, outcome, cause=entered.event_id)
        exit_.content = self._content()
        yield [exit_], self._gap(0.1)
        return fine

    def _command(
        self, execution: Execution, step: Step, cause: int, index: int | None
    ) -> Generator[Burst, None, bool]:
        """A command with as many tries as it takes or is allowed; True if the last one did it."""
        random = self._random
        command_id = ""
        for attempts in range(step.max_attempts):
            again = bool(attempts) and execution.deployment.numbered and random() < 0.5
            issued = self._fact("command.issued", execution, step.name, cause=cause)
            if not again:
                command_id = self._command_id(execution, step, issued.event_id, index)
            call = self._call(execution, step, command_id, attempts, index)
            issued.call, issued.attempts, issued.node_type = call, attempts, step.node_type
            issued.content = self._content()
            if not again:
                yield [issued], self._gap(0.8)
                yield [self._called("command.claimed", execution, call)], self._gap(0.1)
            outcome = yield from self._try(execution, step, call)
            if outcome == "COMPLETED":
                return True
            yield [], self._gap(2.0)
        return False

    def _try(self, execution: Execution, step: Step, call: Call) -> Generator[Burst, None, str]:
        """One try from its start to its outcome."""
        random = self._random
        took_us = self._gap(step.seconds)
        yield [self._called("command.started", execution, call)], took_us
        if random() >= step.fails:
            done = self._called("call.done", execution, call, "COMPLETED", took_us)
            done.content = self._content()
            completed = self._called("command.completed", execution, call, "COMPLETED")
            yield [done, completed], self._gap(0.2)
            return "COMPLETED"
        error = _ERRORS[int(random() * len(_ERRORS))]
        if random() < 0.4:
            broken = self._called("call.error", execution, call, "FAILED", None, error)
            failed = self._called("command.failed", execution, call, "FAILED", None, error)
            yield [broken, failed], self._gap(0.2)
            return "FAILED"
        outcome = ("ERROR", "ERROR", "FAILED", "CANCELLED")[int(random() * 4)]
        done = self._called("call.done", execution, call, outcome, took_us, error)
        if random() < 0.3:
            yield [done, self._called("command.completed", execution, call, "FAILED")], 0
        else:
            failed = self._called("command.failed", execution, call, "FAILED", None, error)
            yield [done, failed], self._gap(0.2)
        return outcome

    def _call(
        self, execution: Execution, step: Step, command_id: str, attempts: int, index: int | None
    ) -> Call:
        named = execution.deployment.commands == "named"
        return Call(
            command_id=command_id,
            step=step.name,
            node_type=step.node_type,
            worker=f"worker-{execution.deployment.name}-{int(self._random() * 12)}",
            attempts=attempts,
            max_attempts=step.max_attempts,
            named=named,
            iteration=index if named else None,
            index=index or 0,
        )

    def _command_id(
        self, execution: Execution, step: Step, event_id: int, index: int | None
    ) -> str:
        if execution.deployment.commands != "named":
            return str(event_id)
        loop = "" if index is None else f":i{index}"
        return f"{execution.text}:{step.name}:{event_id}{loop}"

    def _fact(
        self,
        kind: str,
        execution: Execution,
        step: str,
        outcome: str = "",
        *,
        cause: int | None = None,
    ) -> Fact:
        minter: Minter = execution.minters[0]
        return Fact(
            kind=kind,
            execution=execution,
            step=step,
            at_us=self.now_us,
            event_id=minter.mint(self.now_us // 1000),
            outcome=outcome,
            caused_by=cause,
        )

    def _called(
        self,
        kind: str,
        execution: Execution,
        call: Call,
        outcome: str = "",
        took_us: int | None = None,
        error: str | None = None,
    ) -> Fact:
        minter: Minter = execution.minters[1]
        return Fact(
            kind=kind,
            execution=execution,
            step=call.step,
            at_us=self.now_us,
            event_id=minter.mint(self.now_us // 1000),
            outcome=outcome,
            attempts=call.attempts,
            call=call,
            worker=call.worker,
            node_type=call.node_type,
            duration_ms=None if took_us is None else took_us // 1000,
            error=error,
        )

    def _content(self) -> Content:
        drawn: Content = self._draw(self._random())
        return drawn

    def _gap(self, weight: float) -> int:
        """Microseconds until the next thing, on the average `weight` of the mean gap."""
        return int(-log(1.0 - self._random()) * self._mean_gap * weight)
