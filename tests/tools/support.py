"""Shared helpers of the tool tests: turns as the server runs them, and their output."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import anyio

from openai_compat import AgentBackend, AgentRequest, RunContext, ToolCallReady
from openai_compat.agent_request import Decision, Resume
from openai_compat.events import Paused, TextDelta, ToolResult
from openai_compat.messages import ToolMessage
from openai_compat.turns.event_contract import EventContract
from openai_compat.wire.chat.parse import parse_chat


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def request_for(prompt: str | list[Any] = "Hello", **fields: Any) -> AgentRequest:
    """Return the agent's request for a chat body, made by the server's own parser."""
    messages = [user(prompt)] if isinstance(prompt, str) else prompt
    return parse_chat(json.dumps({"model": "agent", "messages": messages, **fields}).encode()).request


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


def new_context() -> RunContext:
    return RunContext("chatcmpl-1", "req_1", time.monotonic() + 60, logging.getLogger("openai_compat"))


async def run(backend: AgentBackend, request: AgentRequest | None = None) -> list[Any]:
    """Return the events of a turn after the event contract, with adjacent text joined."""
    asked = request or request_for()
    enforcer = EventContract(asked, counts_tokens=backend.capabilities.counts_tokens)
    said: list[Any] = []
    with anyio.fail_after(30):
        async with aclosing(cast("Any", backend.run(asked, new_context()))) as items:
            async for item in items:
                said += enforcer.feed(item)
    return _joined(said + enforcer.end())


def _joined(events: list[Any]) -> list[Any]:
    joined: list[Any] = []
    for event in events:
        if isinstance(event, TextDelta) and joined and isinstance(joined[-1], TextDelta):
            joined[-1] = TextDelta(joined[-1].text + event.text)
        else:
            joined.append(event)
    return joined


def results(events: list[Any]) -> list[ToolResult]:
    return [event for event in events if isinstance(event, ToolResult)]


def text(events: list[Any]) -> str:
    return "".join([event.text for event in events if isinstance(event, TextDelta)])


def call(call_id: str, name: str, **arguments: Any) -> ToolCallReady:
    return ToolCallReady(call_id, name, json.dumps(arguments))


def after(
    request: AgentRequest,
    paused: Paused,
    *,
    decisions: Mapping[str, Decision] | None = None,
    client: Mapping[str, str] | None = None,
) -> AgentRequest:
    """Return the request that resumes a paused turn, with its state passed through JSON."""
    state = json.loads(json.dumps(paused.state))
    messages = {call_id: ToolMessage(call_id, said, "") for call_id, said in (client or {}).items()}
    return replace(request, resume=Resume(messages, decisions or {}, state))
