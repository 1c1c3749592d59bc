"""An agent made from a bare model and tools passes the conformance suite."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from openai_compat import AgentRequest, ToolCallReady
from openai_compat.messages import ToolMessage
from openai_compat.testing import Conformance
from openai_compat.tools import ToolLoop, tool


@tool(danger="safe")
def clock() -> str:
    return "noon"


async def model(request: AgentRequest) -> AsyncIterator[str | ToolCallReady]:
    if "explode" in request.prompt:
        raise RuntimeError("boom")
    last = request.messages[-1]
    if isinstance(last, ToolMessage):
        yield f"It is {last.text}."
    elif theirs := sorted(request.tool_choice.names - {"clock"}):
        yield ToolCallReady("call_1", theirs[0], json.dumps({"city": "Oslo"}))
    else:
        yield "Let me see. "
        yield ToolCallReady("call_1", "clock", "{}")


class TestLoop(Conformance):
    tool_prompt = "What is the weather in Oslo?"
    failing_prompt = "explode"
    agent = ToolLoop(model, [clock])
