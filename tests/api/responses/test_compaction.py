"""Conversations are compacted in time, for agents that declare a context window."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from openai_compat import (
    AgentRequest,
    Capabilities,
    Compaction,
    Conversations,
    ToolCallReady,
    ToolResult,
    UsageReported,
)
from openai_compat.backend import RunContext
from tests.connecting import Connect, in_process
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

LONG = "word " * 160


class Short:
    """Has a context window of about 400 tokens; summarizes when asked to."""

    capabilities = Capabilities(context_window=400)

    def __init__(self) -> None:
        self.said: list[list[str]] = []
        self.purposes: list[str] = []

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        self.said.append([m["content"] for m in request.raw_messages])
        self.purposes.append(request.purpose)
        yield UsageReported(1, 1)
        yield "they spoke of words" if request.purpose == "summary" else "ok"


@requirement("compaction")
async def test_a_summary_takes_the_place_of_what_was_said_and_is_kept_with_the_conversation(connect: Connect) -> None:
    agent = Short()
    async with connect(agent, conversations=Conversations()) as client:
        for text in (LONG, LONG, "three"):
            chat: Any = [{"role": "user", "content": text}]
            await client.chat.completions.create(model="agent", messages=chat, extra_headers={"X-Conversation-Id": "c"})
        items = (await client.conversations.items.list("c", order="asc")).data

    summary = "Summary of the conversation so far:\n\nthey spoke of words"
    assert agent.said[-2] == [summary, LONG]
    assert agent.said[-1] == [summary, LONG, "ok", "three"]
    kinds = [item.type for item in items]
    assert kinds == ["message", "message", "message", "compaction", "message", "message", "message"]


@requirement("compaction")
async def test_a_response_shows_its_compaction_and_the_chain_goes_on_from_it(connect: Connect) -> None:
    agent = Short()
    async with connect(agent) as client:
        first = await client.responses.create(model="agent", input=LONG)
        second = await client.responses.create(model="agent", input=LONG, previous_response_id=first.id)
        third = await client.responses.create(model="agent", input="three", previous_response_id=second.id)

    assert [item.type for item in second.output] == ["compaction", "message"]
    assert second.usage is not None
    assert second.usage.total_tokens == 4
    assert third.output_text == "ok"
    assert len(agent.said) == 4


@requirement("compaction")
@in_process
async def test_somebody_else_may_write_the_summary(connect: Connect) -> None:
    def summarise(request: AgentRequest) -> str:
        return f"{len(request.messages)} messages"

    agent = Short()
    said: Any = [{"role": "user", "content": LONG}, {"role": "assistant", "content": LONG}]
    async with connect(agent, compaction=Compaction(summarise=summarise)) as client:
        await client.chat.completions.create(model="agent", messages=[*said, {"role": "user", "content": "now"}])

    assert agent.said == [["Summary of the conversation so far:\n\n2 messages", "now"]]


@requirement("compaction")
@in_process
async def test_long_results_of_tools_are_cut_first(connect: Connect) -> None:
    agent = Short()
    call: Any = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said: Any = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": LONG * 5},
        {"role": "assistant", "content": "seen"},
        {"role": "user", "content": "now"},
    ]
    async with connect(agent, compaction=Compaction(results=10)) as client:
        await client.chat.completions.create(model="agent", messages=said)

    assert agent.said[0][2] == LONG[:40] + "\n[The rest of this result was left out to make room.]"
    assert len(agent.said) == 1


@requirement("compaction")
@in_process
async def test_a_server_may_leave_conversations_as_they_are(connect: Connect) -> None:
    agent = Short()
    said: Any = [{"role": "user", "content": LONG}, {"role": "assistant", "content": LONG}]
    async with connect(agent, compaction=None) as client:
        await client.chat.completions.create(model="agent", messages=[*said, {"role": "user", "content": "now"}])

    assert agent.said == [[LONG, LONG, "now"]]


@requirement("compaction.told")
@in_process
async def test_an_agent_can_tell_a_request_for_a_summary_from_a_persons_message(connect: Connect) -> None:
    agent = Short()
    async with connect(agent) as client:
        first = await client.responses.create(model="agent", input=LONG)
        await client.responses.create(model="agent", input=LONG, previous_response_id=first.id)
        await client.responses.compact(model="agent", input="Summarise the conversation so far.")

    assert agent.purposes == ["answer", "summary", "answer", "summary"]


class Looking(Short):
    """Looks something up before it summarizes."""

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        self.said.append([m["content"] for m in request.raw_messages])
        yield "Let me see."
        yield ToolCallReady("c", "look", "{}")
        yield ToolResult("c", "words")
        yield "They spoke of words."


@requirement("chat.message-break")
@in_process
async def test_a_summary_that_is_two_messages_has_a_blank_line_between_them(connect: Connect) -> None:
    agent, wanted = Looking(), "Summary of the conversation so far:\n\nLet me see.\n\nThey spoke of words."
    async with connect(agent) as client:
        first = await client.responses.create(model="agent", input=LONG)
        await client.responses.create(model="agent", input=LONG, previous_response_id=first.id)
        assert agent.said[-1] == [wanted, LONG]
        made = await client.responses.compact(model="agent", input="hi")
        again: Any = [*[item.model_dump() for item in made.output], {"role": "user", "content": "more"}]
        await client.responses.create(model="agent", input=again)
    assert wanted in agent.said[-1]
