"""Tools in namespaces, and tools with deferred results, are called by the names that the client knows."""

from __future__ import annotations

import itertools
from typing import Any

from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter

from openai_compat.agent_request import Caller
from openai_compat.events import ToolCallDelta, ToolCallReady, ToolCallStarted
from openai_compat.messages import ToolMessage
from openai_compat.wire.responses.parse.request import ParsedResponse, parse_response, with_context
from tests.support.responses_stream import told

FIND = {"type": "function", "name": "find", "parameters": {"type": "object"}}
SPACE = {"type": "namespace", "name": "files", "description": "d", "tools": [FIND, {"type": "custom", "name": "write"}]}


def parse_request(*items: Any, **fields: Any) -> ParsedResponse:
    numbers = itertools.count(100)
    body = {"model": "agent", "input": [{"role": "user", "content": "hi"}, *items], **fields}
    return parse_response(body, Caller(), lambda prefix: f"{prefix}{next(numbers)}")


def call_tools(request: ParsedResponse, *names: str) -> list[dict[str, Any]]:
    """Return the output items of an answer that calls these tools of the client."""
    events: list[Any] = []
    for number, name in enumerate(names):
        call_id = f"call_{number}"
        events += [ToolCallStarted(call_id, name, "client"), ToolCallDelta(call_id, "{}")]
        events.append(ToolCallReady(call_id, name, "{}", "client"))
    _, stream = told(
        *events,
        custom_tools=request.tools.custom,
        namespaces=request.tools.namespaces,
        deferred_tools=request.tools.deferred,
    )
    items: list[dict[str, Any]] = stream.response()["output"]
    for item in items:
        TypeAdapter[Any](ResponseOutputItem).validate_python(item, strict=True)
    return items


def test_a_tool_of_a_namespace_is_called_by_its_name_there_and_answered() -> None:
    request = parse_request(tools=[FIND, SPACE])
    names = [tool.name for tool in request.request.tools]
    items = call_tools(request, *names)
    shown = [(item["type"], item["name"], item.get("namespace")) for item in items]
    assert shown == [
        ("function_call", "find", None),
        ("function_call", "find", "files"),
        ("custom_tool_call", "write", "files"),
    ]
    outputs = [{"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "ok"} for item in items]
    answered = with_context(parse_request(*items, *outputs, tools=[FIND, SPACE]), [])
    results = [message for message in answered.request.messages if isinstance(message, ToolMessage)]
    assert [message.name for message in results] == names


def test_a_call_of_a_tool_that_may_answer_later_says_so_and_need_not_be_answered() -> None:
    later: dict[str, Any] = {**FIND, "async": True}
    items = call_tools(parse_request(tools=[later]), "find")
    assert items[0]["async"] is True
    request = parse_request(*items, {"role": "user", "content": "and?"}, tools=[later])
    assert with_context(request, []).request.prompt == "and?"
    result = {"type": "function_call_output", "call_id": "call_0", "output": "found"}
    resumed = with_context(
        parse_request(*items, {"role": "user", "content": "and?"}, result, tools=[later]), []
    ).request
    assert resumed.messages[-1] == ToolMessage("call_0", "found", "find")
    assert resumed.resume is not None
