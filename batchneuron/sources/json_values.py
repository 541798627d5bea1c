"""JSON values and Arrow types: which type a column has, and a value as that type.

Nothing is guessed from the look of a string: no timestamps, no numbers. Knows nothing of files.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_INT64 = range(-(2**63), 2**63)
_MAX_INT_DIGITS = 400


class JsonObject(dict[str, Any]):
    """A JSON object that knows which keys it was given more than once; of those the last value counts."""

    repeated: frozenset[str] = frozenset()


def _make_object(pairs: list[tuple[str, Any]]) -> JsonObject:
    made = JsonObject(pairs)
    if len(made) < len(pairs):
        made.repeated = frozenset(
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        )
    return made


def decode_object(text: bytes) -> JsonObject:
    """The JSON object in `text`; NaN and Infinity are numbers.

    Raises:
        ValueError: it is not UTF-8, not JSON, or not an object.
    """
    try:
        value = _DECODER.decode(text.decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from error
    if not isinstance(value, JsonObject):
        raise ValueError(f"{name_kind(value)} where an object was expected")
    return value


def measure_depth(text: bytes) -> int:
    """How deeply lists and objects are nested in JSON; brackets in strings do not count."""
    bare = np.frombuffer(_STRING.sub(b"", text), dtype=np.uint8)
    opens, closes = (bare == ord("[")) | (bare == ord("{")), (bare == ord("]")) | (bare == ord("}"))
    return int(np.cumsum(opens.astype(np.int8) - closes.astype(np.int8), dtype=np.int32).max(initial=0))


def _parse_integer(text: str) -> int | float:
    # As Arrow has it: a number can be too large to be exact, which is no error in a column of floats.
    return float(text) if len(text) > _MAX_INT_DIGITS else int(text)


_DECODER = json.JSONDecoder(parse_int=_parse_integer, object_pairs_hook=_make_object)


def infer_type(values: Iterable[Any]) -> pa.DataType:
    """The type of a column with these values; string where they have no common one, or are all null."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if kinds <= {int, float} and any(isinstance(value, float) for value in present):
        return pa.float64()
    if len(kinds) != 1 or kinds == {str}:
        return pa.string()
    try:
        return _fill_unknown(pa.array(present).type)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return pa.string()


def _fill_unknown(kind: pa.DataType) -> pa.DataType:
    """`kind` with string wherever no value told the type."""
    if pa.types.is_null(kind) or (pa.types.is_struct(kind) and kind.num_fields == 0):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_fill_unknown(kind.value_type))
    if pa.types.is_struct(kind):
        fields = (kind.field(i) for i in range(kind.num_fields))
        return pa.struct([pa.field(field.name, _fill_unknown(field.type)) for field in fields])
    return kind


def fit_value(value: Any, kind: pa.DataType) -> Any:
    """`value` as a Python value of the Arrow type `kind`.

    A string column takes anything, as JSON text, except for NaN and Infinity: JSON has no word for them, and
    where text is wanted they stand for a missing one. Keys that a struct does not have are left out.

    Raises:
        ValueError: it does not fit.
    """
    if value is None:
        return None
    if pa.types.is_string(kind):
        return _fit_text(value)
    if pa.types.is_list(kind) and isinstance(value, list):
        return [fit_value(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return _fit_struct(value, kind)
    if pa.types.is_boolean(kind) and isinstance(value, bool):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if pa.types.is_floating(kind):
            return _fit_float(value)
        if pa.types.is_integer(kind):
            return _fit_integer(value)
    raise ValueError(f"{name_kind(value)} where {kind} was expected")


def _fit_text(value: Any) -> str:
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{json.dumps(value)} where text was expected")
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError as error:  # writing it takes one level more than reading it did
        raise ValueError("nested too deeply") from error
    if not text.isascii():
        text.encode()  # an escaped half of a surrogate pair is no text
    return text


def _fit_struct(value: dict[str, Any], kind: pa.DataType) -> dict[str, Any]:
    fields = [kind.field(i) for i in range(kind.num_fields)]
    for field in fields:
        if isinstance(value, JsonObject) and field.name in value.repeated:
            raise ValueError(f"{field.name!r} is given twice")
    return {field.name: fit_value(value.get(field.name), field.type) for field in fields}


def _fit_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _fit_integer(value: float) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value} where an integer was expected")
    if int(value) not in _INT64:
        raise ValueError(f"{value} does not fit 64 bits")
    return int(value)


def name_kind(value: Any) -> str:
    """What JSON calls this value."""
    if isinstance(value, dict):
        return "an object"
    return {str: "a string", bool: "a boolean", list: "an array", type(None): "null"}.get(
        type(value), "a number"
    )
