"""The meaning of each class of events, which decides what the projections count.

The database has the same table in projector.event_kinds, in every spelling. Computations that run
without a database have copies, which `python -m tests.support.event_kinds` writes.
"""

import re
import textwrap
from pathlib import Path
from typing import Final, Literal, NamedTuple

from normalizer.core.rules.event_types import EVENT_TYPE_SPELLINGS


class EventKind(NamedTuple):
    """What an event of a class means for its execution or its call.

    An execution begins and ends. A call is issued, claimed, and started. `done` means that the call
    itself reports its end, and `ended` that its command does. `outcome` is the outcome that the
    name of the event implies.
    """

    event_class: str
    subject: Literal["execution", "call"]
    role: Literal["begins", "ends", "issued", "claimed", "started", "ended", "done"]
    outcome: Literal["", "COMPLETED", "FAILED", "CANCELLED"] = ""


EVENT_KINDS: Final[tuple[EventKind, ...]] = (
    EventKind("playbook.initialized", "execution", "begins"),
    EventKind("playbook.completed", "execution", "ends", "COMPLETED"),
    EventKind("playbook.failed", "execution", "ends", "FAILED"),
    EventKind("playbook.cancelled", "execution", "ends", "CANCELLED"),
    EventKind("command.issued", "call", "issued"),
    EventKind("command.claimed", "call", "claimed"),
    EventKind("command.started", "call", "started"),
    EventKind("command.completed", "call", "ended", "COMPLETED"),
    EventKind("command.failed", "call", "ended", "FAILED"),
    EventKind("command.cancelled", "call", "ended", "CANCELLED"),
    EventKind("call.done", "call", "done", "COMPLETED"),
    EventKind("call.error", "call", "done", "FAILED"),
)
"""The classes that projections read."""


def list_spellings(kind: EventKind) -> tuple[str, ...]:
    """Every spelling of the kind's class."""
    found = [known for known in EVENT_TYPE_SPELLINGS if known[0] == kind.event_class]
    return found[0] if found else (kind.event_class,)


_ROOT: Final = Path(__file__).parents[2]
COPIES: Final = (
    _ROOT / "deploy" / "calls.py",
    _ROOT / "deploy" / "clickhouse" / "figures.sql",
    _ROOT / "deploy" / "flink" / "figures.sql",
    _ROOT / "simulator" / "view_fold.py",
)
"""Files with spellings of event types that are written from EVENT_KINDS."""
_SQL_LIST: Final = re.compile(r"^( +)'[a-z._]+'(?:,\s+'[a-z._]+')+$", re.MULTILINE)
_SQL_WIDTH: Final = 94


def with_spellings(text: str) -> str:
    """The text of one of COPIES, with each list of spellings as the table has it."""
    text = re.sub(r"(?<=^ROLES: Final = \{\n)[^}]*(?=^\})", _roles(), text, flags=re.MULTILINE)
    text = re.sub(
        r"(?<=^LIFECYCLE: Final = \{\n)[^}]*(?=^\})", _lifecycle(), text, flags=re.MULTILINE
    )
    return _SQL_LIST.sub(_sql_list, text)


def _roles() -> str:
    return "".join(
        f'    "{spelling}": ("{kind.role}", "{kind.outcome}", "{kind.event_class}"),\n'
        for kind in EVENT_KINDS
        if kind.subject == "call"
        for spelling in list_spellings(kind)
    )


def _lifecycle() -> str:
    return "".join(
        f'    "{kind.outcome or kind.role}": (\n'
        + "".join(f'        "{spelling}",\n' for spelling in list_spellings(kind))
        + "    ),\n"
        for kind in EVENT_KINDS
        if kind.subject == "execution"
    )


def _sql_list(found: re.Match[str]) -> str:
    """Every spelling of the kinds that this list is about, which its first member tells."""
    first = re.findall(r"'([^']+)'", found[0])[0]
    (of,) = (kind for kind in EVENT_KINDS if first in list_spellings(kind))
    spellings = [
        f"'{spelling}'"
        for kind in EVENT_KINDS
        if kind.subject == of.subject and of.role in {kind.role, "issued"}
        for spelling in list_spellings(kind)
    ]
    return textwrap.fill(
        ", ".join(spellings), _SQL_WIDTH, initial_indent=found[1], subsequent_indent=found[1]
    )


if __name__ == "__main__":
    for path in COPIES:
        path.write_text(with_spellings(path.read_text()))
