"""Pydantic models for the Python server's two requests. They accept old and new events.

    class EventRequest(producer_models.EventRequest): ...

    request = EventRequest.model_validate_json(body)
    line = request.to_canonical()

A server that uses them as its request types can receive events of every producer, without changing
its handlers, and pass each on as a canonical line. The models accept canonical lines, every name
that a producer uses for a field (`event_type` or `name`, `payload` or `context`, ...), ids as
numbers or text, any JSON as context, and unknown fields.

Attributes have the names and types that the server's handlers use. A value of another type stays as
it was sent, because the rules decide what it means. So validation fails only for an invalid
execution_id or event type. `to_canonical` applies the rules of `Normalizer`, including redaction.
Needs the extra `pydantic`. Source: docs/spec/wire-shapes.md#a1, #a2, #i1.
"""

import json
from datetime import datetime
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SkipValidation,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import to_jsonable_python

from normalizer.core.decode.wire_fields import FIELD_ALIASES
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Ignored, Rejected, to_canonical
from normalizer.jsontext import Json, JsonNumber, parse_json_number, write_json

_TOO_DEEP: Final = "too_deep: expected JSON of fewer levels"


class _WrittenFloat(float):
    """A float that keeps its digits as written, such as 1.50, or more than a double holds."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def _id_text(value: object) -> object:
    """Return an id as text, because 7 and "7" are the same id (#i1). Raises ValueError (#l3)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(parse_json_number(str(value)))
    return value


def _or_as_sent(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:
        return value


def _names_a_step(value: object) -> bool:
    """Return whether a value is a step: text or a number, but neither `""` nor `unknown` (#p1)."""
    is_word = isinstance(value, str | int | float | Decimal) and not isinstance(value, bool)
    return is_word and value not in ("", "unknown")


Id = Annotated[str, BeforeValidator(_id_text)]
KeepIfInvalid: Final = WrapValidator(_or_as_sent)
"""Keeps a value of another type as it was sent."""


class ProducerModel(BaseModel):
    """The base of both models. Unknown fields are in `model_extra`."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    normalizer: ClassVar[Normalizer] = Normalizer()
    """A subclass may set another Normalizer, for example one with more words that make a key
    secret."""

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Read UTF-8 JSON and keep the digits of its floats. Raises ValueError."""
        text = json_data if isinstance(json_data, str) else bytes(json_data).decode()
        try:
            sent = json.loads(text.removeprefix("\ufeff"), parse_float=_WrittenFloat)
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
        return cls.model_validate(sent, **options)

    def to_canonical(self) -> bytes:
        """Return the canonical line, without a line feed.

        Raises ValueError with the reason if the rules reject the event.
        """
        try:
            text = write_json({name: _tree(value) for name, value in self if value is not None})
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
        # Write a lone surrogate as its escape, so that the rules can replace it.
        value = text.encode(errors="backslashreplace")
        (outcome,) = self.normalizer.normalize(RawRecord(value=value))
        match outcome:
            case Envelope():
                return to_canonical(outcome)
            case Rejected(reason=reason, detail=detail):
                raise ValueError(f"{reason}: {detail}")
            case Ignored(why=why):
                raise ValueError(why)

    @model_validator(mode="before")
    @classmethod
    def _with_names_of_fields(cls, sent: Any) -> Any:
        """Rename the fields that were sent to the model's own names for them.

        If a field was sent under both of its names, the value under the stronger name counts. Null
        means absent (#a1), and so does a step such as `unknown` (#p1). Pydantic's aliases would be
        simpler, but a subclass that redeclares a field would lose them.
        """
        if not isinstance(sent, dict):
            return sent
        sent = {name: value for name, value in sent.items() if value is not None}
        for names in FIELD_ALIASES:
            own: str | None = next((name for name in names if name in cls.model_fields), None)
            given = [name for name in names if name in sent]
            if own and given and own != "created_at":
                values = [sent.pop(name) for name in given]
                counted = [one for one in values if names[0] != "step" or _names_a_step(one)]
                sent[own] = (counted or values)[0]
        return sent


class EventRequest(ProducerModel):
    """A request to the Python server's `/api/events`."""

    execution_id: Id
    step: Annotated[str, KeepIfInvalid] = ""
    name: str
    payload: Any = None
    meta: Annotated[dict[str, Any] | None, KeepIfInvalid] = None
    worker_id: Annotated[str | None, KeepIfInvalid] = None
    actionable: Annotated[bool, KeepIfInvalid] = True
    informative: Annotated[bool, KeepIfInvalid] = True
    event_id: Annotated[Id | None, KeepIfInvalid] = None
    status: Annotated[str | None, KeepIfInvalid] = None
    created_at: SkipValidation[datetime | float | str | None] = None


class EventEmitRequest(ProducerModel):
    """A request to the Python server's broker."""

    execution_id: Id
    event_type: str
    event_id: Annotated[Id | None, KeepIfInvalid] = None
    catalog_id: Annotated[Id | None, KeepIfInvalid] = None
    parent_event_id: Annotated[Id | None, KeepIfInvalid] = None
    parent_execution_id: Annotated[Id | None, KeepIfInvalid] = None
    node_id: Any = None
    node_name: Annotated[str | None, KeepIfInvalid] = None
    node_type: Annotated[str | None, KeepIfInvalid] = None
    status: Annotated[str | None, KeepIfInvalid] = None
    duration: SkipValidation[float | None] = None
    context: Any = None
    result: Any = None
    error: Any = None
    stack_trace: Annotated[str | None, KeepIfInvalid] = None
    meta: Annotated[dict[str, Any] | None, KeepIfInvalid] = None
    worker_id: Annotated[str | None, KeepIfInvalid] = None
    created_at: SkipValidation[datetime | float | str | None] = None


def _tree(value: Any) -> Json:
    """Return the JSON tree of a value, with numbers as written, and an enum as its value."""
    if isinstance(value, _WrittenFloat):
        return JsonNumber(value.text)
    if isinstance(value, dict):
        return {_name(key): _tree(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_tree(item) for item in value]
    if type(value) in (int, float) or (isinstance(value, Decimal) and not isinstance(value, Enum)):
        return JsonNumber(value)
    return value if type(value) in (str, bool, NoneType) else _tree(to_jsonable_python(value))


def _name(key: Any) -> str:
    """Return a key as text. A key that isn't text becomes its JSON."""
    tree = _tree(key)
    return tree if type(tree) is str else write_json(tree)
