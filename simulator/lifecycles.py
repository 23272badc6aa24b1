"""Generates the facts of an execution in bursts. A burst has all the facts of one instant.

An execution is a generator that never sleeps. The caller sets the clock (`now_us`) and takes the
next burst, which also says how much time passes until the one after it. So one thread can
interleave thousands of executions.
"""

from collections.abc import Callable, Generator, Iterator
from itertools import count
from math import log
from random import Random

from simulator.error_texts import CUSTOM_EVENTS, ERRORS, WAYS_TO_FAIL
from simulator.facts import Burst, CommandTry, Fact, Payload, PlaybookRun
from simulator.mix import SECOND_US, Mix
from simulator.playbooks import Playbook, Step

StartChild = Callable[[PlaybookRun | None], tuple[PlaybookRun, Playbook]]
"""Begins an execution of some playbook. The argument is its parent."""

_EVENTS_A_GAP = 2.1
"""Measured: events per mean gap of an execution's life."""
_SAME_INSTANT_US = 11


class Lifecycles:
    """Generates executions, and holds their common state.

    That is the clock, the number of facts so far, and the mix.
    """

    def __init__(
        self, mix: Mix, random: Random, *, begin: StartChild, draw: Callable[[float], Payload]
    ) -> None:
        self.now_us = mix.start_us
        self._mix = mix
        self._random = random.random
        self._begin = begin
        self._draw = draw
        self._numbers = count(1)
        self._mean_gap = mix.in_flight / mix.rate * SECOND_US * _EVENTS_A_GAP

    def life(self, execution: PlaybookRun, playbook: Playbook) -> Iterator[Burst]:
        """Generate one execution, from its start to its end, or until it gets stuck."""
        random, mix = self._random, self._mix
        draw = random()
        ends_early = draw < mix.stuck + mix.cancelled
        cut = 3 + int(random() * 4 * len(playbook.steps)) if ends_early else 0
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
                if draw < mix.stuck:
                    return
                execution.outcome = "CANCELLED"
                break
            yield burst
        yield from self._end(execution, playbook, started.event_id)

    def _body(self, execution: PlaybookRun, playbook: Playbook, cause: int) -> Iterator[Burst]:
        yield [self._fact("workflow.started", execution, "workflow", cause=cause)], self._gap(0.2)
        if self._random() < self._mix.subscribed:
            yield from self._subscription(execution, playbook, cause)
        if self._random() < self._mix.custom:
            yield from self._custom(execution, playbook, cause)
        for step in playbook.steps:
            fine = yield from self._step(execution, step, cause)
            if not fine:
                execution.outcome = "FAILED"
                return
        execution.outcome = "COMPLETED"

    def _custom(self, execution: PlaybookRun, playbook: Playbook, cause: int) -> Iterator[Burst]:
        """Events with custom names."""
        for kind, outcome in CUSTOM_EVENTS:
            fact = self._fact(kind, execution, playbook.path, outcome, cause=cause)
            yield [fact], self._gap(0.1)

    def _subscription(
        self, execution: PlaybookRun, playbook: Playbook, cause: int
    ) -> Iterator[Burst]:
        """Generate deliveries. They count their own attempts, which aren't those of the event."""
        for kind in ("opened", "delivered", "delivered", "closed"):
            fact = self._fact(f"subscription.{kind}", execution, playbook.path, cause=cause)
            yield [fact], self._gap(0.3)

    def _end(self, execution: PlaybookRun, playbook: Playbook, cause: int) -> Iterator[Burst]:
        outcome = execution.outcome
        if outcome == "CANCELLED":
            ended = self._fact("playbook.cancelled", execution, playbook.path, outcome, cause=cause)
            yield [ended], self._gap(0.5)
            if execution.running is not None:
                call, execution.running = execution.running, None
                call.outcome = outcome
                yield [self._called("call.done", execution, call, "CANCELLED")], self._gap(0.1)
        else:
            word = "failed" if outcome == "FAILED" else "completed"
            workflow = self._fact(f"workflow.{word}", execution, "workflow", outcome, cause=cause)
            ended = self._fact(f"playbook.{word}", execution, playbook.path, outcome, cause=cause)
            yield [workflow, ended], self._gap(0.5)
        for call in execution.trailing:
            completed = self._called("command.completed", execution, call, "COMPLETED")
            yield [completed], self._gap(0.2)
        if self._random() < self._mix.contradicting:
            other = "COMPLETED" if outcome == "FAILED" else "FAILED"
            kind = f"playbook.{other.lower()}"
            yield [self._fact(kind, execution, playbook.path, other, cause=cause)], 0

    def _step(self, execution: PlaybookRun, step: Step, cause: int) -> Generator[Burst, None, bool]:
        """Run a step with its commands. Returns True if it ended well."""
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
        kind = "step.failed" if not fine and random() < 0.3 else "step.exit"
        outcome = "COMPLETED" if fine else "FAILED"
        left = self._fact(kind, execution, step.name, outcome, cause=entered.event_id)
        left.content = self._draw(self._random())
        yield [left], self._gap(0.1)
        if random() < self._mix.orchestrated:
            yield from self._orchestrate(execution)
        return fine

    def _orchestrate(self, execution: PlaybookRun) -> Iterator[Burst]:
        """The engine's own call between two steps, which no user wants to see."""
        step = Step(name="__orchestrate__", node_type="task", fails=0.0, seconds=0.1)
        minted = execution.minters[0].mint(self.now_us // 1000)
        call = self._call(execution, step, self._command_id(execution, step, minted, None), 0, None)
        call.outcome = "COMPLETED"
        done = self._called("call.done", execution, call, "COMPLETED", 5_000)
        done.content = self._draw(self._random())
        yield [done], self._gap(0.1)

    def _command(
        self, execution: PlaybookRun, step: Step, cause: int, index: int | None
    ) -> Generator[Burst, None, bool]:
        """Run a command with its tries. Returns True if the last one succeeded."""
        random = self._random
        command_id = ""
        for attempts in range(step.max_attempts):
            again = bool(attempts) and execution.deployment.numbered and random() < 0.5
            if again:
                call = self._call(execution, step, command_id, attempts, index)
            else:
                issued = self._fact("command.issued", execution, step.name, cause=cause)
                reissued = bool(attempts) and execution.deployment.reissues and random() < 0.5
                if not reissued:
                    command_id = self._command_id(execution, step, issued.event_id, index)
                call = self._call(execution, step, command_id, attempts, index)
                issued.call, issued.attempts, issued.node_type = call, attempts, step.node_type
                issued.content = self._draw(self._random())
                call.facts.append((issued.kind, issued.number))
                yield [issued], self._gap(0.8)
                yield [self._called("command.claimed", execution, call)], self._gap(0.1)
            outcome = yield from self._try(execution, step, call)
            if outcome == "COMPLETED":
                return True
            yield [], self._gap(2.0)
        return False

    def _try(
        self, execution: PlaybookRun, step: Step, call: CommandTry
    ) -> Generator[Burst, None, str]:
        """One try from its start to its outcome."""
        random = self._random
        took_us = self._gap(step.seconds)
        execution.running = call
        yield [self._called("command.started", execution, call)], took_us
        execution.running = None
        if random() < step.fails:
            return (yield from self._fail(execution, call, took_us))
        if execution.deployment.callbacks and random() < self._mix.callbacks:
            parked = self._called("command.completed", execution, call, "COMPLETED")
            parked.pending = True
            yield [parked], self._gap(1.0)
        call.outcome = "COMPLETED"
        done = self._called("call.done", execution, call, "COMPLETED", took_us)
        done.content = self._draw(self._random())
        if random() < self._mix.trailing:
            execution.trailing.append(call)
            yield [done], self._gap(0.2)
        else:
            completed = self._called("command.completed", execution, call, "COMPLETED")
            yield [done, completed], self._gap(0.2)
        return "COMPLETED"

    def _fail(
        self, execution: PlaybookRun, call: CommandTry, took_us: int
    ) -> Generator[Burst, None, str]:
        """Fail a try. The platform doesn't take it for completed, whatever its tool returned."""
        error = ERRORS[int(self._random() * len(ERRORS))]
        call.outcome, *reports = WAYS_TO_FAIL[int(self._random() * len(WAYS_TO_FAIL))]
        facts = []
        for kind, outcome in reports:
            took = took_us if kind == "call.done" else None
            said = None if "COMPLETED" in {outcome, kind.partition(".")[2].upper()} else error
            facts.append(self._called(kind, execution, call, outcome, took, error=said))
        yield facts, self._gap(0.2)
        return call.outcome

    def _call(
        self, execution: PlaybookRun, step: Step, command_id: str, attempts: int, index: int | None
    ) -> CommandTry:
        named = execution.deployment.commands == "named"
        call = CommandTry(
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
        execution.calls.append(call)
        return call

    def _command_id(
        self, execution: PlaybookRun, step: Step, event_id: int, index: int | None
    ) -> str:
        if execution.deployment.commands != "named":
            return str(event_id)
        loop = "" if index is None else f":i{index}"
        return f"{execution.text}:{step.name}:{event_id}{loop}"

    def _fact(
        self,
        kind: str,
        execution: PlaybookRun,
        step: str,
        outcome: str = "",
        *,
        cause: int | None = None,
    ) -> Fact:
        """A fact of the server."""
        fact = Fact(
            number=next(self._numbers),
            kind=kind,
            execution=execution,
            step=step,
            at_us=self.now_us + int(self._random() * 2) * _SAME_INSTANT_US,
            event_id=execution.minters[0].mint(self.now_us // 1000),
            outcome=outcome,
            caused_by=cause,
        )
        execution.facts.append((kind, step, fact.number))
        return fact

    def _called(
        self,
        kind: str,
        execution: PlaybookRun,
        call: CommandTry,
        outcome: str = "",
        took_us: int | None = None,
        *,
        error: tuple[str, str] | None = None,
    ) -> Fact:
        """A fact of a worker."""
        fact = Fact(
            number=next(self._numbers),
            kind=kind,
            execution=execution,
            step=call.step,
            at_us=self.now_us + int(self._random() * 2) * _SAME_INSTANT_US,
            event_id=execution.minters[1].mint(self.now_us // 1000),
            outcome=outcome,
            attempts=call.attempts,
            call=call,
            worker=call.worker,
            node_type=call.node_type,
            duration_ms=None if took_us is None else took_us // 1000,
            error=error,
        )
        call.facts.append((kind, fact.number))
        return fact

    def _gap(self, weight: float) -> int:
        """Microseconds until the next fact, on average `weight` times the mean gap."""
        return int(-log(1.0 - self._random()) * self._mean_gap * weight)
