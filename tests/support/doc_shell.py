"""Types the console blocks of a page into one shell and compares the output."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

_END: Final = "END"
_ANY: Final = "..."
_ESCAPED: Final = re.escape(_ANY)


class TypedCommand(msgspec.Struct, frozen=True):
    """The text after `$ `, and the output that the page shows below it."""

    command: str
    shown: str


def typed_commands(console: str) -> Iterator[TypedCommand]:
    """The commands of a block. A here-document reaches up to its END."""
    command, shown = "", ""
    lines = iter(console.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            shown += f"{line}\n"
            continue
        if command:
            yield TypedCommand(command, shown)
        command, shown = line[2:], ""
        if command.endswith(f"<<'{_END}'"):
            for more in lines:
                command += f"\n{more}"
                if more == _END:
                    break
    yield TypedCommand(command, shown)


def matches(shown: str, printed: str) -> bool:
    """Whether the output is as shown; `...` is any text, on a line of its own any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == _ANY else f"{re.escape(line).replace(_ESCAPED, '.*?')}\\n"
        for line in shown.splitlines()
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed.splitlines())) is not None


class Shell:
    """One shell: a variable that a command exports is set for the next one."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = dict(environment)

    def run(self, command: str) -> str:
        """Run a command. Returns both output streams. The environment is kept."""
        kept = self._folder / ".environment"
        done = subprocess.run(
            ["bash", "-c", f'{command}\nstatus=$?; env -0 > "{kept}"; exit $status'],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        pairs = kept.read_text().rstrip("\0").split("\0")
        self._environment = dict(pair.split("=", 1) for pair in pairs)
        return done.stdout
