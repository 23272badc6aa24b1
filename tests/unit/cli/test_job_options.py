"""The options of jobs: what is out of range is rejected before anything begins."""

import click
import pytest
from click.testing import CliRunner

from normalizer.cli import main
from normalizer.cli.job_options import epoch_ms, parse_time, selection_texts
from normalizer.jobs.sources.topic_source import TopicRange
from projector.cli import main as projector

ID = str(1 << 63)
SMALL = str(1 << 31)


@pytest.mark.parametrize(
    "arguments",
    [
        ("backfill", "file", "/", "--incarnation", SMALL),
        ("backfill", "topic", "a", "--partition", SMALL),
        ("backfill", "topic", "a", "--from-offset", ID),
        ("backfill", "topic", "a", "--to-offset", ID),
        ("explain", "a:0:0", "--incarnation", SMALL),
        ("export", "-", "--execution", ID),
        ("jobs", "--limit", SMALL),
        ("position", "rewind", "a:0", "--why", "w", "--offset", ID),
        ("quarantine", "list", "--limit", SMALL),
        ("quarantine", "redrive", "--id", ID),
        ("quarantine", "redrive", "--limit", SMALL),
        ("quarantine", "redrive", "--version", SMALL),
        ("quarantine", "show", ID),
    ],
    ids=" ".join,
)
def test_a_number_that_no_column_holds_is_rejected(arguments: tuple[str, ...]) -> None:
    """A job would wait forever for its rows to be stored."""
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 2
    assert "is not in the range" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("wait", "noetl.events"), "expected TOPIC:PARTITION:OFFSET"),
        (("wait", "a:9999999999:0"), "expected TOPIC:PARTITION:OFFSET"),
        (("wait", f"a:0:{ID}"), "expected TOPIC:PARTITION:OFFSET"),
        (("wait", "a:0:0", "--timeout", "nan"), "is not in the range"),
        (("repair", "--executions", "7", ID), "at most 64 bits"),
    ],
)
def test_the_projector_refuses_such_a_number_too(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(projector, arguments)

    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (main, ("up", "--folder", "")),
        (main, ("export", "")),
        (main, ("renormalize", "--dry-run", "--changes", "")),
        (projector, ("maintain", "--archive", "")),
    ],
)
def test_a_path_of_nothing_is_not_the_current_folder(
    program: click.Group, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)

    result = CliRunner().invoke(program, arguments)

    assert result.exit_code == 2
    assert "expected a path, got an empty string" in result.output


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--for"),
        ("up", "--rate"),
        ("backfill", "file", "/", "--max-rate"),
    ],
    ids=" ".join,
)
def test_a_time_or_rate_that_is_none_is_rejected(arguments: tuple[str, ...], number: str) -> None:
    result = CliRunner().invoke(main, [*arguments, number])

    assert result.exit_code == 2
    assert "is not in the range" in result.output


@pytest.mark.parametrize("after", ["2026-01-01", "2025-12-31"])
@pytest.mark.parametrize(
    "command",
    [("backfill", "topic", "a"), ("export", "-"), ("quarantine", "redrive"), ("renormalize",)],
    ids=" ".join,
)
def test_a_range_whose_ends_were_swapped_is_no_success(
    command: tuple[str, ...], after: str
) -> None:
    times = ("--from-time", "2026-01-01", "--to-time", after)

    result = CliRunner().invoke(main, [*command, *times], env={"DATABASE_URL": ""})

    assert result.exit_code == 2
    assert "--from-time must be before --to-time" in result.output


def test_swapped_offsets_are_rejected() -> None:
    offsets = ("--from-offset", "5", "--to-offset", "5")

    result = CliRunner().invoke(main, ["backfill", "topic", "a", *offsets])

    assert result.exit_code == 2
    assert "--from-offset must be before --to-offset" in result.output


@pytest.mark.parametrize("text", ["0001-01-01", "1969-12-31T23:59:59.999Z", "1970-01-01"])
def test_every_time_before_the_first_of_kafka_is_the_first(text: str) -> None:
    assert epoch_ms(parse_time(text)) == 0


def test_an_option_of_nought_makes_another_job_and_an_absent_one_does_not() -> None:
    assert selection_texts(TopicRange(from_ms=0, to_offset=0)) == {"from_ms": "0", "to_offset": "0"}
    assert selection_texts(TopicRange()) == {}
