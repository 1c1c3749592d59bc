"""Decodes, bounds and validates the JSON that clients send; encodes and frames the JSON they receive.

JSON is bounded before any object is built. Error messages use OpenAI's wording and ours: pydantic's mention classes. The
checks that all APIs apply to a request's tools and JSON Schemas are here too.
"""

from __future__ import annotations

import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError, from_json, to_json

from ..agent_request import FunctionTool, Tool
from ..errors import InvalidRequest
from .json_schema import InvalidSchema, References, Schema, WorkBudget
from .json_schema.keywords import REFERENCES

Model = TypeVar("Model", bound=BaseModel)

# Two bytes can be an empty list, which takes fifty-six in memory: the size of a body says little about its cost.
MAX_VALUES = 100_000
"""Maximum number of values in one message, nested ones included. A text is one value of any length; object keys do not count."""

QUICK_VALUES = 5_000
QUICK_BYTES = 1 << 20
"""JSON with at most this many values and bytes is decoded on the event loop, since that blocks it only briefly."""

QUICK_FRAME = 50_000
"""A frame of at most this many bytes decodes in negligible time, whatever it contains."""

_BEGIN = b",[{"
_SPACE = b" \t\r\n"
_WINDOW = 1 << 16

# An event needs a blank line after it, the last one included (WHATWG HTML).
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
"""An SSE comment: clients skip lines that begin with a colon (WHATWG HTML). The blank line serves clients that read
block by block."""

KEEP_ALIVE_WITH_IDS = b": keep-alive\n"
"""The keep-alive of streams whose events have ids. After the first id, openai-python takes every further blank line for the
end of an event, here one without data, and fails."""

_SURROGATE = re.compile("[\ud800-\udfff]")

MAX_TOOLS = 1024
"""Maximum number of tools in one request."""

MAX_PARAM = 120
"""Longest `param` in an error, in characters: keys come from the client and may be long or secret."""

_UNION_TAGS = ("union_tag_invalid", "union_tag_not_found")
_TYPE_ERRORS = ("_type", "_parsing", "int_from_float", "finite_number")

_WORDINGS: Mapping[str, str] = {
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "dict_type": "should be an object",
    "extra_forbidden": "is not known here",
    "finite_number": "should be a finite number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "int_from_float": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_parsing_size": "is too large a number",
    "int_type": "should be a whole number",
    "list_type": "should be a list",
    "missing": "is missing",
    "model_attributes_type": "should be an object",
    "model_type": "should be an object",
    "none_required": "should be null",
    "recursion_loop": "is nested too deeply",
    "string_type": "should be text",
    "string_unicode": "should be text in Unicode",
}
_WORDING_TEMPLATES: Mapping[str, str] = {
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be {ge} or more",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be {le} or less",
    "literal_error": "should be {expected}",
    "enum": "should be {expected}",
    "multiple_of": "should be a multiple of {multiple_of}",
    "string_pattern_mismatch": "does not have the form '{pattern}'",
    "union_tag_invalid": "should be one of {expected_tags}",
    "union_tag_not_found": "needs {discriminator}",
    "no_source": "needs one of {names}",
    "json_invalid": "is not valid JSON: {error}",
    "value_error": "{error}",
}
_LENGTH_WORDINGS: Mapping[str, tuple[str, str]] = {
    "too_short": ("should have at least", "item"),
    "too_long": ("should have at most", "item"),
    "string_too_short": ("should have at least", "character"),
    "string_too_long": ("should have at most", "character"),
}


def is_quick(data: bytes) -> bool:
    """True if the JSON decodes in negligible time. An estimate, made for each request; a wrong one does no harm."""
    # A value takes at least two bytes.
    return len(data) <= 2 * QUICK_VALUES or (len(data) <= QUICK_BYTES and data.count(b",") <= QUICK_VALUES)


def check_values(data: bytes, most: int = MAX_VALUES) -> None:
    """Raise InvalidRequest if `data`, presumably JSON, holds more than `most` values."""
    if len(data) > 2 * most and _may_hold_more(data, most) and _count_values(data, most) > most:
        text = f"The body holds more than {most} values: objects, lists, texts and numbers."
        raise InvalidRequest(text, code="too_many_values")


def _may_hold_more(data: bytes, most: int) -> bool:
    """True if there may be more than `most` values; an upper bound, as punctuation inside texts is counted too."""
    found = 1
    for start in range(0, len(data), _WINDOW):
        part = data[start : start + _WINDOW]
        found += len(part) - len(part.translate(None, _BEGIN))
        if found > most:
            return True
    return False


def _count_values(data: bytes, most: int) -> int:
    """Return the number of values in JSON, or any number above `most`. For invalid JSON the number is arbitrary.

    Once escapes are removed, every quote delimits a text, so every other piece between quotes is outside texts.
    """
    outside: list[bytes] = []
    found, quotes, in_text, escape = 1, 0, False, b""
    for start in range(0, len(data), _WINDOW):
        window = escape + data[start : start + _WINDOW]
        kept = window.rstrip(b"\\")
        escape = b"\\" * ((len(window) - len(kept)) % 2)
        # The order matters: a quote after an escaped backslash ends the text.
        pieces = kept.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        part = b'"'.join(pieces[in_text::2]).translate(None, _SPACE)
        in_text ^= len(pieces) % 2 == 0
        outside += [part, b'"'] if in_text else [part]
        found += len(part) - len(part.translate(None, _BEGIN))
        quotes += len(pieces) - 1
        # Up to half of these may be `[]` and `{}`, which hold nothing; each value may have a key, hence four quotes.
        if found > 2 * most or quotes > 4 * most:
            return found + quotes
    whole = b"".join(outside)
    return found - whole.count(b"[]") - whole.count(b"{}")


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse the JSON object in `body`. Raises InvalidRequest for anything else, NaN and infinities included.

    A leading byte order mark, which some programs write, is skipped.
    """
    value = decode_object(body)
    check_finite(value)
    return value


def parse_json(body: bytes) -> Any:
    """Parse the JSON value in `body`. Raises InvalidRequest as `parse_object` does."""
    try:
        value: Any = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _invalid_json(error) from None
    check_finite(value)
    return value


def decode_object(body: bytes) -> dict[str, Any]:
    """Parse like `parse_object`, but without the check for numbers that are too large: call `check_finite` next."""
    try:
        value: Any = from_json(body.removeprefix(BOM_UTF8), allow_inf_nan=False)
    except ValueError as error:
        raise _invalid_json(error) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return cast("dict[str, Any]", value)


def _invalid_json(error: ValueError) -> InvalidRequest:
    return InvalidRequest(f"The body is not valid JSON: {error}.")


def check_finite(value: Any) -> None:
    """Raise InvalidRequest if a number was too large for a float (`1e999`)."""
    # One loop over all values is faster than searching the text.
    values: list[Any] = [value]
    for item in values:  # the list grows while it is iterated
        kind = item.__class__
        if kind is dict:
            values += item.values()
        elif kind is list:
            values += item
        elif kind is float and math.isinf(item):
            raise InvalidRequest("The body has a number that is too large.")


def check_length(name: str, value: object, most: int) -> None:
    """Raise InvalidRequest if the list `value` is longer than `most`, before its items are processed."""
    if isinstance(value, list) and len(cast("list[Any]", value)) > most:
        raise InvalidRequest(f"At most {most} {name} can be sent.", param=name, code="invalid_value")


def validate(model: type[Model], value: dict[str, Any], within: str = "") -> Model:
    """Validate `value` as `model`. Raises InvalidRequest for the first error, with its `param`; quotes no value.

    `within` is the path of `value` if it is only a part of the body.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _validation_error(error, value, within) from None


def _validation_error(error: ValidationError, value: dict[str, Any], within: str) -> InvalidRequest:
    # Without the input: an error that quotes it could leak a key, or the whole body.
    details = error.errors(include_url=False, include_input=False)
    paths = [f"{within}.{_error_path(detail, value)}".strip(".") for detail in details]
    # A union reports one error per member: report the member that matched furthest, or whose type matched.
    fits = [not detail["type"].endswith(_TYPE_ERRORS) for detail in details]
    chosen = max(range(len(details)), key=lambda i: (paths[i].startswith(paths[0]), len(paths[i]), fits[i], -i))
    return _to_invalid_request(details[chosen], paths[chosen])


def _to_invalid_request(detail: ErrorDetails, param: str) -> InvalidRequest:
    kind, context = detail["type"], detail.get("ctx", {})
    shown = param if len(param) <= MAX_PARAM else param[:MAX_PARAM] + "…"
    if kind in ("missing", "union_tag_not_found"):
        return InvalidRequest(f"Missing required parameter: '{shown}'.", param=shown, code="missing_required_parameter")
    if kind == "union_tag_invalid":
        text = f"Invalid value for '{shown}': must be one of {context['expected_tags']}."
        return InvalidRequest(text, param=shown, code="invalid_value")
    if kind == "too_short" and param == "messages":  # treated like messages without one from the user
        return InvalidRequest("No user message found in 'messages'.", param=shown)
    code = "invalid_type" if kind.endswith(_TYPE_ERRORS) else "invalid_value"
    message = describe_error(detail) or "it cannot be used"
    return InvalidRequest(f"Invalid value for '{shown}': {message}.", param=shown, code=code)


def _error_path(detail: ErrorDetails, value: Any) -> str:
    """Return the path of the error, like `messages[0].content`, without pydantic's own names for union members."""
    path, last, tagged = "", len(detail["loc"]) - 1, False
    for position, step in enumerate(detail["loc"]):
        fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        # the tag of {"type": "function", "function": …}: pydantic's name, not a key of the body
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


def describe_error(detail: ErrorDetails) -> str | None:
    """Describe the error in plain words; None for error types that JSON values cannot cause."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _LENGTH_WORDINGS:
        text, unit = _LENGTH_WORDINGS[kind]
        count = context.get("min_length", context.get("max_length"))
        return f"{text} {count} {unit}{'' if count == 1 else 's'}"
    if kind in _WORDING_TEMPLATES:
        whole = {name: int(value) for name, value in context.items() if isinstance(value, float) and value.is_integer()}
        return _WORDING_TEMPLATES[kind].format_map({**context, **whole})
    return _WORDINGS.get(kind)


def parse_schema(schema: Mapping[str, Any], param: str) -> Schema:
    """Parse the schema that an answer must match. Raises InvalidRequest (`invalid_json_schema`)."""
    try:
        return Schema(schema)
    except InvalidSchema as error:
        raise invalid_schema(str(error), param) from None


def invalid_schema(why: str, param: str) -> InvalidRequest:
    """Return the error for an unusable schema."""
    return InvalidRequest(f"The JSON Schema cannot be used: {why}.", param=param, code="invalid_json_schema")


def check_tools(tools: Sequence[tuple[str, Tool]], schema: str = "parameters") -> list[Tool]:
    """Return the tools, each given with the path of its name. Raises InvalidRequest if two have the same name.

    Also raises for parameter schemas with unresolvable references; `schema` is the API's key for the parameter schema.
    """
    if not tools:
        return []
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"At most {MAX_TOOLS} tools can be given.", param="tools", code="invalid_value")
    seen: set[str] = set()
    for param, tool in tools:
        if tool.name in seen:
            raise InvalidRequest("Each tool needs a name of its own.", param=param, code="invalid_value")
        seen.add(tool.name)
    check_parameters(
        [
            (f"{param.removesuffix('name')}{schema}", tool.parameters)
            for param, tool in tools
            if isinstance(tool, FunctionTool)
        ]
    )
    return [tool for _, tool in tools]


def check_parameters(schemas: Iterable[tuple[str, Mapping[str, Any] | None]]) -> None:
    """Check the tools' parameter schemas, each given with its path. Raises InvalidRequest (`invalid_json_schema`).

    Only references are checked: the rest of a schema is up to the agent and its model.
    """
    budget: WorkBudget | None = None
    for param, schema in schemas:
        if schema is None or not _may_have_references(schema):
            continue
        budget = budget or WorkBudget()
        try:
            References(dict(schema), budget, strict=False)
        except InvalidSchema as error:
            raise invalid_schema(str(error), param) from None


def _may_have_references(schema: object) -> bool:
    """True if the schema may contain a reference: a fast check, as most schemas have none."""
    waiting: list[Any] = [schema]
    while waiting:
        item = waiting.pop()
        if item.__class__ is dict:
            if not item.keys().isdisjoint(REFERENCES):
                return True
            waiting.extend(item.values())
        elif item.__class__ is list:
            waiting.extend(item)
    return False


def dumps(value: Any) -> bytes:
    """Encode `value` as strict JSON: lone surrogates, which UTF-8 cannot carry, become U+FFFD; NaN becomes null."""
    try:
        # Encoding almost always succeeds: searching for surrogates first would cost more than the encoding.
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError:
        return to_json(_without_surrogates(value), inf_nan_mode="null")


def dump_texts(texts: list[str]) -> list[bytes]:
    """Encode each of `texts` as `dumps` does, but several times faster for many texts."""
    try:
        return list(map(str.encode, map(encode_basestring, texts)))  # no Python-level call per text
    except UnicodeEncodeError:  # a lone surrogate
        return [dumps(text) for text in texts]


def stored_json(value: Any) -> str:
    """Encode `value` as ASCII JSON, which any database can store: NUL and lone surrogates are escaped. NaN becomes null."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(from_json(to_json(_without_surrogates(value), inf_nan_mode="null")), separators=(",", ":"))


def from_stored_json(text: str) -> Any:
    """Decode a `text` that `stored_json` wrote."""
    return json.loads(text)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        # Surrogate pairs are not joined here: halves cut by an agent have been joined already (`utf16`), and for any others
        # a stream must send the same as the plain response.
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        fields = cast("dict[Any, Any]", value)
        return {_without_surrogates(key): _without_surrogates(item) for key, item in fields.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in cast("list[Any]", value)]
    return value


def sse(value: Any) -> bytes:
    """Return `value` as a server-sent event."""
    # No `event:` line: several chat clients fail on a stream that has one.
    return b"data: " + dumps(value) + b"\n\n"


def is_json_object(text: str) -> bool:
    """True if `text` is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def is_same_json(one: str, other: str) -> bool:
    """True if two texts are equal as JSON, regardless of formatting."""
    try:
        return json.dumps(json.loads(one), sort_keys=True) == json.dumps(json.loads(other), sort_keys=True)
    except (ValueError, RecursionError):
        return False


def is_json(value: object, *, finite: bool = False) -> bool:
    """True if JSON can carry a value: exactly if `finite`, otherwise with NaN as null and bytes as text."""
    try:
        return _is_json(value, finite)
    except RecursionError:  # nested far too deeply, or contains itself
        return False


def _is_json(value: object, finite: bool) -> bool:
    if value is None or isinstance(value, str | int):
        return True
    if isinstance(value, float):
        return not finite or math.isfinite(value)
    if isinstance(value, bytes):  # MessagePack can carry them
        return not finite
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return all([isinstance(key, str) and _is_json(each, finite) for key, each in pairs])
    return isinstance(value, list | tuple) and all([_is_json(each, finite) for each in cast("list[object]", value)])
