"""OpenAI's Agents SDK as a client: `python agents_client.py BASE_URL` prints the results of its cases as JSON.

With the extra argument `killed` it tests a server that is killed in mid-stream: it prints "begun" when the server may be
killed, and continues when it reads a line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx2
from agents import (
    Agent,
    HostedMCPTool,
    OpenAIConversationsSession,
    OpenAIResponsesModel,
    OpenAIResponsesWSModel,
    Runner,
    RunState,
    function_tool,
    set_tracing_disabled,
)
from agents.items import MCPApprovalRequestItem, ToolCallItem
from openai import APIConnectionError, APIError, AsyncOpenAI
from pydantic import BaseModel

client = AsyncOpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=20)
APPROVER: Any = {
    "type": "mcp",
    "server_label": "careful",
    "server_url": "https://example.org",
    "require_approval": "always",
}


class Person(BaseModel):
    name: str
    age: int


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def agent(name: str, **options: Any) -> Any:
    """An agent of the Agents SDK whose model is the served agent."""
    return Agent(name=name, model=OpenAIResponsesModel(name, client), **options)


async def run(started: Any, said: Any, **options: Any) -> Any:
    """Run to the end, plain and streamed: both must have the same result, and the text must come in pieces."""
    plain = await Runner.run(started, said, **options)
    streamed = Runner.run_streamed(started, said, **options)
    pieces = [event.data.delta async for event in streamed.stream_events() if is_text(event)]
    assert streamed.final_output == plain.final_output, (streamed.final_output, plain.final_output)
    assert pieces
    return plain


def is_text(event: Any) -> bool:
    return event.type == "raw_response_event" and event.data.type == "response.output_text.delta"


async def tools() -> Any:
    """The SDK runs its function and sends the whole conversation again with the result."""
    found = await run(agent("weather", tools=[weather], instructions="Be brief."), "And now?")
    return {"text": found.final_output, "items": [item.type for item in found.new_items]}


async def tools_with_previous_response() -> Any:
    """The SDK sends only the result: the server knows the rest."""
    found = await run(agent("weather", tools=[weather]), "And now?", auto_previous_response_id=True)
    return found.final_output


async def previous_response() -> Any:
    first = await Runner.run(agent("echo"), "one")
    second = await run(agent("echo"), "two", previous_response_id=first.last_response_id)
    return second.final_output


async def conversation() -> Any:
    """A conversation stored on the server, with a tool call in it."""
    kept = (await client.conversations.create()).id
    await Runner.run(agent("weather", tools=[weather]), "And now?", conversation_id=kept)
    found = await Runner.run(agent("weather", tools=[weather]), "And then?", conversation_id=kept)
    return [found.final_output, [item.type async for item in client.conversations.items.list(kept, order="asc")]]


async def session() -> Any:
    """The SDK keeps its history in a conversation, and sends that history with each turn."""
    kept = OpenAIConversationsSession(openai_client=client)
    await Runner.run(agent("weather", tools=[weather]), "And now?", session=kept)
    found = await Runner.run(agent("weather", tools=[weather]), "And then?", session=kept)
    items = await kept.get_items()
    last = await kept.pop_item()
    left = await kept.get_items()
    await kept.clear_session()
    return [found.final_output, [item["type"] for item in items], items[:-1] == left, items[-1] == last]


async def own_tools() -> Any:
    """The served agent's own tool calls are shown, and not run by the client."""
    found = await run(agent("searcher", tools=[weather]), "Where is it?")
    calls = [item.raw_item for item in found.new_items if isinstance(item, ToolCallItem)]
    return [found.final_output, [[call.type, call.name, call.output] for call in calls]]


async def structured() -> Any:
    return (await run(agent("person", output_type=Person), "Who?")).final_output.model_dump()


async def interruption(approve: bool, **options: Any) -> Any:
    """The run stops; its state is saved as JSON; it resumes with the user's decision."""
    careful = agent("careful", tools=[HostedMCPTool(tool_config=APPROVER)])
    stopped = await Runner.run(careful, "Clean up", **options)
    (asked,) = stopped.interruptions
    state = await RunState.from_string(careful, stopped.to_state().to_string())
    (pending,) = state.get_interruptions()
    if approve:
        state.approve(pending)
    else:
        state.reject(pending)
    found = await Runner.run(careful, state, **options)
    return [asked.raw_item.name, asked.raw_item.arguments, found.final_output]


async def callback() -> Any:
    """A function decides, in the middle of a streamed run."""
    seen = []

    def decide(request: Any) -> Any:
        seen.append([request.data.name, request.data.server_label])
        return {"approve": True}

    tool = HostedMCPTool(tool_config=APPROVER, on_approval_request=decide)
    found = Runner.run_streamed(agent("careful", tools=[tool]), "Clean up")
    items = [event.item async for event in found.stream_events() if event.type == "run_item_stream_event"]
    return [seen, sum(isinstance(item, MCPApprovalRequestItem) for item in items), found.final_output]


async def websocket() -> Any:
    """Turns with tools over one WebSocket, each continuing the one before."""
    model = OpenAIResponsesWSModel("weather", client)
    try:
        talker: Any = Agent(name="weather", model=model, tools=[weather])
        first = await Runner.run(talker, "And now?")
        streamed = Runner.run_streamed(talker, "And then?", previous_response_id=first.last_response_id)
        pieces = [event.data.delta async for event in streamed.stream_events() if is_text(event)]
        assert "".join(pieces) == streamed.final_output
        return [first.final_output, streamed.final_output]
    finally:
        await model.close()


async def fails() -> Any:
    said = []
    found = Runner.run_streamed(agent("breaks"), "Now")
    try:
        async for event in found.stream_events():
            if is_text(event):
                said.append(event.data.delta)
    except APIError as error:
        return ["".join(said), error.message]
    return "no error"


async def killed() -> Any:
    """The chain continues from the last complete response."""
    first = await Runner.run(agent("echo"), "one")
    broken = Runner.run_streamed(agent("waiting"), "nobody", previous_response_id=first.last_response_id)
    broke = False
    try:
        async for event in broken.stream_events():
            if is_text(event):
                print("begun", flush=True)
    except (APIConnectionError, httpx2.TransportError):
        broke = True
    await asyncio.to_thread(sys.stdin.readline)
    found = await Runner.run(agent("echo"), "two", previous_response_id=first.last_response_id)
    return {"broke": broke, "text": found.final_output}


CASES = {
    "tools": tools,
    "tools with previous_response_id": tools_with_previous_response,
    "previous_response_id": previous_response,
    "conversation": conversation,
    "session": session,
    "own tools": own_tools,
    "structured": structured,
    "approved": lambda: interruption(True),
    "rejected": lambda: interruption(False),
    "approved with previous_response_id": lambda: interruption(True, auto_previous_response_id=True),
    "callback": callback,
    "websocket": websocket,
    "fails": fails,
}


async def main() -> None:
    set_tracing_disabled(True)
    found = await killed() if "killed" in sys.argv else {name: await case() for name, case in CASES.items()}
    await client.close()
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
