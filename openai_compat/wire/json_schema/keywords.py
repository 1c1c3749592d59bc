"""The keywords of JSON Schema: which of them contain schemas, and which values each keyword accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

TYPES = frozenset(["array", "boolean", "integer", "null", "number", "object", "string"])
REFERENCES = frozenset(["$ref", "$dynamicRef", "$recursiveRef"])

SAME_VALUE_KEYWORDS = frozenset(
    ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"]
)
"""Keywords whose schemas apply to the same value; those of other keywords apply to parts of it, or only when referenced."""

_ONE_SCHEMA = frozenset(
    [
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
_SCHEMA_LIST = frozenset(["allOf", "anyOf", "oneOf", "prefixItems", "items"])
_NAMED_SCHEMAS = frozenset(
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"]
)
SCHEMA_KEYWORDS = _ONE_SCHEMA | _SCHEMA_LIST | _NAMED_SCHEMAS


def is_schema(value: object) -> bool:
    """True if the value has the form of a schema."""
    return isinstance(value, dict | bool)


def schemas_of(keyword: str, value: object) -> Sequence[tuple[str, Any]]:
    """Return the schemas in the value of a keyword from SCHEMA_KEYWORDS, each with its place."""
    if isinstance(value, list) and keyword in _SCHEMA_LIST:
        return [(f"{keyword}/{index}", inner) for index, inner in enumerate(cast("list[Any]", value))]
    if isinstance(value, dict) and keyword in _NAMED_SCHEMAS:
        named = cast("dict[str, Any]", value).items()
        return [(f"{keyword}/{name}", inner) for name, inner in named if keyword != "dependencies" or is_schema(inner)]
    return [(keyword, cast("Any", value))] if keyword in _ONE_SCHEMA else ()


def is_number(value: object) -> bool:
    """True for a JSON number; booleans are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_integer(value: object) -> bool:
    """True for a whole number, including floats like 1.0."""
    return value.is_integer() if isinstance(value, float) else isinstance(value, int) and not isinstance(value, bool)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all([isinstance(one, str) for one in cast("list[object]", value)])


def _is_type(value: object) -> bool:
    if isinstance(value, list):
        names = cast("list[object]", value)
        return bool(names) and all([isinstance(name, str) and name in TYPES for name in names])
    return isinstance(value, str) and value in TYPES


FORMS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ["$id", "$schema", "$anchor", "$dynamicAnchor", *REFERENCES, "pattern"],
        (lambda value: isinstance(value, str), "text"),
    ),
    **dict.fromkeys(["maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"], (is_number, "a number")),
    **dict.fromkeys(
        [
            "maxLength",
            "minLength",
            "maxItems",
            "minItems",
            "maxContains",
            "minContains",
            "maxProperties",
            "minProperties",
        ],
        (lambda value: is_integer(value) and value >= 0, "a whole number from 0"),
    ),
    **dict.fromkeys(
        [*(_SCHEMA_LIST - _ONE_SCHEMA)], (lambda value: isinstance(value, list) and value != [], "a list of schemas")
    ),
    **dict.fromkeys([*_NAMED_SCHEMAS], (lambda value: isinstance(value, dict), "an object of schemas")),
    "type": (_is_type, "the name of a type, or a list of them"),
    "enum": (lambda value: isinstance(value, list), "a list"),
    "multipleOf": (lambda value: is_number(value) and value > 0, "a number above 0"),
    "required": (_are_texts, "a list of names"),
    "dependentRequired": (
        lambda value: isinstance(value, dict) and all(map(_are_texts, cast("dict[str, object]", value).values())),
        "an object of lists of names",
    ),
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
}
"""The form required of a keyword's value, and its description for errors."""
