"""Values of JSON to checked wire models, and what is wrong with them in OpenAI's words and our own: pydantic's speak of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import InvalidRequest

Model = TypeVar("Model", bound=BaseModel)

MAX_PARAM = 120
"""Longest `param` in characters: keys come from the client and may be long or secret."""

_UNION_TAGS = ("union_tag_invalid", "union_tag_not_found")
_TYPE_ERRORS = ("_type", "_parsing", "int_from_float", "finite_number")

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
