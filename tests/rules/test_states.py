"""docs/states.md names the states and faults that the code has."""

import re
from typing import get_args

from normalizer.consumer.partition_state import STATE_TRANSITIONS, PartitionEvent, PartitionState
from normalizer.consumer.suspects import (
    BLAMED_RECORD_WAIT_S,
    MAX_SLICE_RECORDS,
    RECORDS_UNTIL_CLEARED,
    SLICE_SPLIT_PARTS,
)
from normalizer.jobs.engine.job_run import RunState
from normalizer.observability.metric_catalog import PARTITION_STATES
from normalizer.runtime.backoff import INITIAL_BACKOFF_S, MAX_BACKOFF_S
from normalizer.store.sqlstate import ErrorCause
from normalizer.store.write_retry import TRIES_BEFORE_HALVING
from tests.support.doc_pages import DOCS, blocks

CLAIM, SUSPECT, JOB, BATCH = (block.text for block in blocks("states.md", "mermaid"))


def _states(diagram: str) -> set[str]:
    return set(re.findall(r"\b[a-z_]+\b(?= -->)|(?<=--> )[a-z_]+", diagram))


def test_the_diagram_of_a_partition_has_the_transitions_of_the_code() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+|\[\*\]): (\w+)", CLAIM, re.MULTILINE)
    coded = [
        (state, "[*]" if event is PartitionEvent.REVOKE else after, event)
        for state, transitions in STATE_TRANSITIONS.items()
        for event, after in transitions.items()
    ]

    assert sorted(drawn) == sorted(coded)


def test_every_state_of_a_partition_is_counted() -> None:
    assert tuple(PartitionState) == PARTITION_STATES


def test_a_job_has_the_states_of_its_table_and_interrupted() -> None:
    assert _states(JOB) == {*get_args(RunState), "interrupted"}


def test_every_fault_of_the_database_leads_somewhere() -> None:
    named = set(re.findall(r"^    writing --> \w+: (\w+),", BATCH, re.MULTILINE))

    assert {fault.value for fault in ErrorCause} <= named


def test_every_state_is_explained() -> None:
    explained = re.findall(r"^\| ([a-z_]+) \|", (DOCS / "states.md").read_text(), re.MULTILINE)

    for diagram in (CLAIM, SUSPECT, JOB, BATCH):
        assert _states(diagram) <= set(explained)


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"after {INITIAL_BACKOFF_S} s, then up to {MAX_BACKOFF_S:.0f} s" in BATCH
    assert TRIES_BEFORE_HALVING == 3
    assert BATCH.count("three failures") == 2
    assert f"twice as many records, {MAX_SLICE_RECORDS} at most" in SUSPECT
    assert f"{RECORDS_UNTIL_CLEARED:,} records are committed" in SUSPECT
    assert (SLICE_SPLIT_PARTS, BLAMED_RECORD_WAIT_S) == (64, 2.0)
