"""Every API handles an agent that splits an emoji in two, as JavaScript does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openai_compat import ChatRest, ReasoningDelta, RefusalDelta, Server, ToolCallDelta, ToolCallReady, ToolCallStarted
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says

pytestmark = [pytest.mark.anyio, in_process]

FIRST, SECOND, SMILE, LOST = "\ud83d", "\ude00", "\U0001f600", "\ufffd"
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "look"}},
    {"type": "custom", "custom": {"name": "code"}},
]
PIECES = [("a" + FIRST, SECOND + "b", f"a{SMILE}b"), (SECOND, FIRST, LOST + LOST), ("a" + FIRST, "b", f"a{LOST}b")]


@requirement("text.halves")
@pytest.mark.parametrize(("one", "other", "text"), PIECES)
async def test_text_is_whole_in_every_api(http: Http, one: str, other: str, text: str) -> None:
    server = Server({"together": Says(one, other), "apart": Says(one, other, paced=True)}, chat_rest=ChatRest())
    async with http(server) as client:
        for model in ("together", "apart"):
            chat = {"model": model, "messages": HELLO}
            for path, body in (
                ("/v1/chat/completions", chat),
                ("/v1/completions", {"model": model, "prompt": "Hello"}),
                ("/v1/responses", {"model": model, "input": "Hello"}),
                ("/api/chat/completions", chat),
            ):
                plain = await client.post(path, json=body)
                assert text in json.dumps(plain.json(), ensure_ascii=False), path
                streamed = await client.post(path, json=body | {"stream": True})
                assert streamed.text.count(SMILE) == (0 if SMILE not in text else streamed.text.count(f"{SMILE}b"))
                assert (LOST in streamed.text) is (LOST in text), path


@requirement("text.halves")
async def test_thoughts_refusals_and_arguments_are_whole(connect: Connect) -> None:
    agent = Says(
        ReasoningDelta(FIRST),
        ReasoningDelta(SECOND),
        RefusalDelta(FIRST),
        RefusalDelta(SECOND),
        ToolCallStarted("1", "look"),
        ToolCallDelta("1", '"' + FIRST),
        ToolCallDelta("1", SECOND + '"'),
        ToolCallReady("2", "code", FIRST + SECOND),
    )
    async with connect(agent) as client:
        plain = await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS)
        stream = await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS, stream=True)
        deltas: list[Any] = [chunk.choices[0].delta.to_dict() async for chunk in stream]
    calls = [piece for delta in deltas for piece in delta.get("tool_calls", [])]
    message: Any = plain.choices[0].message.to_dict()
    assert message["reasoning_content"] == message["refusal"] == SMILE
    assert [call.get("function") or call["custom"] for call in message["tool_calls"]] == [
        {"name": "look", "arguments": f'"{SMILE}"'},
        {"name": "code", "input": SMILE},
    ]
    for key in ("reasoning_content", "refusal"):
        assert "".join([delta.get(key) or "" for delta in deltas]) == SMILE
    assert "".join([call.get("function", {}).get("arguments", "") for call in calls]) == f'"{SMILE}"'
    assert "".join([call.get("custom", {}).get("input", "") for call in calls]) == SMILE
