"""Parses `POST /v1/decisions` into questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from ...errors import InvalidRequest
from ...messages import ImagePart, Message, UserMessage
from ..items.parse import input_parts, parse_items
from ..json import check_length, parse_object, validate
from .questions import DecisionInput, DecisionQuestion, Option
from .request_types import (
    MAX_QUESTIONS,
    ChoiceParam,
    DecisionCallParam,
    DecisionItem,
    DecisionMessageParam,
    DecisionOutputParam,
    DecisionRequest,
    PredicateParam,
    ScoreParam,
)

MAX_ITEMS = 10_000
"""A body within its size limit may hold millions of items; reading them would block the event loop."""


def parse_decision(body: bytes) -> tuple[str, DecisionInput]:
    """Return the model and the input for its decide function. Raises InvalidRequest with the `param` at fault."""
    raw = parse_object(body)
    check_length("input items", raw.get("input"), MAX_ITEMS)
    check_length("questions", raw.get("questions"), MAX_QUESTIONS)
    wire = validate(DecisionRequest, raw)
    questions = tuple([_to_question(param, f"questions[{index}]") for index, param in enumerate(wire.questions)])
    asked = DecisionInput(messages=_parse_input(wire.input), questions=questions, user=wire.safety_identifier)
    return wire.model, asked


def check_decision_input(asked: DecisionInput, takes: frozenset[str]) -> None:
    """Raise InvalidRequest if the input has images but the decide function accepts only text."""
    if "messages" not in takes and asked.has_pictures:
        raise InvalidRequest("This model takes texts, not pictures.", param="input", code="unsupported_value")


def _parse_input(given: str | Sequence[DecisionItem]) -> tuple[Message, ...]:
    if isinstance(given, str):
        given = [DecisionMessageParam(type="message", role="user", content=given)]
    called: set[str] = set()
    for index, item in enumerate(given):
        if isinstance(item, DecisionCallParam):
            called.add(item.call_id)
        elif isinstance(item, DecisionOutputParam) and item.call_id not in called:
            text = "Each output must have the 'call_id' of a call before it."
            raise InvalidRequest(text, param=f"input[{index}].call_id", code="invalid_value")
    return parse_items([_to_item(item) for item in given])


def _to_item(item: DecisionItem) -> dict[str, Any]:
    fields: dict[str, Any] = item.model_dump(exclude_none=True)
    for name in ("content", "output"):
        if isinstance(fields.get(name), list):
            fields[name] = [_to_input_part(part) for part in fields[name]]
    return fields


def _to_input_part(part: dict[str, Any]) -> dict[str, Any]:
    """Convert a part to the Responses API's format, in which JSON objects become text."""
    if part["type"] != "input_json":
        return part
    return {"type": "input_text", "text": to_json(part["data"]).decode()}


def _to_question(param: PredicateParam | ChoiceParam | ScoreParam, where: str) -> DecisionQuestion:
    asked = param.instructions
    parts = input_parts(asked if isinstance(asked, str) else [_to_input_part(part.model_dump()) for part in asked])
    match param:
        case PredicateParam():
            options: list[tuple[Option, str | None]] = []
        case ChoiceParam():
            options = [(each.value, each.description) for each in param.choices]
        case ScoreParam():
            options = [(each.label, each.description) for each in param.levels]
    if len({option for option, _ in options}) != len(options):
        place = f"{where}.{'choices' if param.type == 'choice' else 'levels'}"
        raise InvalidRequest("Each of them must be another one.", param=place, code="invalid_value")
    return DecisionQuestion(
        kind=param.type,
        instructions=UserMessage(parts).text,
        options=tuple([option for option, _ in options]),
        descriptions={option: text for option, text in options if text is not None},
        name=param.name,
        images=tuple([part for part in parts if isinstance(part, ImagePart)]),
    )
