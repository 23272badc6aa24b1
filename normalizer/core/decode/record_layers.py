"""Builds a wire event from the layers of a record: the event, its batch, and any wrappers.

The event's own fields take precedence. A field that the event doesn't have may be taken from its
batch or from a wrapper. Source: docs/spec/wire-shapes.md#w2, #w5, #w7, #b1, #v5.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.decode.decode_json import MAX_EVENT_DEPTH
from normalizer.core.decode.record_limits import too_deep_error
from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_fields import CANONICAL_NAME_BY_ALIAS, READ_FIELDS, canonical_path
from normalizer.core.decode.wire_values import (
    NULL,
    decode_raw_value,
    same_json,
    scalar_text_or_empty,
)
from normalizer.core.redaction.unstorable import KeyPath, dotted_path
from normalizer.envelope import CoercionRule
from normalizer.jsontext import is_deeper

MAX_UNSTORABLE_COERCIONS: Final = 20
"""How many paths of replaced text become coercions. The last of them says that there are more."""


class RecordLayer(msgspec.Struct, frozen=True, gc=False):
    """One JSON object of a record, i.e. an event, a batch, or a wrapper, after it was decoded.

    For example, an event in a feed wrapper in a CloudEvent has three layers. The event's `wrapper`
    is the feed wrapper, and the `wrapper` of that is the CloudEvent's attributes.

    - `text` is the JSON of the object without secrets, and `fields` has its members.
    - `may_be_deep` is False if the object is known to be nested no deeper than an event may be.
    - `replaced` has the paths at which text was replaced because PostgreSQL can't store it. In a
      batch, they're listed by the event's index, with the key None for everything outside of the
      events.
    - `bom` is True if a byte order mark stood before the text.
    - `supplies` applies only to a wrapper. It names the fields that an event takes from the wrapper
      if the event has none of its own.
    - `is_kept` applies only to a wrapper. If it's True, the wrapper's other fields are stored in
      the event's `extra`.
    """

    text: bytes
    fields: dict[str, Raw]
    may_be_deep: bool
    replaced: dict[int | None, set[KeyPath]] = {}
    bom: bool = False
    wrapper: "RecordLayer | None" = None
    supplies: tuple[str, ...] = ("execution_id",)
    is_kept: bool = True

    def is_too_deep(self) -> bool:
        """Return whether the object has more levels of nesting than an event may have."""
        return self.may_be_deep and is_deeper(self.text, MAX_EVENT_DEPTH)

    def replaced_paths_in_item(self, index: int) -> dict[int | None, set[KeyPath]]:
        """Return the `replaced` of the event at this index of a batch."""
        return {None: self.replaced[index]} if index in self.replaced else {}


def add_outermost_wrapper(layer: RecordLayer, outermost: RecordLayer) -> RecordLayer:
    """Return the layer with `outermost` as a wrapper around all of its wrappers."""
    wrapper = (
        outermost if layer.wrapper is None else add_outermost_wrapper(layer.wrapper, outermost)
    )
    return msgspec.structs.replace(layer, wrapper=wrapper)


def wrappers_around(layer: RecordLayer) -> Iterator[RecordLayer]:
    """Yield the wrappers around a layer, innermost first."""
    wrapper = layer.wrapper
    while wrapper is not None:
        yield wrapper
        wrapper = wrapper.wrapper


def build_wire_event(
    layer: RecordLayer, *, batch: RecordLayer | None, index: int, shared: dict[str, Raw]
) -> WireEvent:
    """Build the event from its own fields and those of its batch and wrappers.

    `shared` has the fields that the batch gives to its events. The result lists the replaced text
    among its coercions. Raises RecordRejectedError if the event or a wrapper around it is nested
    too deeply. Wrappers around a whole batch were already checked with the batch.
    """
    text, fields = layer.text, layer.fields
    own_wrappers = tuple(wrappers_around(layer))
    layers = [layer] if batch is None else [layer, batch]
    wrappers = own_wrappers if batch is None else (*own_wrappers, *wrappers_around(batch))
    if any(each.is_too_deep() for each in (layer, *own_wrappers)):
        raise too_deep_error()
    supplied: dict[str, Raw] = {}
    for wrapper in own_wrappers:
        supplied = fields_supplied_by_wrapper(wrapper, wrapper.supplies) | supplied
    shared = shared | supplied if supplied else shared
    inherited = _inherited(shared, fields) if shared else {}
    if inherited:
        fields = inherited | {k: raw for k, raw in fields.items() if k not in inherited}
        text = msgspec.json.encode(fields)
    extra: dict[str, Raw] = {}
    stored = [(wrapper, _store_other_fields(wrapper, fields, extra)) for wrapper in wrappers]
    if not any(each.bom or each.replaced for each in (*layers, *wrappers)):
        return WireEvent.decode(text, fields, index, extra)  # nearly always
    # Collect the paths in the event at which text was replaced. The event was built from nested
    # layers, for example from a wrapper and the event inside it, and each layer has its own list of
    # paths. A path counts only if the event took that field from the layer. If the event stores the
    # field under another name, translate the path to that name.
    paths = {canonical_path(path) for path in layer.replaced.get(None, ())}
    if batch is not None:
        outer = batch.replaced.get(None, ())
        paths |= {canonical_path(path) for path in outer if path[0] in inherited}
    for wrapper, names_in_extra in stored:
        names = {key: key for key in inherited} | names_in_extra
        outer = wrapper.replaced.get(None, ())
        paths |= {(names[path[0]], *path[1:]) for path in outer if path[0] in names}
    has_bom = any(each.bom for each in (*layers, *wrappers))
    coercions = [_coercion("bom_stripped", "value")] if has_bom else []
    coercions += unstorable_coercions(paths)
    return WireEvent.decode(text, fields, index, extra, coercions)


def fields_supplied_by_wrapper(wrapper: RecordLayer, names: tuple[str, ...]) -> dict[str, Raw]:
    """Return the fields that a wrapper supplies to an event without them (#w5, #w7)."""
    return {name: raw for name in names if (raw := wrapper.fields.get(name, NULL)) != NULL}


def fields_beside_event(wrapper: RecordLayer) -> dict[str, Raw]:
    """Return the fields beside a wrapper's event. Each event in it stores them in `extra`."""
    if not wrapper.is_kept:
        return {}
    return {key: raw for key, raw in wrapper.fields.items() if raw != NULL}


def _store_other_fields(
    wrapper: RecordLayer, fields: dict[str, Raw], extra: dict[str, Raw]
) -> dict[str, str]:
    """Store a wrapper's other fields in `extra`. Returns the names that they get there."""
    names: dict[str, str] = {}
    for key, raw in fields_beside_event(wrapper).items():
        if key in fields and _same_value(fields[key], raw):
            continue
        names[key] = key
        while names[key] in READ_FIELDS or names[key] in fields or names[key] in extra:
            names[key] = f"wrapper.{names[key]}"
        extra[names[key]] = raw
    return names


def unstorable_coercions(paths: Iterable[KeyPath]) -> list[dict[str, object]]:
    """Return a coercion for each path at which text was replaced, sorted by path."""
    paths_text = sorted(set(map(dotted_path, paths)))
    coercions = [
        _coercion("unstorable_text", path_text)
        for path_text in paths_text[:MAX_UNSTORABLE_COERCIONS]
    ]
    if len(paths_text) > MAX_UNSTORABLE_COERCIONS:
        coercions[-1]["more"] = True
    return coercions


def _inherited(shared: dict[str, Raw], own: dict[str, Raw]) -> dict[str, Raw]:
    """Return those fields of a batch for which the event has no value of its own.

    A field may have several names, such as `created_at` and `timestamp`. If the event has a value
    under one of these names, it inherits the field under none of them.
    """
    has_own = {CANONICAL_NAME_BY_ALIAS.get(key, key) for key, raw in own.items() if raw != NULL}
    return {k: raw for k, raw in shared.items() if CANONICAL_NAME_BY_ALIAS.get(k, k) not in has_own}


def _same_value(a: Raw, b: Raw) -> bool:
    """Return whether two values are equal.

    An id may be a string in one and a number in the other.
    """
    return (
        same_json(a, b)
        or scalar_text_or_empty(decode_raw_value(a))
        == scalar_text_or_empty(decode_raw_value(b))
        != ""
    )


def _coercion(rule: CoercionRule, field: str) -> dict[str, object]:
    return {"rule": rule, "field": field}
