"""Bytes to checked wire models, and what is wrong with them in OpenAI's words.

How many values there may be in JSON from strangers is bounded before objects are made of it.
"""

from __future__ import annotations

import math
from codecs import BOM_UTF8
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from ..errors import InvalidRequest
from .validation_wording import in_words

Model = TypeVar("Model", bound=BaseModel)

# Two bytes are an empty list, which is fifty-six in memory: the size of a body says little about what it costs.
MAX_VALUES = 100_000
"""Values in one message, those in others counted too. Text is one value, however long; names in objects are none."""

QUICK = 5_000
QUICK_BYTES = 1 << 20
"""Values, and bytes, that are read so fast that the event loop can wait for it."""

_BEGIN = b",[{"
_SPACE = b" \t\r\n"
_WINDOW = 1 << 16

MAX_PARAM = 120
"""Longest `param` in characters: keys come from the client and may be long or secret."""

_UNION_TAGS = ("union_tag_invalid", "union_tag_not_found")
_TYPE_ERRORS = ("_type", "_parsing", "int_from_float", "finite_number")


def is_quick(data: bytes) -> bool:
    """True if JSON is read in no time. A guess: it is made for each request, and a wrong one does no harm."""
    # Two bytes are the least that a value takes.
    return len(data) <= 2 * QUICK or (len(data) <= QUICK_BYTES and data.count(b",") <= QUICK)


def check_values(data: bytes, most: int = MAX_VALUES) -> None:
    """Raise InvalidRequest if `data`, which is said to be JSON, holds more than so many values."""
    if len(data) > 2 * most and _may_hold_more(data, most) and _count(data, most) > most:
        text = f"The body holds more than {most} values: objects, lists, texts and numbers."
        raise InvalidRequest(text, code="too_many_values")


def _may_hold_more(data: bytes, most: int) -> bool:
    """True if there may be more values: what looks like one within a text is counted too."""
    found = 1
    for start in range(0, len(data), _WINDOW):
        part = data[start : start + _WINDOW]
        found += len(part) - len(part.translate(None, _BEGIN))
        if found > most:
            return True
    return False


def _count(data: bytes, most: int) -> int:
    """The values in JSON, or some number above `most`. Of what is no JSON, some number.

    Without what is escaped, the quotes are those around texts, and every other piece between them is outside of one.
    """
    outside: list[bytes] = []
    found, quotes, in_text, escape = 1, 0, False, b""
    for start in range(0, len(data), _WINDOW):
        window = escape + data[start : start + _WINDOW]
        kept = window.rstrip(b"\\")
        escape = b"\\" * ((len(window) - len(kept)) % 2)
        # In this order: a quote behind an escaped backslash ends the text.
        pieces = kept.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        part = b'"'.join(pieces[in_text::2]).translate(None, _SPACE)
        in_text ^= len(pieces) % 2 == 0
        outside += [part, b'"'] if in_text else [part]
        found += len(part) - len(part.translate(None, _BEGIN))
        quotes += len(pieces) - 1
        # Half of what was found may be `[]` and `{}`, which hold nothing; each value may have a name, and four quotes.
        if found > 2 * most or quotes > 4 * most:
            return found + quotes
    whole = b"".join(outside)
    return found - whole.count(b"[]") - whole.count(b"{}")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises InvalidRequest for anything else, NaN and infinities included.

    A byte order mark before it, which some programs write, is passed over.
    """
    value = decode_object(body)
    check_finite(value)
    return value


def parse_json(body: bytes) -> Any:
    """The JSON value in `body`, likewise."""
    try:
        value: Any = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _no_json(error) from None
    check_finite(value)
    return value


def decode_object(body: bytes) -> dict[str, Any]:
    """As `parse_object`, but for numbers that are too large: `check_finite` is still to be called."""
    try:
        value: Any = from_json(body.removeprefix(BOM_UTF8), allow_inf_nan=False)
    except ValueError as error:
        raise _no_json(error) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return cast("dict[str, Any]", value)


def _no_json(error: ValueError) -> InvalidRequest:
    return InvalidRequest(f"The body is not valid JSON: {error}.")


def check_finite(value: Any) -> None:
    """Raise InvalidRequest if a number was too large for a float (`1e999`)."""
    # One loop over all values: searching the text is slower.
    values: list[Any] = [value]
    for item in values:  # it grows meanwhile
        kind = item.__class__
        if kind is dict:
            values += item.values()
        elif kind is list:
            values += item
        elif kind is float and math.isinf(item):
            raise InvalidRequest("The body has a number that is too large.")


def check_length(name: str, value: object, most: int) -> None:
    """Raise InvalidRequest if the list `value` is longer than `most`, before time is spent on what it holds."""
    if isinstance(value, list) and len(cast("list[Any]", value)) > most:
        raise InvalidRequest(f"At most {most} {name} can be sent.", param=name, code="invalid_value")


def validate(model: type[Model], value: dict[str, Any], within: str = "") -> Model:
    """`value` as `model`. Raises InvalidRequest about the first thing wrong, with its `param`; quotes no value.

    `within` is the place of `value` in the body, where it is a part of it.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _invalid(error, value, within) from None


def _invalid(error: ValidationError, value: dict[str, Any], within: str) -> InvalidRequest:
    # Without the input: an error that quotes it could show a key, or all of a body.
    details = error.errors(include_url=False, include_input=False)
    paths = [f"{within}.{_path(detail, value)}".strip(".") for detail in details]
    # A union reports one error for each of its members: the one that got furthest, or found its type, is the one meant.
    fits = [not detail["type"].endswith(_TYPE_ERRORS) for detail in details]
    chosen = max(range(len(details)), key=lambda i: (paths[i].startswith(paths[0]), len(paths[i]), fits[i], -i))
    return _explained(details[chosen], paths[chosen])


def _explained(detail: ErrorDetails, param: str) -> InvalidRequest:
    kind, context = detail["type"], detail.get("ctx", {})
    shown = param if len(param) <= MAX_PARAM else param[:MAX_PARAM] + "…"
    if kind in ("missing", "union_tag_not_found"):
        return InvalidRequest(f"Missing required parameter: '{shown}'.", param=shown, code="missing_required_parameter")
    if kind == "union_tag_invalid":
        text = f"Invalid value for '{shown}': must be one of {context['expected_tags']}."
        return InvalidRequest(text, param=shown, code="invalid_value")
    if kind == "too_short" and param == "messages":  # the same as messages none of which is from the user
        return InvalidRequest("No user message found in 'messages'.", param=shown)
    code = "invalid_type" if kind.endswith(_TYPE_ERRORS) else "invalid_value"
    message = in_words(detail) or "it cannot be used"
    return InvalidRequest(f"Invalid value for '{shown}': {message}.", param=shown, code=code)


def _path(detail: ErrorDetails, value: Any) -> str:
    """The place of the error, as `messages[0].content`. Pydantic's own names of union members are left out."""
    path, last, tagged = "", len(detail["loc"]) - 1, False
    for position, step in enumerate(detail["loc"]):
        fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        # the tag of {"type": "function", "function": …}: a name of pydantic's, not of the body
        if position < last and not tagged and step in (fields.get("type"), fields.get("role")):
            tagged = True
            continue
        missing = position == last and detail["type"] == "missing"
        items = cast("list[Any]", value) if isinstance(value, list) else []
        if missing or (step < len(items) if isinstance(step, int) else step in fields):
            path += f"[{step}]" if isinstance(step, int) else f".{step}"
            value, tagged = None if missing else cast("Any", value)[step], False
    if detail["type"] in _UNION_TAGS:
        path += "." + detail.get("ctx", {})["discriminator"].strip("'")
    return path.lstrip(".")
