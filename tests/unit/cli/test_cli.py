"""The command line without any I/O but its own: the filter, the schema, the settings, the help."""

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from normalizer.cli import main
from normalizer.cli.offline_commands import normalize_lines
from normalizer.core.normalize import Normalizer
from normalizer.files.record_lines import (
    MAX_LINE_BYTES,
    parse_record_line,
    read_numbered_line_pages,
)
from projector.cli.repair_command import _repair_request
from projector.cli.scope_options import parse_duration, parse_scope

GOOD = '{"execution_id":"7","name":"call.done","step":"s","payload":{}}'


def run(*arguments: str, given: str | bytes = "", **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, input=given, env=environ)


OUT_OF_PLACE = "apply only to a relay that reads KAFKA_TOPICS"
SECRET_URL = "postgresql://u:hunter2@127.0.0.1:1/n"
COMMANDS = [
    # arguments, input, variables, exit code, words of the output
    ("run --processes 2 --accept-reset", "", {}, 2, ["--accept-reset can't be used with several"]),
    ("relay --from-postgres --accept-reset", "", {}, 2, [OUT_OF_PLACE]),
    ("relay --from-postgres --accept-shapes", "", {}, 2, [OUT_OF_PLACE]),
    ("relay --unregister --accept-reset", "", {}, 2, [OUT_OF_PLACE]),
    (
        "run", "", {"DATABASE_URL": SECRET_URL, "KAFKA_BOOTSTRAP_SERVERS": "sasl://u:hunter2@b"}, 2,
        ["KAFKA_BOOTSTRAP_SERVERS: expected host:port"],
    ),
    (
        "run", "", {"NORMALIZER_BATCH_ROWS": "none", "KAFKA_SASL_MECHANISM": "x"}, 2,
        ["KAFKA_SASL_MECHANISM:", "NORMALIZER_BATCH_ROWS:", "DATABASE_URL:",
         "KAFKA_BOOTSTRAP_SERVERS:"],
    ),
    (
        "config", "", {"DATABASE_URL": SECRET_URL, "NORMALIZER_BATCH_ROW": "1"}, 0,
        ["DATABASE_URL=postgresql://u:***@127.0.0.1:1/n", "did you mean NORMALIZER_BATCH_ROWS?"],
    ),
    ("explain t:1", "", {"DATABASE_URL": SECRET_URL}, 2, ["expected TOPIC:PARTITION:OFFSET"]),
    ("normalize --strict", GOOD, {}, 0, []),
    ("normalize --strict", f"{GOOD}\n{{\n", {}, 1, []),
    ("normalize --strict", "", {}, 0, []),
    ("normalize --strict", "\n", {}, 0, []),
    (
        "normalize", GOOD.replace("{}", '{"iban":"hunter2"}'), {"NORMALIZER_REDACT_KEYS": "iban"},
        0, ['"iban":"[REDACTED]"'],
    ),
    (
        "normalize", GOOD, {"NORMALIZER_SHAPES": "{folder}/shapes.toml"}, 2,
        ["error: NORMALIZER_SHAPES: {folder}/shapes.toml: Expected object of length >= 1"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("command", "given", "environ", "code", "words"), COMMANDS)
def test_a_command_ends_with_its_code_and_says_why_without_a_secret(
    command: str, given: str, environ: dict[str, str], code: int, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "shapes.toml").write_text("[shapes]")
    variables = {name: value.format(folder=tmp_path) for name, value in environ.items()}

    result = run(*command.split(), given=given, **variables)

    found = [result.output.find(one.format(folder=tmp_path)) for one in words]
    assert (result.exit_code, -1 in found, found) == (code, False, sorted(found)), result.output
    assert "hunter2" not in result.output


def test_an_event_comes_out_canonical_without_what_it_did_not_bring() -> None:
    result = run("normalize", given=GOOD)

    assert result.exit_code == 0
    assert result.output == (
        '{"execution_id":7,"event_type":"call.done","step":"s","status":"COMPLETED","context":{},'
        '"worker_id":null,"meta":{"attempts":0}}\n'
    )


def test_a_rejected_record_gives_a_line_with_its_number() -> None:
    result = run("normalize", given=f"{GOOD}\n\n[1]\n{GOOD}\n")

    first, refused, last = map(json.loads, result.output.splitlines())
    assert result.exit_code == 0
    assert first == last
    assert refused["quarantine"]["line"] == 3
    assert refused["quarantine"]["reason"] == "not_an_event"
    assert refused["quarantine"].keys() == {"line", "reason", "detail"}


@pytest.mark.parametrize(
    ("damage", "code", "why"),
    [
        (lambda packed: packed[:-9], 1, "is truncated"),
        (lambda packed: packed[:20] + b"????" + packed[24:], 3, "its gzip data is damaged"),
    ],
)
def test_a_packed_file_that_is_not_whole_does_not_pass_for_one(
    tmp_path: Path, damage: Callable[[bytes], bytes], code: int, why: str
) -> None:
    path = tmp_path / "raw.ndjson.gz"
    path.write_bytes(damage(gzip.compress(f"{GOOD}\n".encode() * 100, mtime=0)))

    result = run("normalize", str(path))

    assert result.exit_code == code
    assert why in result.stderr


def test_a_line_of_any_length_costs_itself_at_most() -> None:
    huge = b'{"execution_id":"7","name":"x","payload":"' + b"x" * (12 << 20) + b'"}'
    sink = io.BytesIO()

    refused = normalize_lines(io.BytesIO(huge + b"\n" + GOOD.encode()), sink, Normalizer())

    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert refused == 1
    assert lines[0]["quarantine"]["reason"] == "too_large"
    assert lines[1]["execution_id"] == 7


def test_a_line_of_kcat_gets_a_hint() -> None:
    kcat = {"topic": "t", "partition": 0, "offset": 5, "key": "7", "payload": GOOD}

    result = run("normalize", given=json.dumps(kcat).encode())

    (refused,) = map(json.loads, result.output.splitlines())
    assert refused["quarantine"]["reason"] == "not_an_event"
    assert "`kcat -J`" in refused["quarantine"]["detail"]
    assert "normalizer backfill file" in refused["quarantine"]["detail"]


def test_a_file_is_read_packed_or_not(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.ndjson", tmp_path / "a.ndjson.gz"
    plain.write_text(GOOD)
    packed.write_bytes(gzip.compress(GOOD.encode()))

    assert run("normalize", str(plain)).output == run("normalize", str(packed)).output != ""


def test_read_records_are_written_before_waiting_for_more() -> None:
    filtering = subprocess.Popen(
        [sys.executable, "-m", "normalizer", "normalize"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert filtering.stdin
    assert filtering.stdout
    with filtering:
        filtering.stdin.write(GOOD.encode() + b"\n")
        filtering.stdin.flush()
        assert json.loads(filtering.stdout.readline())["execution_id"] == 7
        filtering.stdin.close()
        assert filtering.wait(timeout=10) == 0


def test_a_reader_that_has_enough_ends_the_filter_quietly() -> None:
    filtering = subprocess.Popen(
        [sys.executable, "-m", "normalizer", "normalize"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert filtering.stdin
    assert filtering.stdout
    assert filtering.stderr
    filtering.stdout.close()
    with pytest.raises(BrokenPipeError):  # noqa: PT012 - the pipe breaks when it breaks
        while True:
            filtering.stdin.write(GOOD.encode() + b"\n")
            filtering.stdin.flush()
    assert filtering.wait(timeout=10) == 0
    assert filtering.stderr.read() == b""
    filtering.stderr.close()
    with pytest.raises(BrokenPipeError):
        filtering.stdin.close()


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (("export",), "--execution ID "),
        (("quarantine", "redrive"), "--id ID "),
        (("conform",), "--within SECONDS "),
        (("up",), "--for SECONDS "),
    ],
)
def test_help_shows_what_an_option_takes(path: tuple[str, ...], shown: str) -> None:
    assert f"  {shown}" in run(*path, "--help").output


def test_a_long_line_is_cut_by_one_byte_too_many() -> None:
    stream = io.BufferedReader(io.BytesIO(b"x" * (MAX_LINE_BYTES + 99) + b"\ny"))

    (first, second) = [line for page in read_numbered_line_pages(stream) for line in page]
    assert len(first[1]) == MAX_LINE_BYTES
    assert second == (2, b"y")


def test_a_line_of_kcat_keeps_its_coordinates() -> None:
    line = (
        b'{"topic":"t","partition":2,"offset":9,"tstype":"create","ts":5,"headers":["h","v","n",'
        b'null],"key":"k","payload":"{}"}'
    )

    record = parse_record_line(line, 1, "file:x")

    assert (record.topic, record.partition, record.offset, record.recorded_ms) == ("t", 2, 9, 5)
    assert (record.key, record.value) == (b"k", b"{}")
    assert record.headers == (("h", b"v"), ("n", None))


@pytest.mark.parametrize(
    "line",
    [
        b'{"topic":"t"}',
        b'{"topic":"t","partition":0,"offset":0}',
        b'{"topic":"t","partition":-1,"offset":0,"payload":""}',
        b'{"topic":"t","partition":0,"offset":0,"payload_b64":"?"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_any_other_line_is_a_value_at_its_number(line: bytes) -> None:
    record = parse_record_line(line, 7, "file:x")

    assert (record.topic, record.offset, record.value) == ("file:x", 7, line)


@pytest.mark.parametrize(
    "span", ["999999d", "99999999999999999999m", "0", "1w", "-1h", "१d", "0d", ""]
)
def test_a_span_that_reaches_beyond_the_calendar_is_none(span: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a length of time"):
        parse_duration(span)


@pytest.mark.parametrize(
    "bounds",
    [
        ("0001-01-01T00:00+05:00", None, None),
        (None, "9999-12-31T23:30", None),
        (None, "9999-12-31T23:30-05:00", None),
        ("2026-02-30", None, None),
    ],
)
def test_a_time_that_is_beyond_the_calendar_is_none(
    bounds: tuple[str | None, str | None, str | None],
) -> None:
    with pytest.raises(click.BadParameter, match="is not a time"):
        parse_scope(*bounds, None, None)


def test_hours_in_the_wrong_order_are_rejected_without_options_that_repair_lacks() -> None:
    with pytest.raises(click.UsageError) as raised:
        _repair_request(
            ("2026-07-01T09:00", "2026-07-01T08:00"),
            executions=False, hours=True, counters=False, all_=False,
        )  # fmt: skip

    assert "2026-07-01T08:00" in str(raised.value)
    assert "--" not in str(raised.value)


def test_bounds_are_rounded_outwards_to_hours() -> None:
    scope = parse_scope("2026-07-01T09:59", "2026-07-01T10:00:00.000001", None, None, None)

    assert (scope.since.hour, scope.until.hour, scope.since.minute, scope.until.minute) == (
        9, 11, 0, 0,
    )  # fmt: skip
    assert parse_scope(None, None, "99999d", None, None).since.year > 1_700
