"""The two requests of the Python server as pydantic models: they read leniently, write canonically.

    class EventRequest(producer_models.EventRequest): ...

    request = EventRequest.model_validate_json(body)
    line = request.to_canonical()

Both accept canonical lines whole, and events of every other shape: each name of a field
(`event_type` or `name`, `payload` or `context`, ...), ids as numbers or text, any JSON as context,
fields that nobody has named. Attributes have the names that the server's handlers use, and their
types where what was sent has them; a value of another type stays as it was sent, for the rules to
judge. Only an execution_id and an event type that cannot be one are errors of the model.
`to_canonical` applies the rules of `Normalizer`, redaction included.

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

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.wire_fields import PAIRS
from normalizer.envelope import Envelope, Ignored, Rejected, to_canonical
from normalizer.jsontext import Json, Number, checked_number, write

_TOO_DEEP: Final = "too_deep: expected JSON of fewer levels"


class WrittenFloat(float):
    """A float that remembers its digits as they were written: 1.50, or more than a double holds."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def _id_text(value: object) -> object:
    """Give an id as text: `int` and its digits are one id (#i1). Raises ValueError (#l3)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(checked_number(str(value)))
    return value


def _or_as_sent(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:
        return value


def _names_a_step(value: object) -> bool:
    """Tell whether a value is a step: text or a number, but neither `""` nor `unknown` (#p1)."""
    is_word = isinstance(value, str | int | float | Decimal) and not isinstance(value, bool)
    return is_word and value not in ("", "unknown")


Id = Annotated[str, BeforeValidator(_id_text)]
Sent: Final = WrapValidator(_or_as_sent)
"""A value of another type stays as it was sent."""


class ProducerModel(BaseModel):
    """What both models can do. Fields that no model names are kept in `model_extra`."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    normalizer: ClassVar[Normalizer] = Normalizer()
    """A subclass may set one with further words that make a key secret."""

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Read JSON in UTF-8; a float in it keeps its digits. Raises ValueError."""
        text = json_data if isinstance(json_data, str) else bytes(json_data).decode()
        try:
            sent = json.loads(text.removeprefix("\ufeff"), parse_float=WrittenFloat)
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
        return cls.model_validate(sent, **options)

    def to_canonical(self) -> bytes:
        """Give the canonical line, without a line feed.

        Raises ValueError with the reason if the rules refuse the event.
        """
        try:
            text = write({name: _tree(value) for name, value in self if value is not None})
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
        # A lone surrogate is written as its escape, for the rules to replace.
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
        """Give what was sent under the model's names: the strongest name of each pair counts.

        Null is absent (#a1), and so is a step that names none (#p1). Aliases of the fields would be
        lost where a subclass declares a field again.
        """
        if not isinstance(sent, dict):
            return sent
        sent = {name: value for name, value in sent.items() if value is not None}
        for names in PAIRS:
            own: str | None = next((name for name in names if name in cls.model_fields), None)
            given = [name for name in names if name in sent]
            if own and given and own != "created_at":
                values = [sent.pop(name) for name in given]
                counted = [one for one in values if names[0] != "step" or _names_a_step(one)]
                sent[own] = (counted or values)[0]
        return sent


class EventRequest(ProducerModel):
    """What the Python server's `/api/events` takes."""

    execution_id: Id
    step: Annotated[str, Sent] = ""
    name: str
    payload: Any = None
    meta: Annotated[dict[str, Any] | None, Sent] = None
    worker_id: Annotated[str | None, Sent] = None
    actionable: Annotated[bool, Sent] = True
    informative: Annotated[bool, Sent] = True
    event_id: Annotated[Id | None, Sent] = None
    status: Annotated[str | None, Sent] = None
    created_at: SkipValidation[datetime | float | str | None] = None


class EventEmitRequest(ProducerModel):
    """What the Python server's broker takes."""

    execution_id: Id
    event_type: str
    event_id: Annotated[Id | None, Sent] = None
    catalog_id: Annotated[Id | None, Sent] = None
    parent_event_id: Annotated[Id | None, Sent] = None
    parent_execution_id: Annotated[Id | None, Sent] = None
    node_id: Any = None
    node_name: Annotated[str | None, Sent] = None
    node_type: Annotated[str | None, Sent] = None
    status: Annotated[str | None, Sent] = None
    duration: SkipValidation[float | None] = None
    context: Any = None
    result: Any = None
    error: Any = None
    stack_trace: Annotated[str | None, Sent] = None
    meta: Annotated[dict[str, Any] | None, Sent] = None
    worker_id: Annotated[str | None, Sent] = None
    created_at: SkipValidation[datetime | float | str | None] = None


def _tree(value: Any) -> Json:
    """Give the JSON tree of a value; numbers as they were written, an enum as its value."""
    if isinstance(value, WrittenFloat):
        return Number(value.text)
    if isinstance(value, dict):
        return {_name(key): _tree(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_tree(item) for item in value]
    if type(value) in (int, float) or (isinstance(value, Decimal) and not isinstance(value, Enum)):
        return Number(value)
    return value if type(value) in (str, bool, NoneType) else _tree(to_jsonable_python(value))


def _name(key: Any) -> str:
    """Give a key as text: of one that is none its JSON."""
    tree = _tree(key)
    return tree if type(tree) is str else write(tree)
