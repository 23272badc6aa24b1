"""The commands that need no server: normalize, schema, conform, and config."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import contextlib
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import msgspec

from normalizer.cli import conformance
from normalizer.cli.exit_on_error import (
    build_normalizer_or_exit,
    exit_with_error,
    load_settings_or_exit,
)
from normalizer.cli.job_options import SECONDS_TYPE
from normalizer.config import environment
from normalizer.core.json_schema import json_schema
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Ignored, Rejected, to_canonical
from normalizer.errors import ConfigurationError, NormalizerError
from normalizer.files.decompressed_file import DecompressedFile
from normalizer.files.record_lines import ByteStream, parse_record_line, read_numbered_line_pages
from normalizer.runtime.command_line import discard_further_output, warn_unknown_variables
from normalizer.runtime.exit_codes import PROBLEM_FOUND


@click.command()
@click.argument("file", default="-", type=click.Path(exists=True, allow_dash=True, dir_okay=False))
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with code 1 if a record was rejected, for example to fail a CI job. By default, the "
    "exit code is 0 even if records were rejected.",
)
def normalize(*, file: str, strict: bool) -> None:
    """Turn raw records into canonical events, one per line.

    \b
    echo '{"execution_id":"7","name":"call.done","step":"s","payload":{}}' | normalizer normalize
    normalizer normalize --strict records.ndjson.gz > events.ndjson

    Use it to try the rules on records of your own, or in a pipe. For a rejected record it writes
    {"quarantine":{"line":N,"reason":CODE,"detail":TEXT}} instead of an event. Blank lines are
    skipped. NORMALIZER_REDACT_KEYS and NORMALIZER_SHAPES apply. The exit code is 0 even if records
    were rejected, unless you add --strict, and 1 if a compressed file is truncated.
    """
    normalizer = build_normalizer_or_exit(load_settings_or_exit())
    with contextlib.ExitStack() as opened:
        try:
            source: Any = (
                sys.stdin.buffer
                if file == "-"
                else opened.enter_context(DecompressedFile.open(Path(file)))
            )
            rejected = normalize_lines(source, sys.stdout.buffer, normalizer)
        except BrokenPipeError:
            discard_further_output()
            return
        except NormalizerError as error:
            exit_with_error(error)
        if file != "-" and source.cut:
            click.echo(f"error: {file} is truncated", err=True)
            raise SystemExit(PROBLEM_FOUND)
    raise SystemExit(PROBLEM_FOUND if strict and rejected else 0)


@click.command()
def schema() -> None:
    """Print the JSON Schema of a canonical event.

    \b
    normalizer schema > event.schema.json
    """
    click.echo(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2))


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--level",
    type=click.Choice(conformance.CONFORMANCE_LEVELS),
    default="lines",
    show_default=True,
    help="How much of the contract to test. 'lines' tests that the program returns canonical "
    "events unchanged. 'shapes' also tests that it turns a raw event of any producer into a "
    "canonical one, or rejects it for the right reason. 'rules' also tests everything else that "
    "`normalizer normalize` does. For example, it corrects a status that contradicts the result, "
    "removes secrets, and splits batches.",
)
@click.option(
    "--show",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Print at most this many of the cases that differ.",
)
@click.option(
    "--within",
    type=SECONDS_TYPE,
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Kill the program if it's still running after this many seconds.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def conform(
    *, level: conformance.ConformanceLevel, show: int, within: float, command: tuple[str, ...]
) -> None:
    """Test another program against the contract in contract/.

    \b
    normalizer conform -- cat
    normalizer conform --level shapes -- ./my-filter --ndjson
    normalizer conform --level rules -- normalizer normalize

    Use it if you've written a filter in another language. The program has to read raw or canonical
    events on standard input, one per line, write a canonical event for each, and exit with 0 when
    its input ends. Instead of a rejected event it writes {"quarantine":{"reason":CODE,...}}. Lines
    that differ from the expected ones are printed, and the exit code is then 1.
    """
    cases = conformance.read_cases(level)
    try:
        mismatches, failure = conformance.run_program(command, cases, within_s=within)
    except ConfigurationError as error:
        exit_with_error(error)
    unanswered = [mismatch for mismatch in mismatches if not mismatch.answered]
    for mismatch in mismatches[: min(show, len(mismatches) - len(unanswered))]:
        click.echo("\n".join(conformance.format_mismatch(mismatch)))
    click.echo(f"{len(cases) - len(mismatches)} of {len(cases)} the same, up to level {level}")
    if failure:
        click.echo(f"{command[0]} {failure}")
    if unanswered and show:
        click.echo(
            f"It wrote nothing for the last {len(unanswered)} lines. This was the first, unless it "
            "read on before it flushed its output:"
        )
        click.echo("\n".join(conformance.format_mismatch(unanswered[0])))
    raise SystemExit(PROBLEM_FOUND if mismatches or failure else 0)


@click.command()
def config() -> None:
    """Print every setting with its meaning, default, and value. Secrets are masked.

    \b
    normalizer config
    normalizer config > normalizer.env
    """
    click.echo(environment.format_settings_as_env_file(load_settings_or_exit()), nl=False)
    warn_unknown_variables()


_HINT_FOR_KCAT: Final = (
    ". This looks like a record printed by `kcat -J`, whose payload is the event. Print only "
    "payloads (kcat -f '%s\\n'), or load the file with `normalizer backfill file`"
)


def normalize_lines(source: ByteStream, sink: BinaryIO, normalizer: Normalizer) -> int:
    """Normalize every line of the source. Returns how many records or events were rejected.

    For a rejected record it writes `{"quarantine":{"line":N,"reason":CODE,"detail":TEXT}}` instead
    of an event. Source: docs/spec/envelope.md#c2, #c8.

    It never waits for more input before it has written the results for everything that it has read.
    So it works in a pipe whose writer pauses. Raises the errors of the sink.
    """
    normalize = normalizer.normalize
    rejected = 0
    for page in read_numbered_line_pages(source):
        for number, line in page:
            for outcome in normalize(RawRecord(value=line, offset=number)):
                match outcome:
                    case Envelope():
                        sink.write(to_canonical(outcome) + b"\n")
                    case Rejected():
                        rejected += 1
                        sink.write(_rejection(number, line, outcome) + b"\n")
                    case Ignored():
                        pass
        sink.flush()
    return rejected


def _rejection(number: int, line: bytes, rejected: Rejected) -> bytes:
    is_kcat = rejected.reason == "not_an_event" and parse_record_line(line, number, "").topic
    return msgspec.json.encode(
        {
            "quarantine": {
                "line": number,
                "reason": rejected.reason,
                "detail": rejected.detail + (_HINT_FOR_KCAT if is_kcat else ""),
            }
        }
    )
