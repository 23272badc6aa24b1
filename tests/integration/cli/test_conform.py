"""`normalizer conform`: what another program makes of the contract's vectors."""

import shlex
import sys
from typing import Final

import pytest
from click.testing import CliRunner

from normalizer.cli import main
from normalizer.cli.conformance import (
    ConformanceCase,
    ExpectedRejection,
    format_mismatch,
    read_cases,
    run_program,
)
from normalizer.errors import ConfigurationError


def _program(code: str) -> tuple[str, ...]:
    head = "import sys\nfor line in sys.stdin:\n    line = line.rstrip()\n"
    return (sys.executable, "-c", head + code)


CASES: Final = [
    ConformanceCase("one", "a first", b'{"a":1}', ('{"a":1}',)),
    ConformanceCase("two", "a second", b'{"b":2}', ('{"b":2}',)),
]


def test_a_program_that_gives_every_line_back_conforms() -> None:
    assert run_program(_program("    print(line)"), CASES) == ([], "")


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("    print(line.replace('2}', '3}'))", ('{"b":3}',)),
        ("    if 'b' not in line[:4]: print(line)", ()),
        ("    print(line)\n    if 'b' in line[:4]: print(line)", ('{"b":2}', '{"b":2}')),
        (
            '    print(\'{"quarantine":{"reason":"skipped"}}\' if \'b\' in line[:4] else line)',
            (ExpectedRejection("skipped"),),
        ),
    ],
    ids=["another line", "no line", "two lines", "a rejection"],
)
def test_a_line_that_differs_is_reported_with_its_vector_alone(
    code: str, given: tuple[str, ...]
) -> None:
    (difference,), _ = run_program(_program(code), CASES)

    assert (difference.case.id, difference.given) == ("two", given)
    assert "two: a second" in "\n".join(format_mismatch(difference))


def _bytes_program(code: str) -> tuple[str, ...]:
    head = "import sys\ngiven = sys.stdin.buffer.read()\nout = sys.stdout.buffer\n"
    return (sys.executable, "-c", head + code)


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("out.write(b'started\\n' + given)", "the event that conform adds before one"),
        ("out.write(given.replace(b'\\n', b'\\n\\n'))", "one"),
        ("out.write(given.replace('\ufffd'.encode(), b'\\xff'))", "two"),
    ],
    ids=["a line before all others", "blank lines", "bytes that are no text"],
)
def test_other_bytes_are_a_difference_wherever_they_stand(code: str, named: str) -> None:
    cases = [CASES[0], ConformanceCase("two", "", '{"b":"\ufffd"}'.encode(), ('{"b":"\ufffd"}',))]

    differences, _ = run_program(_bytes_program(code), cases)

    assert named in [one.case.id for one in differences]
    said = "\n".join(line for one in differences for line in format_mismatch(one))
    assert said.encode()


def test_a_program_that_dies_is_reported_with_the_line_that_it_was_reading(
    capfd: pytest.CaptureFixture[str],
) -> None:
    cases = read_cases("lines")
    reading = cases[10]
    # 20 lines for 10 cases, a marker, and then the case. Half a line is left unfinished.
    program = _program(
        "    count = globals().get('count', 0) + 1\n"
        "    if count == 22: sys.stdout.write(line[:9]); sys.exit('no such key')\n"
        "    print(line, flush=True)"
    )

    answer = CliRunner().invoke(main, ["conform", "--", *program])

    assert answer.exit_code == 1
    assert capfd.readouterr().err == "no such key\n"
    assert answer.output.splitlines()[:2] == [
        f"10 of {len(cases)} the same, up to level lines",
        f"{sys.executable} ended with 1",
    ]
    assert f"\n{reading.id}: {reading.about}\n" in answer.output
    assert answer.output.count("  read      ") == 1
    assert "got       " not in answer.output


def test_a_program_that_cannot_be_started_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ConfigurationError, match=r"^no-such-program: "):
        run_program(("no-such-program",), CASES)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (f"--level rules -- {sys.executable} -m normalizer normalize", 0, "the same, up to level"),
        ("--level shapes --show 1 -- cat", 1, "  expected  "),
        ("no-such-program", 2, ""),
        ("-- sh -c 'cat; exit 7'", 1, "sh ended with 7"),
        ("-- sh -c 'cat; kill -9 $$'", 1, "sh ended with -9"),
        ("--show 0 --within 0.2 sleep 9", 1, "sleep did not end within 0.2 s"),
        ("--show 0 --within 9 yes", 1, "yes wrote more than 4 MiB, and was killed"),
        ("--show 0 --within 0.2 -- sh -c 'exec >&-; sleep 9'", 1, "sh did not end"),
        ("--show -1 cat", 2, "is not in the range"),
    ],
)
def test_the_command_says_what_differs(arguments: str, code: int, said: str) -> None:
    answer = CliRunner().invoke(main, ["conform", *shlex.split(arguments)])

    assert answer.exit_code == code, answer.output
    assert said in answer.output
