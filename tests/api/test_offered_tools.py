"""Clients offer tools to every agent: one that cannot call them answers without, unless a call is required."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openai_compat import as_backend
from tests.connecting import Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO

pytestmark = pytest.mark.anyio

FUNCTION = {"name": "look", "parameters": {"type": "object", "properties": {}}}
CHAT_TOOL = {"type": "function", "function": FUNCTION}
RESPONSE_TOOL = {"type": "function", **FUNCTION}
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
AGENTS: list[Any] = [lambda prompt: prompt, lambda messages: messages[-1]["content"]]


@requirement("tools.unseen")
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}])
@in_process
async def test_tools_for_an_agent_that_takes_none_are_no_error(
    http: Http, agent: Any, stream: bool, choice: dict[str, Any]
) -> None:
    assert not as_backend(agent).capabilities.client_tools
    async with http({"agent": agent}) as client:
        fields = {"model": "agent", "stream": stream, **choice}
        chat = await client.post(CHAT, json={**fields, "messages": HELLO, "tools": [CHAT_TOOL]})
        response = await client.post(RESPONSES, json={**fields, "input": "Hello", "tools": [RESPONSE_TOOL]})
    assert (chat.status_code, response.status_code) == (200, 200)
    assert "Hello" in chat.text
    assert "Hello" in response.text


@requirement("tools.unseen")
@pytest.mark.parametrize("agent", AGENTS)
@in_process
async def test_a_call_that_is_required_of_an_agent_that_can_call_none_is_a_400(http: Http, agent: Any) -> None:
    named = {"type": "function", "function": {"name": "look"}}
    async with http({"agent": agent}) as client:
        for choice in ("required", named):
            body = {"model": "agent", "messages": HELLO, "tools": [CHAT_TOOL], "tool_choice": choice}
            chat = await client.post(CHAT, json=body)
            flat = choice if choice == "required" else {"type": "function", "name": "look"}
            body = {"model": "agent", "input": "Hello", "tools": [RESPONSE_TOOL], "tool_choice": flat}
            response = await client.post(RESPONSES, json=body)
            for answer in (chat, response):
                error = answer.json()["error"]
                assert (answer.status_code, error["param"]) == (400, "tool_choice")
                assert error["code"] == "unsupported_parameter"


@requirement("tools.unseen")
def test_the_pages_say_so() -> None:
    docs = Path(__file__).parents[2] / "docs"
    link = "decisions.md#offered-tools-that-an-agent-ignores-are-not-an-error"
    for page in ("agents.md", "responses.md"):
        assert link in (docs / "reference" / page).read_text("utf-8")
