"""`normalizer --help` lists every command once, under what it's for, in lines that aren't cut."""

import re

import click
import pytest
from click.testing import CliRunner

import projector.cli
from normalizer.cli.program import COMMAND_GROUPS, main
from tests.support.command_tree import subcommands

PROGRAMS: tuple[click.Group, ...] = (main, projector.cli.main)
NO_VERBS = {"a", "all", "each", "every", "the", "this"}


def _summaries() -> list[tuple[str, str]]:
    found = []
    for program in PROGRAMS:
        for name, command in subcommands(program).items():
            found.append((name, command.get_short_help_str(1000)))
            if isinstance(command, click.Group):
                below = subcommands(command)
                found += [
                    (f"{name} {one}", it.get_short_help_str(1000)) for one, it in below.items()
                ]
    return found


def test_help_lists_the_commands_in_groups() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output
    sections = re.findall(r"^(\w+):$", shown, re.MULTILINE)
    listed = re.findall(r"^  ([a-z]+)  +[A-Z]", shown.partition("\nRun:")[2], re.MULTILINE)

    assert sections[-5:] == ["Run", "Inspect", "Repair", "History", "Develop"]
    assert listed == [name for names in COMMAND_GROUPS.values() for name in names]
    assert sorted(listed) == sorted(subcommands(main))


@pytest.mark.parametrize(("command", "summary"), _summaries())
def test_a_summary_is_one_short_line_that_starts_with_a_verb(command: str, summary: str) -> None:
    assert len(summary) < 70, command
    assert re.fullmatch(r"[A-Z][a-z]+,? .*\.", summary), command
    assert summary.split(maxsplit=1)[0].lower() not in NO_VERBS


def test_no_summary_is_cut_on_a_terminal_of_80_columns() -> None:
    for program in PROGRAMS:
        shown = CliRunner().invoke(program, ["--help"], terminal_width=80).output

        assert "..." not in shown.partition("\nOptions:")[2]
