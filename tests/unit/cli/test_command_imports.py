"""A command imports only what it needs: a filter must not wait for clients of servers."""

import subprocess
import sys

import pytest

from normalizer.cli.program import main

CLIENTS = ("aiokafka", "asyncpg", "prometheus_client")


@pytest.mark.parametrize(
    ("program", "commands", "left_out"),
    [
        ("normalizer", ("normalize", "schema", "conform", "config"), CLIENTS),
        ("projector", ("views",), ("starlette", "uvicorn", "prometheus_client")),
    ],
)
def test_a_command_imports_no_client_and_no_server_that_it_does_not_use(
    program: str, commands: tuple[str, ...], left_out: tuple[str, ...]
) -> None:
    code = (
        "import sys\n"
        f"from {program}.cli import main\n"
        f"for command in {commands}: main([command, '--help'], standalone_mode=False)\n"
        f"print(*(one for one in {left_out} if one in sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout

    assert [command for command in commands if f"{command} [OPTIONS]" not in printed] == []
    assert printed.splitlines()[-1] == ""


def test_every_command_is_found_under_its_name() -> None:
    context = main.make_context("normalizer", ["config"])
    names = main.list_commands(context)
    commands = [main.get_command(context, name) for name in names]

    assert [command.name for command in commands if command is not None] == names
    assert main.get_command(context, "nothing") is None
