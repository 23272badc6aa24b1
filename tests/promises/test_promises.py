"""Each promise is seen to break: `make promises` adds rows to docs/results.csv."""

from pathlib import Path

import pytest

from tests.promises.mutant_runs import apply, complaints, copy_tree, restore, run_tests
from tests.promises.mutants import MUTANTS, STAY_GREEN
from tests.support.results import PrintLine, write_results
from tests.support.stack import Cluster


@pytest.mark.soak
@pytest.mark.timeout(1_800)
async def test_every_mutant_fails_by_its_own_assertion_and_nothing_else_does(
    cluster: Cluster, tmp_path: Path, say: PrintLine
) -> None:
    copy_tree(tmp_path)
    server = cluster.server.superuser_url
    named = {mutant.test for mutant in MUTANTS}
    whole = run_tests(tmp_path, {*named, *STAY_GREEN}, server)
    assert {name: reports for name, reports in whole.failures.items() if reports} == {}
    say(f"without a mutant all {len(whole.failures)} tests pass ({whole.took_s:.0f} s)")

    figures: dict[str, object] = {
        "none": f"- | all {len(whole.failures)} pass | - | {whole.took_s:.0f}"
    }
    wrong: dict[str, list[str]] = {}
    for mutant in MUTANTS:
        before = apply(tmp_path, mutant.changes)
        try:
            run = run_tests(tmp_path, {mutant.test, *STAY_GREEN}, server)
        finally:
            restore(before)
        if found := complaints(mutant, run, STAY_GREEN):
            wrong[mutant.name] = [*found, run.output]
        say(f"{mutant.name}: {'; '.join(found) or 'red'} ({run.took_s:.0f} s)")
        by = f"`{mutant.test}` | `{mutant.fails}`"
        figures[mutant.name] = f"{mutant.promise} | {by} | {run.took_s:.0f}"

    assert wrong == {}
    write_results(
        "promises", "make promises", figures, columns=("promise", "fails", "by", "seconds")
    )
