"""The options of jobs: what is out of range is rejected before anything begins."""

import shlex

import click
import pytest
from click.testing import CliRunner

from normalizer.cli import main
from normalizer.cli.job_options import options_from_selection, parse_time, to_kafka_timestamp_ms
from normalizer.jobs.sources.topic_source import TopicRange
from projector.cli import main as projector

ID = str(1 << 63)
SMALL = str(1 << 31)


NO_RANGE = "is not in the range"
NO_PLACE = "expected TOPIC:PARTITION:OFFSET"
NO_PATH = "expected a path, got an empty string"
SWAPPED = "--from-time must be before --to-time"
REJECTED = [
    # program, arguments, words of the output
    # A job would wait forever for a row to be stored whose number no column holds.
    (main, f"backfill file / --incarnation {SMALL}", NO_RANGE),
    (main, f"backfill topic a --partition {SMALL}", NO_RANGE),
    (main, f"backfill topic a --from-offset {ID}", NO_RANGE),
    (main, f"backfill topic a --to-offset {ID}", NO_RANGE),
    (main, f"explain a:0:0 --incarnation {SMALL}", NO_RANGE),
    (main, f"export - --execution {ID}", NO_RANGE),
    (main, "export - --execution 0", NO_RANGE),
    (main, f"jobs --limit {SMALL}", NO_RANGE),
    (main, f"position rewind a:0 --why w --offset {ID}", NO_RANGE),
    (main, f"quarantine list --limit {SMALL}", NO_RANGE),
    (main, f"quarantine redrive --id {ID}", NO_RANGE),
    (main, f"quarantine redrive --limit {SMALL}", NO_RANGE),
    (main, f"quarantine redrive --version {SMALL}", NO_RANGE),
    (main, f"quarantine show {ID}", NO_RANGE),
    (main, "quarantine show 0", NO_RANGE),
    (main, "export - --since 1h", "It has --execution, --format, --from-time, --help, --to-time."),
    (main, "quarantine redrive --where 1", "--from-time, --help, --id, --limit"),
    (projector, "wait noetl.events", NO_PLACE),
    (projector, "wait a:9999999999:0", NO_PLACE),
    (projector, f"wait a:0:{ID}", NO_PLACE),
    (projector, "wait a:0:0 --timeout nan", NO_RANGE),
    (projector, f"repair --executions 7 {ID}", "integer of 64 bits"),
    # A path of nothing is not the current folder.
    (main, "up --folder ''", NO_PATH),
    (main, "export ''", NO_PATH),
    (main, "renormalize --dry-run --changes ''", NO_PATH),
    (projector, "maintain --archive ''", NO_PATH),
    *(
        (main, f"{command} {number}", NO_RANGE)
        for command in ("up --for", "up --rate", "backfill file / --max-rate")
        for number in ("nan", "inf", "-inf", "-1")
    ),
    # A range whose ends were swapped is no success.
    *(
        (main, f"{command} --from-time 2026-01-01 --to-time {after}", SWAPPED)
        for command in ("backfill topic a", "export -", "quarantine redrive", "renormalize")
        for after in ("2026-01-01", "2025-12-31")
    ),
    (
        main,
        "backfill topic a --from-offset 5 --to-offset 5",
        "--from-offset must be before --to-offset",
    ),
]


@pytest.mark.parametrize(("program", "command", "said"), REJECTED, ids=[one[1] for one in REJECTED])
def test_options_out_of_range_are_rejected_before_anything_begins(
    program: click.Group, command: str, said: str
) -> None:
    result = CliRunner().invoke(program, shlex.split(command), env={"DATABASE_URL": ""})

    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize("text", ["0001-01-01", "1969-12-31T23:59:59.999Z", "1970-01-01"])
def test_every_time_before_the_first_of_kafka_is_the_first(text: str) -> None:
    assert to_kafka_timestamp_ms(parse_time(text)) == 0


def test_an_option_of_nought_makes_another_job_and_an_absent_one_does_not() -> None:
    assert options_from_selection(TopicRange(from_ms=0, to_offset=0)) == {
        "from_ms": "0",
        "to_offset": "0",
    }
    assert options_from_selection(TopicRange()) == {}
