"""Every generated request is accepted, and every generated list of events is answered."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from hypothesis import find, given, settings

from openai_compat import Capabilities, Server
from openai_compat.testing import Answer, ScriptedBackend
from openai_compat.testing.client_call import Call, http_request
from openai_compat.testing.strategies import chat_requests, event_lists
from openai_compat.testing.target import as_target
from openai_compat.wire.chat.parse import check_capabilities, parse_chat

FEW = settings(max_examples=60, deadline=None)
ONLY_TEXT = Capabilities(client_tools=False, vision=False, structured_output=False)
TOOL = {"type": "function", "function": {"name": "weather"}}


def answer(backend: ScriptedBackend, body: dict[str, Any]) -> Answer:
    async def ask() -> Answer:
        with anyio.fail_after(20):
            async with Call(as_target(Server(backend)), http_request("POST", "/v1/chat/completions", body)) as call:
                return await call.read_all()

    return anyio.run(ask)


@given(chat_requests(model="m"))
@FEW
def test_every_request_is_valid(body: dict[str, Any]) -> None:
    parsed = parse_chat(json.dumps(body).encode())
    check_capabilities(parsed.request, Capabilities())
    assert parsed.request.model == "m"


@given(chat_requests(capabilities=ONLY_TEXT))
@FEW
def test_no_request_asks_for_more_than_the_capabilities(body: dict[str, Any]) -> None:
    check_capabilities(parse_chat(json.dumps(body).encode()).request, ONLY_TEXT)
    assert "tools" not in body


@given(chat_requests())
@settings(max_examples=25, deadline=None)
def test_every_request_is_answered(body: dict[str, Any]) -> None:
    got = answer(ScriptedBackend(["ok"]), body)
    assert got.status == 200
    assert got.is_stream == body.get("stream", False)


@given(event_lists(client_tools=["weather"]))
@FEW
def test_every_list_of_events_is_answered_alike_streamed_and_plain(events: list[Any]) -> None:
    body = {"model": "agent", "messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]}
    plain, streamed = (answer(ScriptedBackend(events), body | {"stream": stream}) for stream in (False, True))
    assert (plain.status, streamed.status, streamed.error) == (200, 200, {})
    for key in ("content", "reasoning_content", "refusal"):
        assert plain.said(key) == streamed.said(key)
    assert plain.finish_reasons == streamed.finish_reasons
    assert [call["arguments"] for call in plain.tool_calls] == [call["arguments"] for call in streamed.tool_calls]


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("tools", lambda body: "tools" in body),
        ("streams", lambda body: body.get("stream") is True),
        ("tool results", lambda body: any(message["role"] == "tool" for message in body["messages"])),
        ("pictures", lambda body: "image_url" in str(body["messages"])),
    ],
)
def test_requests_come_in_every_kind(kind: str, found: Any) -> None:
    assert found(find(chat_requests(), found))
