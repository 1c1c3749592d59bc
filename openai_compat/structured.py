"""Whether an answer is the JSON that its request asked for (`text.format`, `response_format`).

JSON Schema is checked with the `jsonschema` package, if it is there (`pip install "openai-compat[structured]"`);
without it only whether the answer is JSON. `pattern` and `format` are never checked: a regular expression from a client
could keep the whole server busy.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from .backend import AgentRequest
from .errors import InvalidRequest
from .messages import AssistantMessage, TextPart, UserMessage
from .serializers.history import chat_message

UNCHECKED = ("pattern", "patternProperties", "format")


class OutputFormat:
    """What an answer must look like. Raises InvalidRequest for a schema that is none; `param` is where it was sent."""

    def __init__(self, wanted: Mapping[str, Any], param: str) -> None:
        self._validator = _validator(wanted, param) if wanted.get("type") == "json_schema" else None

    def problem(self, text: str) -> str | None:
        """What is wrong with an answer, for the agent to read; None if nothing is."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return "It is not valid JSON."
        if self._validator is None:
            return None if isinstance(value, dict) else "It is not a JSON object."
        try:
            error = next(iter(self._validator.iter_errors(value)), None)
        except Exception:  # an unresolvable reference, or one without end
            return "It cannot be checked against the schema."
        return None if error is None else f"At {error.json_path}: {error.message}"[:500]


def _validator(wanted: Mapping[str, Any], param: str) -> Any:
    schema = cast("Mapping[str, Any]", wanted.get("json_schema") or {}).get("schema")
    kind = _kind()
    if schema is None or kind is None:
        return None
    try:
        kind.check_schema(schema)
        next(iter(kind(schema).iter_errors(None)), None)  # references that lead nowhere or in circles
    except Exception:
        raise InvalidRequest(
            "The schema is not a valid JSON Schema.", param=param, code="invalid_json_schema"
        ) from None
    return kind(schema)


@functools.cache
def _kind() -> Any:
    """The validator class, None without the package."""
    try:
        from jsonschema import Draft202012Validator, validators  # noqa: PLC0415  (an optional package, and a slow import)
    except ImportError:
        return None
    make: Any = validators.extend  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return make(Draft202012Validator, dict.fromkeys(UNCHECKED, _unchecked))


def _unchecked(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    pass


def repair(request: AgentRequest, text: str, problem: str) -> AgentRequest:
    """The same request once more, after an answer that was not what it asked for."""
    asked = f"Your answer does not have the required form. {problem} Answer again, with the JSON alone."
    more = (AssistantMessage((TextPart(text),)), UserMessage((TextPart(asked),)))
    raw = [*request.raw_messages, *[chat_message(message) for message in more]]
    return replace(request, messages=(*request.messages, *more), raw_messages=raw, resume=None)
