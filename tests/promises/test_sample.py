"""The tests kill as many mutants of a fixed sample as before they were cut."""

import os

import pytest

from tests.promises.sample import DRAWN_FROM, answers, commit_now, drawn
from tests.support.results import PrintLine, write_results


@pytest.mark.soak
@pytest.mark.timeout(24 * 3600)
def test_as_many_mutants_of_the_sample_are_killed_as_before_the_cut(say: PrintLine) -> None:
    sites = drawn()[: int(os.environ.get("MUTANTS", "20"))]

    now = [answer for answer in answers(commit_now(), sites) if answer.is_there]
    before = list(answers(DRAWN_FROM, [answer.site for answer in now]))

    figures = {
        "there": len(now),
        "killed before the cut": sum(one.killed_by is not None for one in before),
        "killed now": sum(one.killed_by is not None for one in now),
    }
    say(str(figures))
    write_results("mutants", 'make soak ARGS="-k mutants_of_the_sample"', figures)
    both = zip(before, now, strict=True)
    lost = [new.site for old, new in both if old.killed_by and not new.killed_by]
    assert figures["killed now"] >= figures["killed before the cut"], lost
