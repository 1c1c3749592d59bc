"""The reference page of the chat REST API matches the code."""

from __future__ import annotations

import dataclasses
from typing import get_args

from openai_compat import ChatRest
from openai_compat.api.chat_rest.routes import ROUTES
from openai_compat.wire.chat_rest import types as wire
from openai_compat.wire.chat_rest.serialize_agentic import EVENTS
from tests.docs.test_reference import described, name, table, words

PAGE = "chat-rest.md"


def fields(*requests: type[wire.CamelModel]) -> set[str]:
    return {str(field.alias) for request in requests for field in request.model_fields.values()}


def test_every_request_is_in_the_table_and_every_one_in_the_table_is_there() -> None:
    listed = [name(row[0]) for row in table(PAGE, "request")]
    assert sorted(listed) == sorted([f"{method} {route.shown_path}" for route in ROUTES for method in route.operations])


def test_every_event_is_in_the_table_in_its_order() -> None:
    assert tuple([name(row[0]) for row in table(PAGE, "type")]) == EVENTS


def test_every_field_of_a_turn_and_of_a_decision_is_in_its_table() -> None:
    turns = (wire.CompletionsRequest, wire.QuickRequest, wire.ToolMessageRequest, wire.AgenticRequest)
    assert {name(row[0]) for row in table(PAGE, "field")} == fields(*turns)
    assert {name(row[0]) for row in table(PAGE, "field", 1)} == fields(wire.ApproveRequest)


def test_every_setting_is_described() -> None:
    assert described(ChatRest, "Attributes") == {field.name for field in dataclasses.fields(ChatRest)}


def test_every_finish_reason_is_named() -> None:

    assert all(f"`{reason}`" in words(f"docs/reference/{PAGE}") for reason in get_args(wire.FinishReason))
