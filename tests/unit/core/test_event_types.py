"""Spelling classes: one thing under all the names its producers give it."""

from collections.abc import Sequence

import pytest

from deploy.calls import ROLES
from normalizer.core.rules.event_types import EVENT_TYPE_SPELLINGS, event_class
from simulator.view_fold import LIFECYCLE
from tests.support.event_kinds import EVENT_KINDS, list_spellings


@pytest.mark.parametrize("spellings", EVENT_TYPE_SPELLINGS, ids=lambda spellings: spellings[0])
def test_every_spelling_is_of_the_class_that_its_first_one_names(spellings: Sequence[str]) -> None:
    assert {event_class(spelling) for spelling in spellings} == {spellings[0]}


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
