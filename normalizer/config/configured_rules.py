"""Builds the rules from the settings: the operator's secret words and table of wire shapes.

A table of shapes comes with its own test vectors. They run before the rules are used, and if one
fails, the process doesn't start, because it would store wrong values.
"""

from pathlib import Path
from typing import Final

import msgspec

from normalizer.config.settings import Settings
from normalizer.core.decode.shape_table import ShapeTable, describe_vector_mistake
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Ignored, Normalized, Rejected, to_canonical
from normalizer.errors import ConfigurationError

_CONTRACT_VECTORS: Final = Path(__file__).parents[1] / "vectors" / "records.ndjson"
"""The contract's records. A table of shapes must not change how any of them is read."""

_MAX_SHAPES_FILE_BYTES: Final = 1 << 20


class _Record(msgspec.Struct):
    id: str
    raw: str = ""


def configured_normalizer(settings: Settings) -> Normalizer:
    """Build the rules that the settings configure.

    Raises ConfigurationError for an invalid table of shapes.
    """
    return Normalizer(settings.redact_keys, read_shapes(settings))


def read_shapes(settings: Settings) -> ShapeTable | None:
    """Read the configured table of shapes, and check it against its own vectors.

    Raises ConfigurationError, which lists every mistake.
    """
    if settings.shapes is None:
        return None
    path = Path(settings.shapes)
    try:
        return _checked_table(path.read_bytes()[: _MAX_SHAPES_FILE_BYTES + 1], settings)
    except OSError as error:
        raise ConfigurationError(f"NORMALIZER_SHAPES: {path}: {error.strerror}") from error
    except ConfigurationError as error:
        lines = (f"NORMALIZER_SHAPES: {path}: {line}" for line in str(error).splitlines())
        raise ConfigurationError("\n".join(lines)) from error


def _checked_table(content: bytes, settings: Settings) -> ShapeTable:
    if len(content) > _MAX_SHAPES_FILE_BYTES:
        raise ConfigurationError(f"expected at most {_MAX_SHAPES_FILE_BYTES} bytes")
    try:
        table = ShapeTable.parse(content.decode())
    except UnicodeDecodeError:
        raise ConfigurationError("expected UTF-8") from None
    if mistakes := _vector_mistakes(table, settings):
        raise ConfigurationError("\n".join(mistakes))
    return table


def _vector_mistakes(table: ShapeTable, settings: Settings) -> list[str]:
    normalize = Normalizer(settings.redact_keys, table).normalize
    mistakes = []
    for name, shape in table.shapes.items():
        for number, vector in enumerate(shape.vectors):
            outcomes = normalize(RawRecord(value=vector.raw.encode()))
            mistakes.append(describe_vector_mistake(name, number, vector, map(_line, outcomes)))
            if {outcome.shape for outcome in outcomes if isinstance(outcome, Envelope)} != {name}:
                mistakes.append(f"shapes.{name}.vectors[{number}]: its record has another shape")
    mistakes += [
        f"shapes.{found}: its keys also fit a record of another producer: {record.id}"
        for record in msgspec.json.Decoder(_Record).decode_lines(_CONTRACT_VECTORS.read_bytes())
        for outcome in normalize(RawRecord(value=record.raw.encode()))
        if (found := "" if isinstance(outcome, Ignored) else outcome.shape) in table.shapes
    ]
    return [mistake for mistake in mistakes if mistake][:20]


def _line(outcome: Normalized) -> str:
    match outcome:
        case Envelope():
            return to_canonical(outcome).decode()
        case Rejected(reason=reason, detail=detail):
            return f"{reason}: {detail}"
        case Ignored(why=why):
            return f"ignored: {why}"
