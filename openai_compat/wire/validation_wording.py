"""Validation errors in our own words: those of pydantic speak of classes and validation."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import ErrorDetails

_PLAIN: Mapping[str, str] = {
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
_WITH_BOUNDS: Mapping[str, str] = {
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
_COUNTED: Mapping[str, tuple[str, str]] = {
    "too_short": ("should have at least", "item"),
    "too_long": ("should have at most", "item"),
    "string_too_short": ("should have at least", "character"),
    "string_too_long": ("should have at most", "character"),
}


def in_words(detail: ErrorDetails) -> str | None:
    """The error in words; None for errors that values of JSON do not have."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _COUNTED:
        text, unit = _COUNTED[kind]
        count = context.get("min_length", context.get("max_length"))
        return f"{text} {count} {unit}{'' if count == 1 else 's'}"
    if kind in _WITH_BOUNDS:
        whole = {name: int(value) for name, value in context.items() if isinstance(value, float) and value.is_integer()}
        return _WITH_BOUNDS[kind].format_map({**context, **whole})
    return _PLAIN.get(kind)
