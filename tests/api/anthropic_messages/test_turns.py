"""Turns over the Messages API: failures, approvals, and threads."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from openai_compat import (
    Admission,
    AgentError,
    AgentRequest,
    Conversations,
    Deadlines,
    Finished,
    Limits,
    MemoryStore,
    Paused,
    PendingCall,
    Principal,
    ReasoningDelta,
    RefusalDelta,
    ToolCallReady,
)
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.errors import Unavailable
from openai_compat.messages import ToolMessage
from openai_compat.turns.slots import SlotRequest
from openai_compat.wire.anthropic_messages.serialize import FILTERED
from tests.api.anthropic_messages.support import SAID, Seen, refusal, send, serve
from tests.requirements import requirement
from tests.support.exchanges import Recorder
from tests.trust.probe import soon
from tests.wire.anthropic_messages.reading import check_order, fold_stream, parse_stream

pytestmark = pytest.mark.anyio

TOOL: dict[str, Any] = {"name": "find", "input_schema": {"type": "object"}}


@requirement("anthropic.once")
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("said", [["Half"], [ReasoningDelta("Hm")], [ToolCallReady("c", "find", "{}")], []])
async def test_a_stream_that_fails_has_a_whole_block_before_the_error(said: list[Any], kept: bool) -> None:
    runs: list[str] = []
    sent, again = Recorder(), Recorder()

    async def agent(prompt: str) -> AsyncIterator[Any]:
        runs.append(prompt)
        for item in said:
            yield item
        await soon(lambda: (again if len(runs) > 1 else sent).begun)  # the head of the stream
        raise AgentError("It broke.", code="broken")

    settings: dict[str, Any] = {"conversations": Conversations()} if kept else {}
    server = serve(agent, deadlines=Deadlines(head=0.005, heartbeat=0.005), **settings)
    session = (b"x-claude-code-session-id", b"s1")
    await send(server, session, to=sent, stream=True, tools=[TOOL], thinking={"type": "adaptive"})
    names = [event["type"] for event in parse_stream(sent.data) if event["type"] != "ping"]
    assert names[-2:] == ["content_block_stop", "error"]
    assert b"tool_use" not in sent.data
    await send(server, session, to=again, stream=True)  # the conversation is unlocked
    assert (again.status, len(runs)) == (200, 2)


@requirement("anthropic.once")
@pytest.mark.parametrize("said", [["Done."], [ToolCallReady("c", "find", "{}")]])
async def test_an_answer_that_cannot_be_kept_has_a_whole_block_and_no_call_before_the_error(said: list[Any]) -> None:
    class Full(MemoryStore):
        async def commit(self, outcome: Any) -> bool:
            raise Unavailable("The disk is full.", code="store_unavailable")

    sent = Recorder()

    async def agent(prompt: str) -> AsyncIterator[Any]:
        for item in said:
            yield item
        await soon(lambda: sent.begun)  # the head of the stream

    server = serve(agent, store=Full(), deadlines=Deadlines(head=0.005, heartbeat=0.005))
    await send(server, to=sent, stream=True, tools=[TOOL], thread={"type": "create"})
    events = [event for event in parse_stream(sent.data) if event["type"] != "ping"]
    assert [event["type"] for event in events][-2:] == ["content_block_stop", "error"]
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [0]
    assert b"tool_use" not in sent.data


@requirement("anthropic.once")
async def test_an_overloaded_model_behind_an_agent_is_no_529() -> None:
    async def agent(prompt: str) -> str:
        raise AgentError("Too much.", status=529)

    for kept in ({}, {"conversations": Conversations()}):
        sent = await send(serve(agent, **kept))
        assert refusal(sent)[:2] == (503, "api_error")
        assert sent.headers["x-should-retry"] == "false"


@requirement("anthropic.once")
@pytest.mark.parametrize("status", [400, 404, 422])
async def test_claude_code_is_not_told_that_its_request_is_wrong_once_the_agent_has_run(status: int) -> None:
    async def agent(prompt: str) -> str:
        raise AgentError("No.", status=status, should_retry=True if prompt == "again" else None)

    session, again = (b"x-claude-code-session-id", b"s1"), [{"role": "user", "content": "again"}]
    for kept in ({}, {"conversations": Conversations()}):
        server = serve(agent, **kept)
        assert refusal(await send(server, session))[0] == 424
        assert refusal(await send(server, session, messages=again))[0] == status
        assert refusal(await send(server))[0] == status
        assert refusal(await send(server, session, messages=[]))[0] == 400


async def test_a_conversation_that_is_too_long_is_told_in_claude_codes_words() -> None:
    async def agent(prompt: str) -> str:
        raise AgentError.upstream(400, too_long=True)

    for headers in ((), ((b"x-claude-code-session-id", b"s1"),)):
        sent = await send(serve(agent), *headers)
        assert sent.status == 400
        assert refusal(sent)[3].startswith("prompt is too long")


async def approving(request: AgentRequest) -> AsyncIterator[Any]:
    if request.resume is None:
        yield Paused((PendingCall("c1", "rm", '{"file": "a"}', "approval"),), {"at": 1})
    else:
        yield "done" if request.resume.decisions["c1"].approved else "left alone"


@requirement("anthropic.sdk")
@pytest.mark.parametrize(("word", "outcome"), [("yes", "done"), ("No.", "left alone"), ("always", "done")])
async def test_people_decide_in_words_and_once(word: str, outcome: str) -> None:
    server = serve(approving)
    asked = (await send(server)).json
    assert (asked["stop_reason"], asked["content"][0]["text"][:8]) == ("end_turn", "May I ru")
    reminder = {"type": "text", "text": "<system-reminder>x</system-reminder>"}
    decided = [
        *SAID,
        {"role": "assistant", "content": asked["content"]},
        {"role": "user", "content": [reminder, {"type": "text", "text": word}]},
        {"role": "system", "content": "Skills."},
    ]
    assert (await send(server, messages=decided)).json["content"][0]["text"] == outcome
    assert refusal(await send(server, messages=decided))[2] == "approval_decided"


async def test_a_client_with_a_tool_for_it_is_asked_by_a_call() -> None:
    server, tools = serve(approving), [{"name": "request_approval", "input_schema": {"type": "object"}}]
    asked = (await send(server, tools=tools)).json
    (call,) = asked["content"]
    assert (asked["stop_reason"], call["name"], call["input"]["tool"]) == ("tool_use", "request_approval", "rm")
    decided = {"type": "tool_result", "tool_use_id": call["id"], "content": '{"decision": "allow-once"}'}
    conversation = [
        *SAID,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [decided]},
    ]
    assert (await send(server, tools=tools, messages=conversation)).json["content"][0]["text"] == "done"


async def test_a_slot_that_is_not_free_is_told_in_words_where_that_is_wanted() -> None:
    busy = serve(Seen(), limits=Limits(slots=1), admission=Admission(busy="Later, please."))
    async with await busy.services.live.slots.take(SlotRequest(1, "agent", "anonymous")):
        for stream in (False, True):
            sent = await send(busy, stream=stream)
            message = fold_stream(parse_stream(sent.data)) if stream else sent.json
            assert message["content"] == [{"type": "text", "text": "Later, please."}]


@requirement("anthropic.order")
async def test_own_tools_are_blocks_for_those_who_know_them() -> None:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        from openai_compat import ToolResult

        yield ToolCallReady("o", "look", '{"a": 1}')
        yield ToolResult("o", "found")
        yield "Found."

    stable = await send(serve(agent))
    assert [block["type"] for block in stable.json["content"]] == ["text"]
    for query, headers in (("beta=true", ()), ("", ((b"anthropic-beta", b"a,mcp-client-2025-11-20"),))):
        sent = await send(serve(agent), *headers, query=query, stream=True)
        events = parse_stream(sent.data)
        check_order(events)
        assert [b["type"] for b in fold_stream(events)["content"]] == ["mcp_tool_use", "mcp_tool_result", "text"]
    with pytest.raises(ValueError, match="own_tools"):
        AnthropicMessages(own_tools="status")


@requirement("anthropic.once")
@pytest.mark.parametrize(
    ("item", "texts"), [(RefusalDelta("No."), ["So: ", "No."]), (Finished("content_filter"), ["So: ", FILTERED])]
)
async def test_claude_code_is_told_a_refusal_in_words_alone(item: Any, texts: list[str]) -> None:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        yield "So: "
        yield item

    server = serve(agent)
    assert (await send(server)).json["stop_reason"] == "refusal"
    for stream in (False, True):
        sent = await send(server, (b"x-claude-code-session-id", b"s1"), stream=stream)
        told = fold_stream(parse_stream(sent.data)) if stream else sent.json
        assert told["stop_reason"] == "end_turn"
        assert "".join([block["text"] for block in told["content"]]) == "".join(texts)


@requirement("anthropic.once")
async def test_no_answer_for_claude_code_is_cut_by_an_estimate() -> None:
    limits: list[int | None] = []

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        limits.append(request.sampling.max_tokens)
        yield "word " * 20
        if request.prompt == "half":
            yield Finished("length")

    server, session = serve(agent), (b"x-claude-code-session-id", b"s1")
    cut = (await send(server, max_tokens=10)).json
    assert (cut["stop_reason"], len(cut["content"][0]["text"])) == ("max_tokens", 40)
    for stream in (False, True):
        sent = await send(server, session, max_tokens=10, stream=stream)
        told = fold_stream(parse_stream(sent.data)) if stream else sent.json
        assert (told["stop_reason"], told["content"][0]["text"]) == ("end_turn", "word " * 20)
    assert limits == [10, 10, 10]
    # the agent's own text is shown
    half = [{"role": "user", "content": "half"}]
    assert (await send(server, session, max_tokens=10, messages=half)).json["stop_reason"] == "max_tokens"


# threads

KEYS = {"a": Principal("ann"), "b": Principal("bob")}
ANN, BOB = (b"x-api-key", b"a"), (b"x-api-key", b"b")


def after(message: Any) -> dict[str, Any]:
    return {"type": "continue", "previous_message_id": message["id"]}


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return {} if request.param == "memory" else {"store": f"sqlite:///{tmp_path}/state.db"}


@requirement("anthropic.threads")
async def test_a_thread_has_its_words_tools_and_instructions_and_is_gone_on_from_once(store: Any) -> None:
    seen = Seen()
    server = serve(seen, keys=KEYS, **store)
    async with server.lifespan():
        first = await send(server, ANN, thread={"type": "create"}, tools=[TOOL], system="Be brief.")
        again = {"messages": [{"role": "user", "content": "and?"}], "thread": after(first.json)}
        second = await send(server, ANN, **again)
        assert second.status == 200, second.text
        assert [message.text for message in seen[1].messages] == ["Be brief.", "hi", "answer 1", "and?"]
        assert [tool.name for tool in seen[1].tools] == ["find"]
        twice = await send(server, ANN, **again)
        assert refusal(twice)[:3] == (400, "invalid_request_error", "thread_already_continued")
        theirs = await send(server, BOB, thread=after(second.json))
        assert refusal(theirs)[:3] == (404, "not_found_error", "thread_not_found")
        third = await send(server, ANN, stream=True, thread=after(second.json))
        check_order(parse_stream(third.data))
        assert len(seen[2].messages) == 6


@requirement("anthropic.threads")
async def test_a_turn_that_fails_leaves_the_thread_as_it_was(store: Any) -> None:
    told: list[AgentRequest] = []

    async def agent(request: AgentRequest) -> str:
        told.append(request)
        if len(told) == 2:
            raise AgentError("It broke.")
        return "said"

    server = serve(agent, **store)
    async with server.lifespan():
        first = (await send(server, thread={"type": "create"})).json
        assert (await send(server, thread=after(first))).status == 500
        assert (await send(server, thread=after(first))).status == 200
        assert len(told[2].messages) == 3


@requirement("anthropic.threads")
async def test_a_thread_that_is_continued_now_is_not_continued_beside_that() -> None:
    begun, go_on = anyio.Event(), anyio.Event()

    async def agent(prompt: str) -> str:
        if prompt == "wait":
            begun.set()
            await go_on.wait()
        return "said"

    server = serve(agent)
    first = (await send(server, thread={"type": "create"})).json
    waiting = [{"role": "user", "content": "wait"}]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: send(server, messages=waiting, thread=after(first)))
        await begun.wait()
        beside = await send(server, thread=after(first))
        assert refusal(beside)[2] == "thread_continue_in_flight"
        go_on.set()


@requirement("anthropic.threads")
async def test_results_in_a_thread_belong_to_the_calls_before_it() -> None:
    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        if request.resume is None:
            yield ToolCallReady("c1", "find", "{}")
        else:
            result = request.messages[-1]
            assert isinstance(result, ToolMessage)
            yield f"{result.name}: {result.text}"

    server = serve(agent)
    first = (await send(server, thread={"type": "create"}, tools=[TOOL])).json
    result = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "x"}]}]
    told = (await send(server, messages=result, thread=after(first))).json
    assert told["content"][0]["text"] == "find: x"
    assert refusal(await send(server, thread=after({"id": "msg_unknown"})))[2] == "thread_not_found"
    assert json.dumps(told)
