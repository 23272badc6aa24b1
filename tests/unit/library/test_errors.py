"""Texts of errors about several causes at once, and the tree in which errors.py draws them all."""

import ast
import re

import normalizer.errors
import projector.api.api_errors
from normalizer.errors import (
    AnotherClusterError,
    FencedError,
    OtherGroupError,
    PartsNotWrittenError,
    PositionMovedError,
)
from tests.support.tracked_files import ROOT, tracked


def _classes() -> dict[str, tuple[str, str]]:
    """The error classes of both programs: the file of each, and its base class."""
    return {
        node.name: (str(path.relative_to(ROOT)), ast.unparse(node.bases[0]))
        for path in tracked("normalizer/*.py", "projector/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and node.bases
        and not node.name.startswith("_")
        and re.search(r"(Error|Exception)$", ast.unparse(node.bases[0]))
    }


def _drawn(tree: str) -> list[tuple[str, str]]:
    """Each class of a drawn tree with its base, by the indentation."""
    above: list[tuple[int, str]] = []
    pairs = []
    for match in re.finditer(r"^([ │├└─]*)(\w+Error)\b", tree, re.MULTILINE):
        depth = len(match[1])
        above = [one for one in above if one[0] < depth]
        if above:
            pairs.append((match[2], above[-1][1]))
        above.append((depth, match[2]))
    return pairs


def test_every_error_is_drawn_below_its_base_or_listed() -> None:
    said = normalizer.errors.__doc__ or ""
    tree, _, below = said.partition("Other exceptions")
    listed = re.findall(r"\b\w+Error\b", below)
    in_api = "projector/api/api_errors.py"

    classes = {name: base for name, (file, base) in _classes().items() if file != in_api}
    drawn = _drawn(tree)

    assert sorted([*(name for name, _ in drawn), *listed, "NormalizerError"]) == sorted(classes)
    assert {name: base for name, base in drawn if classes[name] != base} == {}


def test_every_error_of_the_api_is_drawn() -> None:
    in_api = {
        name: base for name, (file, base) in _classes().items() if file.endswith("api_errors.py")
    }

    drawn = _drawn(projector.api.api_errors.__doc__ or "")

    assert dict(drawn) == {name: base for name, base in in_api.items() if name != "ApiError"}


def test_parts_that_were_lost_are_each_named_with_their_reason() -> None:
    reasons = [
        FencedError("topic[0]: another process claimed it", topic="topic", partition=0),
        PositionMovedError("topic[2]: it is at 7", topic="topic", partition=2),
    ]

    lost = PartsNotWrittenError(reasons)

    assert str(lost) == "topic[0]: another process claimed it; topic[2]: it is at 7"
    assert lost.reasons == reasons


def test_another_cluster_is_named_with_what_to_do() -> None:
    error = AnotherClusterError("right", "wrong", topic="noetl.events", partition=2)

    assert str(error) == (
        "KAFKA_BOOTSTRAP_SERVERS leads to cluster wrong, but topic noetl.events was read from "
        "cluster right: correct the address and restart. If you moved to this cluster on purpose, "
        "start once with --accept-reset"
    )
    assert (error.known, error.topic, error.partition) == ("right", "noetl.events", 2)


def test_another_group_is_named_with_what_to_do() -> None:
    error = OtherGroupError("first", "host-1", "second", topic="noetl.events", partition=2)

    assert str(error) == (
        "noetl.events[2] is left to consumer group first, whose process host-1 was alive within "
        "the last 10 s, while this process is in group second. Use one KAFKA_GROUP_ID for one "
        "database. Before you change it, stop every process of group first"
    )
    assert (error.other, error.owner) == ("first", "host-1")
