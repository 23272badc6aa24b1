"""The texts, tests, and promises that the mutants of `make promises` name exist."""

import pytest

from tests.promises.mutant_runs import ROOT, files_with
from tests.promises.mutants import MUTANTS, STAY_GREEN, Mutant

_PAGE = (ROOT / "docs" / "guarantees.md").read_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_a_text_that_is_there_once_and_names_its_promise(mutant: Mutant) -> None:
    for change in mutant.changes:
        assert (ROOT / change.path).read_text().count(change.old) == 1, change.old
    assert f"\n## {mutant.promise}\n" in _PAGE


def test_every_test_that_a_mutant_names_is_there() -> None:
    named = {*STAY_GREEN, *(mutant.test for mutant in MUTANTS)}

    assert named - files_with(named).keys() == set()


def test_an_assertion_that_a_mutant_names_is_in_its_test() -> None:
    files = files_with({mutant.test for mutant in MUTANTS})
    named = [mutant for mutant in MUTANTS if mutant.fails.startswith("assert ")]

    assert [
        mutant.name
        for mutant in named
        if mutant.fails not in (ROOT / files[mutant.test]).read_text()
    ] == []
