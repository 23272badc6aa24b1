"""Spelling classes: one thing under all the names its producers give it."""

from itertools import combinations

import pytest

from deploy.calls import ROLES
from normalizer.core.rules.event_types import EVENT_TYPE_SPELLINGS, event_class
from simulator.view_fold import LIFECYCLE
from tests.support.event_kinds import EVENT_KINDS, list_spellings

# The table of rule E2 in docs/spec/wire-shapes.md.
STATED = (
    "playbook.initialized|playbook_initialized|playbook.started|playbook_started"
    "|execution.started|execution_start|execution.start|execution_started; "
    "playbook.completed|playbook_completed|execution.completed|execution_complete"
    "|execution_completed; "
    "playbook.failed|playbook_failed|execution.failed|execution_error|execution_failed; "
    "playbook.cancelled|playbook_cancelled|execution.cancelled|execution_cancelled; "
    "step.enter|step_enter|step_started|step.start|step_start; "
    "step.exit|step_completed|step_complete; "
    "step.failed|step_failed; "
    "step.skipped|step_skipped; "
    "command.issued|command_issued; "
    "command.claimed|command_claimed; "
    "command.started|action_started|command_started; "
    "command.completed|action_completed; "
    "command.failed|action_failed|command.timed_out|command.timeout; "
    "call.done|action_done|call_done"
)
CLASSES = [one.split("|") for one in STATED.split("; ")]


@pytest.mark.parametrize("spellings", CLASSES, ids=lambda spellings: spellings[0])
def test_every_spelling_is_of_the_class_that_its_first_one_names(spellings: list[str]) -> None:
    assert {event_class(spelling) for spelling in spellings} == {spellings[0]}


def test_the_classes_are_those_of_the_spec_and_no_word_is_in_two() -> None:
    assert [list(spellings) for spellings in EVENT_TYPE_SPELLINGS] == CLASSES
    assert all(not set(a) & set(b) for a, b in combinations(CLASSES, 2))


@pytest.mark.parametrize("word", ["started", "completed", "a.b", "x_y", ""])
def test_workflow_words_are_one_class_with_a_dot_or_an_underscore(word: str) -> None:
    assert event_class(f"workflow_{word}") == event_class(f"workflow.{word}") == f"workflow.{word}"


@pytest.mark.parametrize(
    "word", ["call.error", "workflow", "workflowx", "Call.Done", "step", "", "command.claimed"]
)
def test_any_other_word_is_a_class_of_its_own(word: str) -> None:
    assert event_class(word) == word


def test_a_kind_is_reported_in_every_spelling_of_its_class() -> None:
    spellings = {kind.event_class: list_spellings(kind) for kind in EVENT_KINDS}

    assert spellings["call.done"] == ("call.done", "action_done", "call_done")
    assert spellings["call.error"] == ("call.error",)


def test_the_plain_fold_of_the_projections_knows_every_spelling_of_every_kind() -> None:
    lifecycle = [kind for kinds in LIFECYCLE.values() for kind in kinds]

    assert sorted([*lifecycle, *ROLES]) == sorted(
        spelling for kind in EVENT_KINDS for spelling in list_spellings(kind)
    )
