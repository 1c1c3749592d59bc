"""Client requests: understood, ignored, or refused with the field at fault, always in this API's own format."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings

from openai_compat import Capabilities, Conversations, Finished, Limits, MessageBreak, Principal, Rates
from openai_compat.agent_request import Caller
from openai_compat.errors import InvalidRequest
from openai_compat.messages import (
    AssistantMessage,
    SystemMessage,
    TextPart,
    Thought,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from openai_compat.wire.anthropic_messages.conversation import EMPTY_ANSWER_TEXT
from openai_compat.wire.anthropic_messages.parse import parse_messages_request
from openai_compat.wire.anthropic_messages.signatures import seal_signature
from tests.api.anthropic_messages.support import SAID, Seen, refusal, send, serve
from tests.requirements import requirement
from tests.support.exchanges import answer, request
from tests.support.strategies import mutated

pytestmark = pytest.mark.anyio

CLAUDE_CODE: dict[str, Any] = {
    "model": "agent",
    "max_tokens": 32000,
    "stream": False,
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": []},
    "metadata": {"user_id": '{"session_id": "s1"}'},
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1"},
        {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be brief."},
    ],
    "tools": [{"name": "Bash", "description": "Runs.", "input_schema": {"type": "object"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>\nThe date.\n</system-reminder>"},
                {"type": "text", "text": "list it", "cache_control": {"type": "ephemeral"}},
            ],
        },
        {"role": "system", "content": "Skills: none."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I look.", "signature": seal_signature("agent", "proof")},
                {"type": "redacted_thinking", "data": seal_signature("agent", "secret")},
                {"type": "text", "text": "Let me look."},
                {"type": "mcp_tool_use", "id": "o", "name": "look", "server_name": "agent", "input": {}},
                {"type": "mcp_tool_result", "tool_use_id": "o", "is_error": False, "content": []},
                {"type": "text", "text": EMPTY_ANSWER_TEXT},
                {"type": "tool_use", "id": "c1", "name": "Bash", "input": {"command": "ls"}},
                {"type": "of tomorrow"},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c1",
                    "is_error": True,
                    "content": [{"type": "text", "text": "a.py"}],
                },
                {"type": "text", "text": "<system-reminder>Be careful.</system-reminder>"},
            ],
        },
    ],
}


async def ask(agent: Any, **fields: Any) -> Any:
    return await send(serve(agent), **fields)


@requirement("anthropic.requests")
async def test_a_request_of_claude_code_is_what_an_agent_needs_of_it() -> None:
    seen = Seen()
    sent = await answer(serve(seen), request("/v1/messages", CLAUDE_CODE, query="beta=true"))
    assert sent.status == 200, sent.text
    asked = seen[0]
    assert asked.messages == (
        SystemMessage("You are Claude Code.\n\nBe brief."),
        SystemMessage("<system-reminder>\nThe date.\n</system-reminder>"),
        UserMessage((TextPart("list it"),)),
        SystemMessage("Skills: none."),
        AssistantMessage(
            (TextPart("Let me look."),),
            (ToolCall("c1", "Bash", '{"command":"ls"}'),),
            "I look.",
            thoughts=(Thought("I look.", "proof"), Thought("", "secret", redacted=True)),
        ),
        ToolMessage("c1", "a.py\n\n<system-reminder>Be careful.</system-reminder>", "Bash", is_error=True),
    )
    assert asked.prompt == "list it"
    assert asked.resume is not None
    assert list(asked.resume.results) == ["c1"]
    assert (asked.sampling.reasoning_effort, asked.sampling.max_tokens) == ("high", 32000)
    assert (asked.user, [tool.name for tool in asked.tools]) == ('{"session_id": "s1"}', ["Bash"])
    assert set(asked.extra) == {"thinking", "context_management"}
    assert asked.raw_messages[-1]["role"] == "tool"


@requirement("anthropic.requests")
async def test_results_come_before_what_the_user_says_beside_them() -> None:
    seen = Seen()
    call = {"type": "tool_use", "id": "c1", "name": "Bash", "input": {}}
    said = [{"type": "text", "text": "Stop."}, {"type": "tool_result", "tool_use_id": "c1", "content": "x"}]
    conversation = [*SAID, {"role": "assistant", "content": [call]}, {"role": "user", "content": said}]
    await ask(seen, messages=conversation)
    assert [type(message) for message in seen[0].messages[-2:]] == [ToolMessage, UserMessage]
    assert seen[0].prompt == "Stop."


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"max_tokens": None}, "max_tokens", "invalid_type"),
    ({"max_tokens": -1}, "max_tokens", "invalid_value"),
    ({"messages": []}, "messages", "invalid_request"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "missing"),
    ({"messages": [{"role": "user", "content": [{"type": "odd"}]}]}, "messages[0].content[0].type", "invalid_value"),
    ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type", "invalid_value"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "odd"}}]}]},
        "messages[0].content[0].source.type",
        "invalid_value",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c9"}]}]},
        "messages[0].content[0].tool_use_id",
        "invalid_value",
    ),
    (
        {
            "messages": [
                *SAID,
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
                *SAID,
            ]
        },
        "messages[1]",
        "invalid_value",
    ),
    ({"messages": [*SAID, {"role": "assistant", "content": "So"}]}, "messages[1]", "prefill_not_supported"),
    ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name", "invalid_value"),
    ({"tools": [{"name": "a"}]}, "tools[0].input_schema", "missing"),
    ({"tools": [{"name": "a", "input_schema": {}}, {"name": "a", "input_schema": {}}]}, "tools[1].name", "invalid"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
    ({"tool_choice": {"type": "tool", "name": "a"}}, "tool_choice.name", "invalid_value"),
    ({"tool_choice": {"type": "any"}}, "tool_choice", "invalid_value"),
    ({"temperature": 3}, "temperature", "invalid_value"),
    ({"stop_sequences": ["a"] * 65}, "stop_sequences", "invalid_value"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema", "missing"),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "#/no"}}}},
        "output_config.format.schema",
        "invalid_json_schema",
    ),
    ({"thread": {"type": "continue"}}, "thread.previous_message_id", "missing"),
    ({"thread": {"type": "continue", "previous_message_id": "msg_1"}, "tools": []}, "tools", "invalid_value"),
    (
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}]},
        "messages[0].content[0]",
        "file_not_found",
    ),
]


@requirement("anthropic.requests")
@pytest.mark.parametrize(("fields", "place", "code"), WRONG)
async def test_what_is_wrong_is_told_by_its_place(fields: dict[str, Any], place: str, code: str) -> None:
    seen = Seen()
    status, kind, told, message = refusal(await ask(seen, **fields))
    assert (status, kind, seen) == (400, "invalid_request_error", [])
    assert told.startswith(code)
    assert place in message


@requirement("anthropic.requests")
async def test_bodies_that_are_none_or_too_large_are_refused_in_its_form() -> None:
    server = serve(Seen(), limits=Limits(body=1000))
    assert refusal(await answer(server, request("/v1/messages", b"[]")))[:2] == (400, "invalid_request_error")
    assert refusal(await answer(server, request("/v1/messages", b"{")))[0] == 400
    large = await answer(server, request("/v1/messages", b'"' + b"x" * 2000 + b'"'))
    assert refusal(large)[:3] == (413, "request_too_large", "request_too_large")


@requirement("anthropic.requests")
@settings(max_examples=60)
@given(mutated((CLAUDE_CODE,)))
def test_no_request_is_read_with_anything_but_a_refusal(body: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        parsed = parse_messages_request(json.dumps(body).encode(), Caller(Principal("a")))
        parsed.conversation.check_complete()


@requirement("anthropic.requests")
async def test_tools_that_the_agent_has_itself_need_no_word_of_the_clients() -> None:
    class Searching:
        capabilities = Capabilities(own_tools=frozenset(["bash"]), web_search=True)
        asked: Any = None

        async def run(self, request: Any, context: Any) -> Any:
            self.asked = request
            yield Finished()

    agent = Searching()
    tools = [{"type": "bash_20250124", "name": "bash"}, {"type": "web_search_20250305", "name": "web_search"}]
    assert (await ask(agent, tools=tools)).status == 200
    assert (agent.asked.tools, agent.asked.web_search_options) == ((), {})
    taken = await ask(agent, tools=[{"name": "bash", "input_schema": {"type": "object"}}])
    assert refusal(taken)[2] == "tool_name_taken"


@requirement("anthropic.requests")
async def test_a_key_comes_in_either_header_and_two_different_ones_are_none() -> None:
    server = serve(Seen(), keys={"secret": Principal("ann", models=frozenset(["agent"])), "other": None})
    own, bearer = (b"x-api-key", b"secret"), (b"authorization", b"Bearer secret")
    for headers in ([own], [bearer], [own, bearer]):
        assert (await send(server, *headers)).status == 200
    for headers in ([], [own, (b"authorization", b"Bearer other")], [(b"x-api-key", b"wrong")]):
        assert refusal(await send(server, *headers))[:3] == (401, "authentication_error", "invalid_api_key")


@requirement("anthropic.requests")
async def test_a_caller_sees_the_models_that_are_the_callers() -> None:
    keys = {"secret": Principal("ann", models=frozenset(["two"]))}
    server = serve({"one": Seen(), "two": Seen()}, keys=keys)
    headers = (b"x-api-key", b"secret"), (b"anthropic-version", b"2023-06-01")
    listed = await answer(server, request("/v1/models", b"", *headers, method="GET"))
    assert [model["id"] for model in listed.json["data"]] == ["two"]
    hidden = await answer(server, request("/v1/models/one", b"", *headers, method="GET"))
    assert refusal(hidden)[:2] == (404, "not_found_error")
    assert refusal(await send(server, headers[0], model="one"))[0] == 404
    assert refusal(await send(server, headers[0], model="one", path="/v1/messages/count_tokens"))[0] == 404
    ours = await answer(server, request("/v1/models", b"", (b"authorization", b"Bearer secret"), method="GET"))
    assert ours.json["object"] == "list"


@requirement("anthropic.requests")
async def test_counting_takes_no_slot_and_no_part_of_a_rate() -> None:
    class Counting:
        capabilities = Capabilities()

        def count_tokens(self, request: Any) -> int:
            return 42

    server = serve(Seen(), rates=Rates(1), limits=Limits(slots=1))
    server.services.live.slots.close()
    for _ in range(3):
        counted = await send(server, path="/v1/messages/count_tokens", query="beta=true")
        assert counted.json["input_tokens"] > 0

    class Agent(Counting):
        async def run(self, request: Any, context: Any) -> Any:
            yield "x"

    assert (await send(serve(Agent()), path="/v1/messages/count_tokens")).json == {"input_tokens": 42}


@requirement("anthropic.requests")
async def test_a_session_of_claude_code_is_a_conversation_and_its_agents_are_none() -> None:
    seen = Seen()
    server = serve(seen, conversations=Conversations())
    session = (b"x-claude-code-session-id", b"s1")
    first = await send(server, session)
    assert first.headers["x-conversation-id"] == "s1"
    await send(server, session, messages=[{"role": "user", "content": "and then?"}])
    assert [message.text for message in seen[1].messages] == ["hi", "answer 1", "and then?"]
    beside = await send(server, session, (b"x-claude-code-agent-id", b"a1"))
    assert "x-conversation-id" not in beside.headers
    assert len(seen[2].messages) == 1


@requirement("anthropic.requests")
async def test_what_claude_code_asks_for_itself_is_answered_without_the_agent() -> None:
    seen = Seen()
    format_ = {"type": "json_schema", "schema": {"type": "object", "properties": {"title": {"type": "string"}}}}
    naming = "You are naming a coding session so the user can pick it out of a long list of sessions. The title …"
    told = await ask(
        seen,
        system=[
            {"type": "text", "text": "x-anthropic-billing-header: a"},
            {"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude."},
            {"type": "text", "text": naming},
        ],
        messages=[{"role": "user", "content": "<session>\nfix the parser\n</session>\n\nWrite the title in …"}],
        output_config={"format": format_},
    )
    assert json.loads(told.json["content"][0]["text"]) == {"title": "fix the parser"}
    quiet = await ask(
        seen,
        messages=[
            {
                "role": "user",
                "content": "[SUGGESTION MODE: Suggest what the user might naturally type next into Claude Code.]",
            }
        ],
    )
    assert (quiet.json["content"], quiet.json["stop_reason"], seen) == ([], "end_turn", [])


async def test_nothing_is_run_for_a_request_that_wants_no_tokens() -> None:
    seen = Seen()
    assert (await ask(seen, max_tokens=0)).json["content"] == []
    streamed = await ask(seen, max_tokens=0, stream=True)
    assert b"message_stop" in streamed.data
    assert seen == []


async def test_messages_of_an_agent_are_texts_of_their_own() -> None:
    async def agent(prompt: str) -> Any:
        yield "one"
        yield MessageBreak()
        yield "two"

    assert [block["text"] for block in (await ask(agent)).json["content"]] == ["one", "two"]
