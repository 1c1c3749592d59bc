"""Turns over the chat WebSocket without a socket: streamed, stored, stopped, superseded, resumed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from openai_compat import (
    AgentError,
    AgentRequest,
    ChatWebSocket,
    Conversations,
    Deadlines,
    MediaDelta,
    MessageBreak,
    Paused,
    PendingCall,
    Principal,
    Progress,
    Rates,
    ReasoningDelta,
    Resume,
    Server,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.policies.chat_rest import ChatRest
from openai_compat.testing import ScriptedBackend
from openai_compat.tools import AskLater, ToolLoop
from openai_compat_adapters.transport import AsyncTransport
from openai_compat_adapters.websocket import Refused
from tests.api.chat_websocket.client import Gate, chat, echo, server_of, text, types
from tests.loops import anyio_backend as anyio_backend
from tests.requirements import requirement

pytestmark = pytest.mark.anyio


async def said(server: Server, thread: str = "t", principal: str = "anonymous") -> list[str]:
    """The roles in a stored conversation."""
    from openai_compat.stores.port import Key

    found = await server.services.state.store.read(Key(principal, thread))
    return [] if found is None else [json.loads(item.body).get("role", "?") for item in found.items]


@requirement("chatws.turn")
async def test_a_turn_is_chunks_the_last_of_them_done_and_then_the_whole_message() -> None:
    async with chat(server_of(echo)) as client:
        frames = await client.ask("hello")
        assert types(frames) == ["chat_turn_active", "chunk", "chunk", "chunk", "message"]
        assert [frame["done"] for frame in frames[1:-1]] == [False, False, True]
        assert text(frames) == frames[-1]["content"] == "heard: hello"
        assert (frames[-1]["role"], frames[-1]["model"]) == ("assistant", "agent")
        assert {frame["thread_id"] for frame in frames} == {"t"}
        assert [frame["chat_seq"] for frame in frames] == [1, 2, 3, 4, 5]
        again = await client.ask("more")
        assert [frame["chat_seq"] for frame in again] == [6, 7, 8, 9, 10]
        assert again[-1]["content"] == "heard: hello / heard: hello / more"


@requirement("chatws.thread")
async def test_a_thread_is_made_where_none_is_named_and_each_frame_tells_which() -> None:
    server = server_of(echo)
    async with chat(server) as client:
        frames = await client.ask("hello", thread_id=None)
        (thread,) = {frame["thread_id"] for frame in frames}
        assert thread.startswith("thread_")
        assert (await client.ask("more", thread_id=thread))[-1]["content"].endswith("heard: hello / more")
        assert await said(server, thread) == ["user", "assistant"] * 2


async def test_both_the_bare_message_and_the_command_with_its_data_are_understood() -> None:
    async with chat(server_of(lambda prompt: f"heard: {prompt}")) as client:
        for frame in (
            {"role": "user", "content": "a"},
            {"type": "message", "role": "user", "content": "a"},
            {"command": "chat_message", "data": {"type": "message", "role": "user", "content": "a", "graph": None}},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
        ):
            await client.send(**frame)
            assert (await client.until())[-1]["content"] == "heard: a"


@requirement("chatws.encoding")
async def test_each_frame_is_answered_in_its_own_encoding() -> None:  # 35
    async with chat(server_of(echo)) as client:
        await client.raw(b"\xc1")  # before any good frame
        assert await client.error() == (400, "invalid_frame", None)
        await client.raw("{")
        assert (await client.error())[0] == 400
        assert client.kinds == [bytes, str]
        for binary, kind in ((True, bytes), (False, str)):
            client.binary = binary
            client.kinds.clear()
            await client.ask("hello")
            await client.pong()
            assert set(client.kinds) == {kind}


async def test_the_mode_can_be_set_for_all_that_comes() -> None:
    async with chat(server_of(echo)) as client:
        await client.send(command="set_mode", data={"mode": "binary"})
        assert await client.receive() == {"type": "set_mode", "mode": "binary"}
        await client.ask("hello")
        assert set(client.kinds) == {bytes}
        await client.send(type="set_mode", mode="shouted")
        assert await client.error() == (400, "invalid_value", "mode")


async def test_media_are_bytes_in_messagepack_and_base64_in_json() -> None:
    async def painter(prompt: str) -> AsyncIterator[Any]:
        yield ReasoningDelta("hm")
        yield MediaDelta(b"\x00\xffpng", "image/png")
        yield "one"
        yield MessageBreak()
        yield "two"
        yield UsageReported(3, 4)

    async with chat(server_of(painter)) as client:
        frames = await client.ask("paint")
        assert frames[1] == {**frames[1], "content": "hm", "thinking": True}
        assert (frames[2]["content_type"], frames[2]["content"]) == ("image", "AP9wbmc=")
        assert frames[2]["content_metadata"] == {"mime_type": "image/png"}
        assert frames[-1]["content"] == "one\n\ntwo"
        assert frames[-1]["usage"]["total_tokens"] == 7
        client.binary = True
        assert (await client.ask("paint"))[2]["content"] == b"\x00\xffpng"


async def test_pictures_can_be_sent_as_bytes() -> None:
    seen: list[Any] = []

    def agent(messages: list[dict[str, Any]]) -> str:
        seen.append(messages[-1]["content"])
        return "seen"

    async with chat(server_of(agent), binary=True) as client:
        parts = [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image": {"type": "image", "data": b"\x00\xff", "mimeType": "image/jpeg"}},
            {"type": "image_url", "image": {"type": "image", "uri": "https://x.example/cat.png"}},
            {"type": "audio", "audio": {"data": b"\x01", "mimeType": "audio/mp3"}},
            {"type": "document", "document": {"data": b"%PDF"}},
        ]
        assert (await client.ask(parts))[-1]["content"] == "seen"
        assert seen[0][1]["image_url"]["url"] == "data:image/jpeg;base64,AP8="
        assert seen[0][2]["image_url"]["url"] == "https://x.example/cat.png"
        assert seen[0][3]["input_audio"] == {"data": "AQ==", "format": "mp3"}
        assert seen[0][4]["file"]["file_data"] == "data:application/pdf;base64,JVBERg=="
        await client.say([{"type": "image_url", "image": {}}])
        assert await client.error() == (400, "invalid_value", "content[0].image")


@requirement("chatws.bad_frames")
@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        ("", "invalid_request", None),
        ("{", "invalid_request", None),
        ("[]", "invalid_request", None),
        ("7", "invalid_request", None),
        ("{}", "missing_required_parameter", "type"),
        ('{"type": 7}', "invalid_value", "type"),
        ('{"type": "nope", "role": "user"}', "invalid_value", "type"),
        ('{"command": "chat_message", "data": []}', "invalid_type", "data"),
        ('{"role": "user"}', "missing_required_parameter", "content"),
        ('{"content": "x"}', "missing_required_parameter", "role"),
        ('{"role": "wizard", "content": "x"}', "invalid_value", "role"),
        ('{"role": "user", "content": 7}', "invalid_type", "content"),
        ('{"role": "user", "content": [7]}', "invalid_type", "content[0]"),
        ('{"role": "user", "content": [{"type": "smell"}]}', "invalid_value", "content[0].type"),
        ('{"role": "user", "content": "x", "thread_id": ""}', "invalid_value", "thread_id"),
        ('{"role": "user", "content": "x", "thread_id": "a\\u0000b"}', "invalid_value", "thread_id"),
        ('{"role": "user", "content": "x", "thread_id": 7}', "invalid_type", "thread_id"),
        ('{"role": "user", "content": "x", "temperature": 99}', "invalid_value", "temperature"),
        ('{"role": "user", "content": "x", "tools": [7]}', "invalid_type", "tools[0].name"),
        ('{"role": "user", "content": "x", "workflow_id": "nope"}', "workflow_not_found", "workflow_id"),
        ('{"type": "stop"}', "missing_required_parameter", "thread_id"),
        ('{"type": "client_tools_manifest", "tools": [{}]}', "missing_required_parameter", "tools[0].name"),
        ('{"type": "client_tools_manifest"}', "missing_required_parameter", "tools"),
        ('{"type": "tool_result", "tool_call_id": "x", "ok": true}', "tool_call_not_found", "tool_call_id"),
        ('{"type": "tool_result"}', "missing_required_parameter", "tool_call_id"),
        ('{"type": "approval_response", "approval_id": "x", "decision": "deny"}', "approval_not_found", "approval_id"),
        ('{"type": "approval_response", "approval_id": "x", "decision": "maybe"}', "invalid_value", "decision"),
        ('{"type": "resume_chat", "last_seq": 3}', "missing_required_parameter", "thread_id"),
        ('{"type": "resume_chat", "thread_id": "t", "last_seq": "3"}', "invalid_type", "last_seq"),
    ],
)
async def test_a_malformed_frame_is_a_typed_error_and_the_connection_lives(
    frame: str, code: str, param: str | None
) -> None:  # 50
    server = server_of(echo)
    async with chat(server) as client:
        await client.raw(frame)
        status, *rest = await client.error()
        assert rest == [code, param]
        assert status in (400, 404)
        assert await said(server) == []
        assert (await client.ask("still here"))[-1]["content"] == "heard: still here"


async def test_a_model_that_is_not_there_is_told_and_the_first_one_is_the_default() -> None:
    async with chat(server_of({"a": lambda prompt: "from a", "p/b": lambda prompt: "from b"})) as client:
        await client.say("x", model="nope")
        assert await client.error() == (404, "model_not_found", "model")
        assert (await client.ask("x"))[-1]["content"] == "from a"
        assert (await client.ask("x", model="b", provider="p"))[-1]["content"] == "from b"
        assert (await client.ask("x"))[-1]["content"] == "from b"


@requirement("chatws.failure")
async def test_an_agent_that_fails_leaves_nothing_behind_and_its_text_is_not_shown() -> None:  # 57
    async def agent(messages: list[dict[str, Any]]) -> AsyncIterator[str]:
        if messages[-1]["content"] == "fail":
            yield "half"
            raise RuntimeError("secret")
        if messages[-1]["content"] == "decline":
            raise AgentError("Not today.", status=409, code="not_today")
        yield str(len(messages))

    server = server_of(agent)
    async with chat(server) as client:
        frames = await client.ask("fail")
        assert types(frames) == ["chat_turn_active", "chunk", "error"]
        assert "secret" not in json.dumps(frames)
        assert (frames[-1]["status"], frames[-1]["thread_id"], frames[-1]["chat_seq"]) == (500, "t", 3)
        assert (await client.ask("decline"))[-1]["error"]["code"] == "not_today"
        assert await said(server) == []
        assert (await client.ask("x"))[-1]["content"] == "1"


@requirement("chatws.stop")
async def test_a_stopped_turn_says_so_once_and_leaves_no_message_dangling() -> None:
    gate = Gate()
    server = server_of(gate)
    async with chat(server) as client, chat(server) as other:
        await client.say("wait a")
        await gate.waits("a")
        await other.send(type="stop", thread_id="t")
        assert (await other.receive())["type"] == "generation_stopped"
        frames = await client.until()
        assert frames[-1] == {**frames[-1], "type": "generation_stopped", "reason": "stop", "thread_id": "t"}
        await gate.until(lambda: gate.ended == ["a"])
        assert await client.pong() == []
        assert await said(server) == []
        await client.send(type="stop")  # nothing runs: a reply about the last thread
        assert (await client.receive())["thread_id"] == "t"
        assert await client.pong() == []


@requirement("chatws.supersede")
async def test_a_new_message_takes_the_place_of_the_running_turn_whose_frames_end_before() -> None:  # 56
    gate = Gate()
    server = server_of(gate)
    async with chat(server) as client:
        await client.say("wait a")
        await gate.waits("a")
        await client.say("b")
        old, new = await client.until("generation_stopped"), await client.until("message")
        assert old[-1]["reason"] == "superseded"
        assert types(new) == ["chat_turn_active", "chunk", "chunk", "message"]
        assert new[-1]["content"] == "b"
        assert [frame["chat_seq"] for frame in old + new] == list(range(1, len(old + new) + 1))
        assert (gate.ended, await said(server)) == (["a"], ["user", "assistant"])


async def test_of_many_messages_at_once_the_last_one_is_answered() -> None:
    gate = Gate()
    async with chat(server_of(gate)) as client:
        for name in "abcd":
            await client.say(f"wait {name}")
        await gate.waits("d")
        gate.doors["d"].set()
        frames = await client.until("message")
        assert frames[-1]["content"].endswith("wait d")
        assert types(frames).count("generation_stopped") == 3


async def test_messages_can_wait_for_their_turn_instead() -> None:
    gate = Gate()
    server = server_of(gate, ChatWebSocket(busy="queue"))
    async with chat(server) as client:
        await client.say("wait a")
        await gate.waits("a")
        await client.say("b")
        await client.pong()
        gate.doors["a"].set()
        assert (await client.until())[-1]["content"] == "[a]wait a"
        assert (await client.until())[-1]["content"] == "b"
        assert await said(server) == ["user", "assistant"] * 2


async def test_or_be_refused() -> None:
    gate = Gate()
    async with chat(server_of(gate, ChatWebSocket(busy="reject"))) as client:
        await client.say("wait a")
        await gate.waits("a")
        await client.say("b")
        frames = await client.until("error")
        assert (frames[-1]["error"]["code"], frames[-1]["thread_id"]) == ("conversation_busy", "t")
        assert "chat_seq" not in frames[-1]
        gate.doors["a"].set()
        assert (await client.until())[-1]["content"] == "[a]wait a"


async def test_too_many_waiting_messages_are_refused() -> None:
    gate = Gate()
    async with chat(server_of(gate, ChatWebSocket(busy="queue"))) as client:
        await client.say("wait a")
        await gate.waits("a")
        for _ in range(17):
            await client.say("b")
        assert (await client.until("error"))[-1]["error"]["code"] == "conversation_busy"


async def test_threads_run_side_by_side() -> None:
    gate = Gate()
    async with chat(server_of(gate)) as client:
        await client.say("wait a", thread_id="1")
        await client.say("wait b", thread_id="2")
        await gate.waits("a", "b")
        await client.send(type="list_chat_turns")
        *active, listed = await client.until("chat_turns")
        assert sorted(listed["turns"]) == ["1", "2"]
        assert {f["thread_id"]: f["last_seq"] for f in active if "last_seq" in f} == {"1": 2, "2": 2}
        gate.doors["b"].set()
        assert (await client.until())[-1]["thread_id"] == "2"
        gate.doors["a"].set()
        assert (await client.until())[-1]["thread_id"] == "1"


# connections that come and go


@requirement("chatws.detach")
async def test_a_turn_outlives_its_connection_and_is_told_to_the_next_one() -> None:
    gate = Gate()
    server = server_of(gate)
    async with chat(server) as client:
        await client.say("wait a")
        await gate.waits("a")
        await client.until("chunk")
    async with chat(server) as client:
        await client.send(type="resume_chat", thread_id="t", last_seq=2)
        header = await client.receive()
        assert header == {
            "type": "chat_resumed",
            "thread_id": "t",
            "status": "running",
            "last_seq": 2,
            "replay_count": 0,
            "replay_incomplete": False,
        }
        gate.doors["a"].set()
        assert [frame["chat_seq"] for frame in await client.until()] == [3, 4, 5]


async def test_a_page_that_has_shown_nothing_gets_what_no_history_has() -> None:
    gate = Gate()
    server = server_of(gate)
    async with chat(server) as client:
        await client.ask("first")
        await client.say("wait a")
        await gate.waits("a")
    async with chat(server) as client:
        await client.send(type="resume_chat", thread_id="t", last_seq=0)
        assert (await client.receive())["replay_count"] == 2
        gate.doors["a"].set()
        frames = await client.until("message")
        assert types(frames) == ["chat_turn_active", "chunk", "chunk", "chunk", "message"]
    async with chat(server) as client:
        await client.send(type="resume_chat", thread_id="t")
        header = await client.receive()
        assert (header["status"], header["replay_count"]) == ("finished", 0)
        assert await client.pong() == []


@requirement("chatws.resume")
async def test_a_turn_that_has_ended_is_told_again_and_a_gap_is_told() -> None:
    server = server_of(lambda prompt: iter("abcdefgh"), ChatWebSocket(ring=4))
    async with chat(server) as client:
        frames = await client.ask()
    async with chat(server) as client:
        await client.send(type="resume_chat", thread_id="t", last_seq=8)
        header = await client.receive()
        assert (header["status"], header["replay_count"], header["replay_incomplete"]) == ("finished", 3, False)
        assert await client.until() == frames[-3:]
        await client.send(type="resume_chat", thread_id="t", last_seq=1)
        header = await client.receive()
        assert (header["replay_count"], header["replay_incomplete"]) == (4, True)
        assert await client.until() == frames[-4:]
        await client.send(type="resume_chat", thread_id="t", last_seq=999)  # from an earlier life of the server
        assert (await client.receive())["replay_incomplete"] is True
        await client.until()
        await client.send(type="resume_chat", thread_id="other", last_seq=3)
        header = await client.receive()
        assert (header["status"], header["replay_incomplete"]) == ("unknown", True)


async def test_what_has_ended_is_forgotten_after_a_while() -> None:
    server = server_of(echo, ChatWebSocket(replay=0))
    async with chat(server) as client:
        await client.ask()
    async with chat(server) as client:
        await client.send(type="resume_chat", thread_id="t", last_seq=1)
        assert (await client.receive())["status"] == "unknown"


async def test_a_turn_that_nobody_follows_is_stopped_after_a_while() -> None:
    gate = Gate()
    server = server_of(gate, ChatWebSocket(grace=0))
    async with chat(server) as client:
        await client.say("wait a")
        await gate.waits("a")
    await gate.until(lambda: gate.ended == ["a"])
    async with chat(server) as client:
        await client.send(type="resume_chat", thread_id="t", last_seq=2)
        frames = await client.until()
        assert frames[-1]["reason"] == "abandoned"
        assert await said(server) == []


async def test_a_second_connection_keeps_a_turn_alive_when_the_first_one_leaves() -> None:
    gate = Gate()
    server = server_of(gate, ChatWebSocket(grace=0))
    async with chat(server) as second:
        async with chat(server) as first:
            await first.say("wait a")
            await gate.waits("a")
            await second.send(type="resume_chat", thread_id="t", last_seq=2)
            await second.receive()
        gate.doors["a"].set()
        assert (await second.until())[-1]["content"] == "[a]wait a"


@requirement("chatws.owner")
async def test_threads_belong_to_principals() -> None:
    gate = Gate()
    keys = {"one": Principal("alice"), "two": Principal("bob")}
    server = server_of(gate, keys=keys)
    async with chat(server, query="api_key=one") as alice, chat(server, authorization="Bearer two") as bob:
        await alice.say("wait a")
        await gate.waits("a")
        await bob.send(type="resume_chat", thread_id="t", last_seq=1)
        assert (await bob.receive())["status"] == "unknown"
        await bob.send(type="list_chat_turns")
        assert (await bob.receive())["turns"] == []
        await bob.send(type="stop", thread_id="t")
        await bob.receive()
        assert (await bob.ask("hello"))[-1]["content"] == "hello"
        gate.doors["a"].set()
        assert (await alice.until())[-1]["content"] == "[a]wait a"
        assert await said(server, principal="alice") == await said(server, principal="bob") == ["user", "assistant"]


async def test_a_connection_follows_the_last_threads_that_it_used() -> None:
    server = server_of(echo)
    async with chat(server) as client, chat(server) as other:
        for number in range(120):
            await client.ask(thread_id=str(number))
        await other.ask(thread_id="0")
        assert await client.pong() == []
        await other.ask(thread_id="119")
        assert (await client.until())[-1]["thread_id"] == "119"


# tools


TOOL = {"name": "where", "description": "Where the user is.", "parameters": {"type": "object", "properties": {}}}


async def traveller(request: AgentRequest) -> AsyncIterator[Any]:
    """Calls the client's tool for its location, if the client offers it."""
    if request.resume is None:
        yield "Let me see. "
        yield ToolCallReady("call_1", "where", '{"exact": true}')
    else:
        yield "You are in " + request.resume.results["call_1"].text


@requirement("chatws.client_tools")
async def test_a_tool_of_the_clients_answers_within_the_same_turn_from_any_connection() -> None:
    server = server_of(traveller)
    async with chat(server) as client, chat(server) as other:
        await client.send(type="client_tools_manifest", tools=[TOOL])
        await client.say("where am I?")
        frames = await client.until("tool_call")
        assert frames[-1] == {**frames[-1], "tool_call_id": "call_1", "name": "where", "args": {"exact": True}}
        assert frames[-2]["tool_calls"] == [{"id": "call_1", "name": "where", "args": {"exact": True}}]
        await other.send(type="tool_result", tool_call_id="call_1", ok=True, result="Lisbon")
        frames = await client.until("message")
        assert (frames[0]["type"], frames[0]["result"]) == ("tool_result", "Lisbon")
        assert frames[-1]["content"] == "You are in Lisbon"
        assert await said(server) == ["user", "assistant", "?", "?", "assistant"]
        await other.send(type="tool_result", tool_call_id="call_1", ok=True, result="Lisbon")
        assert await other.error() == (404, "tool_call_not_found", "tool_call_id")


async def test_a_tool_that_fails_or_is_silent_is_told_to_the_agent() -> None:
    async with chat(server_of(traveller, ChatWebSocket(tool_timeout=0.2))) as client:
        await client.send(type="client_tools_manifest", tools=[TOOL])
        await client.say("where am I?", thread_id="1")
        await client.until("tool_call")
        await client.send(type="tool_result", tool_call_id="call_1", ok=False, error="no signal")
        assert (await client.until("message"))[-1]["content"] == 'You are in {"error":"no signal"}'
        frames = await client.ask("where am I?", thread_id="2")
        assert types(frames)[-1] == "message"  # the message with the call
        frames = await client.until("message")
        assert [f["ok"] for f in frames if f["type"] == "tool_result"] == [False]
        assert "Frontend tool where timed out after 0.2 seconds" in frames[-1]["content"]


async def test_a_turn_that_waits_for_a_tool_can_be_stopped_and_resumed() -> None:
    server = server_of(traveller)
    async with chat(server) as client:
        await client.send(type="client_tools_manifest", tools=[TOOL])
        await client.say("where am I?")
        await client.until("tool_call")
    async with chat(server) as client:
        await client.send(type="resume_chat", thread_id="t", last_seq=0)
        assert (await client.until("tool_call"))[-1]["tool_call_id"] == "call_1"
        await client.send(type="list_chat_turns")
        assert (await client.receive())["waits_for"] == ["call_1"]
        await client.receive()
        await client.send(type="stop", thread_id="t")
        assert (await client.until())[-1]["type"] == "generation_stopped"
        assert await said(server) == []


async def test_a_message_chooses_among_the_clients_tools() -> None:
    offered: list[list[str]] = []

    def agent(request: AgentRequest) -> str:
        offered.append([tool.name for tool in request.tools])
        return "done"

    described = {"type": "function", "function": {"name": "own"}}
    async with chat(server_of(agent)) as client:
        await client.send(type="client_tools_manifest", tools=[TOOL, {"name": "other"}])
        for tools in (None, ["where"], [{"name": "where"}], {"where": {}}, [], [described]):
            await client.ask(tools=tools)
        assert offered == [["where", "other"], ["where"], ["where"], ["where"], [], ["own", "where", "other"]]
        await client.send(type="client_tools_manifest", tools=[])
        await client.ask()
        assert offered[-1] == []


async def test_the_agents_own_tools_are_shown_and_not_for_the_client_to_run() -> None:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        yield ToolCallStarted("c", "look")
        yield ToolCallReady("c", "look", '{"at": "sky"}')
        yield ToolResult("c", '{"color": "blue"}')
        yield "blue"

    async with chat(server_of(agent)) as client:
        frames = await client.ask()
        assert types(frames)[1:3] == ["tool_call_update", "tool_result"]
        assert (frames[1]["name"], frames[1]["args"]) == ("look", {"at": "sky"})
        assert (frames[2]["ok"], frames[2]["result"]) == (True, {"color": "blue"})


# approvals


def buying(store: Path, did: list[str], *scripts: Any) -> Server:
    def buy(what: str) -> str:
        did.append(what)
        return f"bought {what}"

    loop = ToolLoop(ScriptedBackend(*scripts), [buy], approver=AskLater())
    return server_of({"shop": loop}, store=f"sqlite:///{store}")


ASK = ["Let me see.", ToolCallReady("a", "buy", '{"what": "tea"}')]


@requirement("chatws.approval")
@pytest.mark.parametrize(("word", "bought"), [("allow-once", ["tea"]), ("allow-always", ["tea"]), ("deny", [])])
async def test_a_decision_resumes_the_turn_once_also_on_another_server(
    tmp_path: Path, word: str, bought: list[str]
) -> None:
    did: list[str] = []
    async with buying(tmp_path / "s.db", did, ASK).lifespan():
        async with chat(buying(tmp_path / "s.db", did, ASK)) as client:
            frames = await client.ask("Buy tea")
            (asked,) = [frame for frame in frames if frame["type"] == "approval_request"]
            assert (asked["name"], asked["args"], asked["thread_id"]) == ("buy", {"what": "tea"}, "t")
            assert frames[-1]["content"] == "Let me see."
            assert did == []
    server = buying(tmp_path / "s.db", did, ["Done."])
    async with server.lifespan(), chat(server) as client:
        await client.send(type="resume_chat", thread_id="t")
        assert types(await client.until("approval_request")) == ["chat_resumed", "approval_request"]
        decision = {"type": "approval_response", "approval_id": asked["approval_id"], "decision": word}
        await client.send(**decision, thread_id="another")
        assert await client.error() == (404, "approval_not_found", "approval_id")
        await client.send(**decision)
        frames = await client.until()
        assert frames[-1]["content"] == "Done.", frames
        assert did == bought
        await client.send(**decision)
        assert (await client.error())[:2] == (409, "approval_decided")
        assert did == bought


async def test_the_agent_that_asked_goes_on_also_where_another_one_comes_first(tmp_path: Path) -> None:
    did: list[str] = []

    def serving(*script: Any) -> Server:
        def buy(what: str) -> str:
            did.append(what)
            return f"bought {what}"

        shop = ToolLoop(ScriptedBackend(*script), [buy], approver=AskLater())
        return server_of({"other": echo, "shop": shop}, store=f"sqlite:///{tmp_path / 's.db'}", chat_rest=ChatRest())

    first = serving(ASK)
    async with first.lifespan(), chat(first) as client:
        one = (await client.ask("Buy tea", model="shop", thread_id="1"))[-4:]
    second = serving(["Done."], ASK)
    async with second.lifespan(), chat(second) as client:
        (asked,) = [frame for frame in one if frame["type"] == "approval_request"]
        await client.send(type="approval_response", approval_id=asked["approval_id"], decision="allow-once")
        assert (await client.until())[-1]["content"] == "Done."
        frames = await client.ask("Buy tea", model="shop", thread_id="2")
        (asked,) = [frame for frame in frames if frame["type"] == "approval_request"]
    third = serving(["Done too."])
    async with third.lifespan(), httpx2.AsyncClient(transport=AsyncTransport(third)) as http:
        body = {"conversationId": "2", "approvalId": asked["approval_id"], "decision": "allow-once"}
        answer = await http.post("http://localhost/api/chat/tools/approve", json=body)
        assert answer.json()["assistantMessage"]["content"] == "Done too.", answer.text
    assert did == ["tea", "tea"]


async def test_another_message_instead_of_a_decision_is_a_no(tmp_path: Path) -> None:
    did: list[str] = []
    server = buying(tmp_path / "s.db", did, ASK, ["Then not."])
    async with server.lifespan(), chat(server) as client:
        frames = await client.ask("Buy tea")
        (asked,) = [frame for frame in frames if frame["type"] == "approval_request"]
        assert (await client.ask("what is new?"))[-1]["type"] == "message"
        await client.send(type="approval_response", approval_id=asked["approval_id"], decision="allow-once")
        assert (await client.error())[:2] == (409, "approval_decided")
        assert did == []


MARKED_TOOL: dict[str, Any] = {"name": "request_approval", "parameters": {"type": "object"}}
SAID = {"messages": [{"role": "user", "content": "Buy tea"}]}
ASKED_OVER: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", SAID),
    "chat, by its tool": ("/v1/chat/completions", {**SAID, "tools": [{"type": "function", "function": MARKED_TOOL}]}),
    "Responses, in text": ("/v1/responses", {"input": "Buy tea", "conversation": "ID"}),
    "Responses, as an item": (
        "/v1/responses",
        {
            "input": "Buy tea",
            "conversation": "ID",
            "tools": [{"type": "mcp", "server_label": "shop", "server_url": "https://x.example"}],
        },
    ),
    "Anthropic Messages": ("/v1/messages", {**SAID, "max_tokens": 100}),
    "Anthropic Messages, by its tool": (
        "/v1/messages",
        {**SAID, "max_tokens": 100, "tools": [{"name": "request_approval", "input_schema": {"type": "object"}}]},
    ),
    "chat REST": ("/api/chat/conversations/ID/messages/with-tools", {"content": "Buy tea", "enableTools": True}),
}


@requirement("approval.superseded")
@pytest.mark.parametrize("api", ASKED_OVER)
async def test_another_message_is_a_no_also_to_what_was_asked_over_another_api(api: str) -> None:
    resumed: list[Resume | None] = []

    async def shop(request: AgentRequest) -> AsyncIterator[Any]:
        resumed.append(request.resume)
        if request.prompt == "Buy tea":
            yield Paused((PendingCall("a", "buy", "{}", "approval"),), {"at": "the till"})
        else:
            yield "Then not."

    apis = [AnthropicMessages()]
    server = server_of({"shop": shop}, conversations=Conversations(), chat_rest=ChatRest(), apis=apis)
    path, body = ASKED_OVER[api]
    async with (
        server.lifespan(),
        httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost") as http,
    ):
        thread = (await http.post("/v1/conversations", json={})).json()["id"]
        text = json.dumps({"model": "shop", **body}).replace('"ID"', json.dumps(thread))
        answer = await http.post(path.replace("ID", thread), content=text, headers={"x-conversation-id": thread})
        assert answer.status_code == 200, answer.text
        assert len((await http.get("/api/chat/approvals")).json()["approvals"]) == 1
        async with chat(server) as client:
            assert (await client.ask("What is new?", thread_id=thread))[-1]["content"] == "Then not."
        assert (await http.get("/api/chat/approvals")).json()["approvals"] == []
    told = resumed[-1]
    assert told is not None
    assert (told.superseded, told.state) == (True, {"at": "the till"})


async def test_a_message_where_nothing_was_asked_does_not_ask_the_store_for_questions() -> None:
    server = server_of(echo)
    looked: list[str] = []
    store: Any = server.services.state.store
    for name in ("approval", "approvals"):
        setattr(store, name, lambda *_, name=name: looked.append(name))
    async with server.lifespan(), chat(server) as client:
        for _ in range(2):
            assert (await client.ask("hi"))[-1]["type"] == "message"
    assert looked == []


# workflows


@requirement("chatws.workflow")
async def test_a_workflow_tells_how_it_gets_on_and_how_it_ended_once() -> None:
    async def workflow(request: AgentRequest) -> AsyncIterator[Any]:
        yield Progress("node", "n1", "running", data={"node_name": "Blur"})
        yield Progress("node_progress", "n1", "half", data={"progress": 1, "total": 2})
        yield Progress("output", "n2", "ready", done=True, data={"value": b"\xff", "params": request.extra["params"]})
        yield Progress("whatever", "n3", "said something")
        if request.prompt == "fail":
            raise AgentError("Out of paint.")
        yield "done"

    server = server_of(echo, ChatWebSocket(workflows={"blur": workflow}))
    async with server.lifespan(), chat(server) as client:
        frames = await client.ask("go", workflow_id="blur", params={"radius": 3})
        assert types(frames) == [
            *["chat_turn_active", "job_update", "node_update", "node_progress", "output_update", "log_update"],
            *["chunk", "job_update", "chunk", "message"],
        ]
        jobs = [frame for frame in frames if frame["type"] == "job_update"]
        assert [(job["status"], job["workflow_id"], job["done"]) for job in jobs] == [
            ("running", "blur", False),
            ("completed", "blur", True),
        ]
        assert frames[2]["node_name"] == "Blur"
        assert (frames[3]["node_id"], frames[3]["total"]) == ("n1", 2)
        assert (frames[4]["value"], frames[4]["params"]) == ("/w==", {"radius": 3})
        failed = await client.ask("fail", workflow_id="blur", params={})
        assert types(failed)[-2:] == ["job_update", "error"]
        assert failed[-2]["status"] == "failed"


# access


@requirement("chatws.auth")
async def test_the_key_is_in_the_header_or_the_query_and_comes_before_anything() -> None:  # 36, 37
    server = server_of(echo, keys="right key".replace(" ", "-"))
    for query, headers in (
        ("", {}),
        ("api_key=wrong", {}),
        ("api_key=right-key&api_key=right-key", {}),
        ("api_key=right-key", {"authorization": "Bearer wrong"}),
        ("", {"authorization": "Basic right-key"}),
        ("&".join(["a=b"] * 200) + "&api_key=right-key", {}),
    ):
        with pytest.raises(Refused) as refused:
            async with chat(server, query=query, **headers):
                pass
        assert refused.value.status == 401
    async with (
        chat(server, query="api_key=right-key") as client,
        chat(server, authorization="Bearer right-key") as more,
    ):
        assert (await client.ask())[-1]["type"] == "message"
        assert (await more.ask())[-1]["type"] == "message"
    with pytest.raises(Refused) as refused:
        async with chat(server, query="api_key=right-key", origin="http://evil.example"):
            pass
    assert refused.value.status == 403


async def test_the_key_in_a_query_is_for_the_chat_websocket_alone() -> None:
    server = server_of(echo, keys="right")
    with pytest.raises(Refused) as refused:
        async with chat(server, path="/v1/responses", query="api_key=right"):
            pass
    assert refused.value.status == 401


async def test_a_key_that_is_taken_back_closes_the_connection() -> None:
    keys = ["old"]
    async with chat(server_of(echo, keys=lambda: keys), query="api_key=old") as client:
        await client.ask()
        keys[:] = ["new"]
        await client.say()
        assert (await client.error())[:2] == (401, "invalid_api_key")
        assert await client.closed() == 1008


async def test_it_is_off_unless_it_is_asked_for() -> None:
    with pytest.raises(Refused) as refused:
        async with chat(Server(echo)):
            pass
    assert refused.value.status == 404
    async with chat(server_of(echo, ChatWebSocket(path="/ws")), path="/ws") as client:
        assert (await client.ask())[-1]["type"] == "message"


@pytest.mark.parametrize("settings", [{"path": "chat"}, {"path": "/"}, {"ring": 0}, {"tool_timeout": -1}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"path|positive|0 or more"):
        ChatWebSocket(**settings)


async def test_messages_count_against_the_rate_limit() -> None:
    async with chat(server_of(echo, rates=Rates(requests_per_minute=1))) as client:
        await client.ask()
        await client.say()
        assert (await client.error())[:2] == (429, "rate_limit_exceeded")


# time


async def test_pings_come_by_themselves_in_the_last_good_frames_encoding() -> None:
    async with chat(server_of(echo, ChatWebSocket(ping=0.05)), binary=True) as client:
        await client.pong()
        client.kinds.clear()
        with anyio.fail_after(10):
            frame = await client.websocket.receive()
        assert isinstance(frame, bytes)
        assert b"ping" in frame


async def test_a_message_over_the_limit_closes_with_1009() -> None:  # 48
    from openai_compat import Limits

    async with chat(server_of(echo, limits=Limits(body=1000))) as client:
        await client.say("x" * 2000)
        assert await client.closed() == 1009


@requirement("chatws.drain")
async def test_a_server_that_shuts_down_closes_idle_connections_and_takes_no_message() -> None:
    gate = Gate()
    server = server_of(gate, deadlines=Deadlines(grace=1))
    async with chat(server) as idle, chat(server) as busy, anyio.create_task_group() as group:
        await busy.say("wait a")
        await gate.waits("a")
        await idle.pong()
        group.start_soon(server.drain, 30)
        assert await idle.closed() == 1012
        await busy.say("more", thread_id="other")
        assert (await busy.until("error"))[-1]["error"]["code"] == "shutting_down"
        assert await said(server, "other") == []
        gate.doors["a"].set()
        assert (await busy.until())[-1]["content"] == "[a]wait a"
        assert await busy.closed() == 1012


async def test_a_turn_that_does_not_end_in_time_is_stopped_at_the_end() -> None:
    gate = Gate()
    server = server_of(gate)
    async with chat(server) as client:
        await client.say("wait a")
        await gate.waits("a")
        async with anyio.create_task_group() as group:
            group.start_soon(server.drain, 0)
            assert (await client.until())[-1]["reason"] == "shutdown"
        assert gate.ended == ["a"]
        assert await said(server) == []
        assert await client.closed() == 1012


async def test_a_turn_that_waits_for_a_tool_ends_with_the_server() -> None:
    server = server_of(traveller)
    async with chat(server) as client:
        await client.send(type="client_tools_manifest", tools=[TOOL])
        await client.say("where am I?")
        await client.until("tool_call")
        async with anyio.create_task_group() as group:
            group.start_soon(server.drain, 0)
            assert (await client.until())[-1]["reason"] == "shutdown"
        assert await said(server) == []


async def test_a_client_that_does_not_read_holds_the_agent_back_and_gets_everything_later() -> None:
    produced = 0

    async def chatty(prompt: str) -> AsyncIterator[str]:
        nonlocal produced
        for number in range(20_000):
            produced = number
            yield "x"

    async with chat(server_of(chatty)) as client:
        await client.say()
        await client.receive()
        for _ in range(500):  # the client reads nothing, so the server has time
            await anyio.lowlevel.checkpoint()
        assert produced < 2000
        frames = await client.until("message")
        assert len(frames[-1]["content"]) == 20_000
        assert [frame["chat_seq"] for frame in frames] == list(range(2, len(frames) + 2))
