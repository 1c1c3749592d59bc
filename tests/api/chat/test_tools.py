"""Tool calls: those that the client runs, and those that the agent runs on its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest

from openai_compat import (
    AgentEvent,
    AgentRequest,
    Finished,
    MessageBreak,
    Notice,
    Paused,
    PendingCall,
    Progress,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
)
from openai_compat.messages import AssistantMessage, TextPart, ToolCall, ToolMessage, UserMessage
from tests.connecting import Connect, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says
from tests.support.listening import hear

pytestmark = pytest.mark.anyio

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    },
}
TIME: Any = {"type": "function", "function": {"name": "time"}}
CODE: Any = {"type": "custom", "custom": {"name": "code", "description": "Runs Python.", "format": {"type": "text"}}}
TOOLS: Any = [WEATHER, TIME, CODE]


async def chunks(client: openai.AsyncOpenAI, **ask: Any) -> list[dict[str, Any]]:
    """The stream's chunks in order: delta, finish_reason if it has one, event if it has one."""
    stream = await client.chat.completions.create(model="agent", stream=True, **{"messages": HELLO, **ask})
    found: list[dict[str, Any]] = []
    async for chunk in stream:
        body = json.loads(chunk.model_dump_json(exclude_unset=True))
        choice = body["choices"][0]
        found.append({"delta": choice["delta"]})
        if choice["finish_reason"]:
            found[-1]["finish_reason"] = choice["finish_reason"]
        if "event" in body:
            found[-1]["event"] = body["event"]
    return found


def calls(*pieces: dict[str, Any]) -> list[dict[str, Any]]:
    """A stream with only these deltas of tool calls."""
    role: dict[str, Any] = {"delta": {"role": "assistant", "content": None, "refusal": None}}
    return [
        role,
        *[{"delta": {"tool_calls": [piece]}} for piece in pieces],
        {"delta": {}, "finish_reason": "tool_calls"},
    ]


def status(text: str, *, done: bool) -> dict[str, Any]:
    return {"delta": {}, "event": {"type": "status", "data": {"description": text, "done": done}}}


# calls for the client


@requirement("tools.stream")
async def test_a_function_call_says_index_id_and_name_once_then_its_arguments_as_they_come(connect: Connect) -> None:
    agent = Says(
        ToolCallStarted("call_1", "weather"),
        ToolCallDelta("call_1", '{"city":'),
        ToolCallDelta("call_1", '"Rome"}'),
        ToolCallReady("call_1", "weather", '{"city":"Rome"}'),
    )
    async with connect(agent) as client:
        assert await chunks(client, tools=TOOLS) == calls(
            {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
            {"index": 0, "function": {"arguments": '{"city":'}},
            {"index": 0, "function": {"arguments": '"Rome"}'}},
        )


@requirement("tools.stream")
@requirement("chat.calls.in_turn")
@in_process
async def test_calls_that_grow_side_by_side_are_written_one_after_the_other(connect: Connect) -> None:
    agent = Says(
        ToolCallStarted("a", "weather"),
        ToolCallStarted("b", "time"),
        ToolCallDelta("a", "{"),
        ToolCallReady("b", "time", "{}"),
        ToolCallReady("a", "weather", "{}"),
    )
    async with connect(agent) as client:
        assert await chunks(client, tools=TOOLS) == calls(
            {"index": 0, "id": "a", "type": "function", "function": {"name": "weather", "arguments": ""}},
            {"index": 0, "function": {"arguments": "{"}},
            {"index": 0, "function": {"arguments": "}"}},
            {"index": 1, "id": "b", "type": "function", "function": {"name": "time", "arguments": ""}},
            {"index": 1, "function": {"arguments": "{}"}},
        )


@requirement("tools.custom")
async def test_a_custom_tool_call_streams_its_input(connect: Connect) -> None:
    agent = Says(ToolCallStarted("c", "code"), ToolCallDelta("c", "print("), ToolCallReady("c", "code", "print(1)"))
    async with connect(agent) as client:
        streamed = await chunks(client, tools=TOOLS)
        plain = await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS)
        async with client.chat.completions.stream(model="agent", messages=HELLO, tools=TOOLS) as stream:
            async for _ in stream:
                pass
            # The SDK's helper accumulates custom calls, but cannot make its final, parsed object of them.
            snapshot = stream.current_completion_snapshot.to_dict()
    call = {"id": "c", "type": "custom", "custom": {"name": "code", "input": "print(1)"}}
    assert streamed == calls(
        {"index": 0, "id": "c", "type": "custom", "custom": {"name": "code", "input": ""}},
        {"index": 0, "custom": {"input": "print("}},
        {"index": 0, "custom": {"input": "1)"}},
    )
    assert [made.to_dict() for made in plain.choices[0].message.tool_calls or []] == [call]
    choices: Any = snapshot["choices"]
    assert choices[0]["message"]["tool_calls"] == [{**call, "index": 0, "function": None}]


@requirement("tools.gaps")
@pytest.mark.parametrize(
    "items",
    [
        [ToolCallReady("c", "time", "{}")],
        [ToolCallStarted("c", "time"), ToolCallReady("c", "time", "{}")],
        [ToolCallStarted("c", "time"), ToolCallDelta("c", "{}")],
        [ToolCallStarted("c", "time"), ToolCallStarted("c", "time"), ToolCallDelta("c", "{}"), Finished("tool_calls")],
        [ToolCallReady("c", "time", "{}"), ToolCallReady("c", "time", "{}")],
        [ToolCallReady("c", "time", "")],
        [ToolCallStarted("c", "time"), ToolCallDelta("c", "")],
        [Paused((PendingCall("c", "time", "{}"),))],
        [ToolCallReady("c", "time", "{}"), Paused((PendingCall("c", "time", "{}"),))],
    ],
)
@in_process
async def test_however_the_agent_puts_it_the_client_gets_one_whole_call(
    items: list[AgentEvent], connect: Connect
) -> None:
    async with connect(Says(*items)) as client:
        plain = await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS)
        assert await chunks(client, tools=TOOLS) == calls(
            {"index": 0, "id": "c", "type": "function", "function": {"name": "time", "arguments": ""}},
            {"index": 0, "function": {"arguments": "{}"}},
        )
    message = plain.choices[0].message.to_dict()
    assert message["tool_calls"] == [{"id": "c", "type": "function", "function": {"name": "time", "arguments": "{}"}}]
    assert message["content"] is None


@requirement("tools.order")
@pytest.mark.parametrize(
    "items",
    [
        [ToolCallDelta("c", "{}")],
        [ToolCallReady("c", "time", "{}"), ToolCallDelta("c", "{}")],
        [ToolCallReady("c", "time", "{}"), ToolResult("c", "noon")],
    ],
)
@in_process
async def test_events_that_contradict_each_other_are_the_agents_failure(
    items: list[AgentEvent], connect: Connect
) -> None:
    async with connect(Says(*items)) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS)
    assert caught.value.code == "event_order"


@requirement("tools.offered")
@in_process
async def test_the_agent_is_told_which_tools_the_client_offers(connect: Connect) -> None:
    agent = Says("ok")
    async with connect(agent) as client:
        await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS)
    weather, time, code = agent.request.tools
    assert (weather.name, weather.description) == ("weather", "The weather in a city.")
    assert weather.parameters == WEATHER["function"]["parameters"]
    assert time.name == "time"
    assert (code.name, code.format) == ("code", {"type": "text"})


# tool_choice

NAMED: Any = {"type": "function", "function": {"name": "time"}}
CUSTOM: Any = {"type": "custom", "custom": {"name": "code"}}
ALLOWED_AUTO: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TIME, CUSTOM]}}
ALLOWED_REQUIRED: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TIME]}}
VIOLATED = "tool_choice_violated"


@requirement("tools.choice")
@pytest.mark.parametrize(
    ("choice", "called", "outcome"),
    [
        (None, "weather", "tool_calls"),
        (None, None, "stop"),
        ("auto", "weather", "tool_calls"),
        ("auto", None, "stop"),
        ("none", None, "stop"),
        ("none", "weather", VIOLATED),
        ("required", "weather", "tool_calls"),
        ("required", None, VIOLATED),
        (NAMED, "time", "tool_calls"),
        (NAMED, "weather", VIOLATED),
        (NAMED, None, VIOLATED),
        (CUSTOM, "code", "tool_calls"),
        (CUSTOM, "time", VIOLATED),
        (ALLOWED_AUTO, "time", "tool_calls"),
        (ALLOWED_AUTO, "code", "tool_calls"),
        (ALLOWED_AUTO, None, "stop"),
        (ALLOWED_AUTO, "weather", VIOLATED),
        (ALLOWED_REQUIRED, "time", "tool_calls"),
        (ALLOWED_REQUIRED, "code", VIOLATED),
        (ALLOWED_REQUIRED, None, VIOLATED),
    ],
)
@in_process
async def test_what_the_agent_calls_is_held_to_tool_choice(
    choice: Any, called: str | None, outcome: str, connect: Connect
) -> None:
    items = [ToolCallReady("c", called, "{}")] if called else []
    ask: dict[str, Any] = {"model": "agent", "messages": HELLO, "tools": TOOLS, "tool_choice": choice}
    async with connect(Says(*items)) as client:
        if outcome == VIOLATED:
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(**ask)
            assert caught.value.code == VIOLATED
        else:
            answer = await client.chat.completions.create(**ask)
            assert answer.choices[0].finish_reason == outcome
            assert len(answer.choices[0].message.tool_calls or []) == (1 if called else 0)


@requirement("tools.choice")
@pytest.mark.parametrize("items", [["text"], ["text", ToolCallReady("c", "weather", "{}")]])
async def test_a_violation_after_the_first_words_ends_the_stream_with_an_error(items: Any, connect: Connect) -> None:
    async with connect(Says(*items)) as client:
        heard = await hear(
            await client.chat.completions.create(
                model="agent", messages=HELLO, tools=TOOLS, tool_choice=NAMED, stream=True
            )
        )
    assert (heard.text, heard.finish_reasons) == ("text", ())
    assert heard.error is not None
    assert (heard.error.code, heard.error.type) == (VIOLATED, "agent_error")


@requirement("tools.choice")
@in_process
async def test_the_agent_is_shown_only_the_tools_it_may_call(connect: Connect) -> None:
    agent = Says(ToolCallReady("c", "time", "{}"))
    async with connect(agent) as client:
        for choice in (NAMED, ALLOWED_REQUIRED, "required"):
            await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS, tool_choice=choice)
    assert [[tool.name for tool in request.tools] for request in agent.requests] == [
        ["time"],
        ["time"],
        ["weather", "time", "code"],
    ]


@requirement("tools.choice")
@pytest.mark.parametrize("choice", ["auto", "none"])
@in_process
async def test_a_call_for_the_client_of_a_tool_it_never_offered_is_a_violation(choice: Any, connect: Connect) -> None:
    async with connect(Says(ToolCallReady("c", "unheard_of", "{}", "client"))) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS, tool_choice=choice)
    assert caught.value.code == VIOLATED


@requirement("tools.parallel")
@in_process
async def test_without_parallel_tool_calls_only_the_first_call_is_passed_on(connect: Connect) -> None:
    agent = Says(
        ToolCallStarted("a", "weather"),
        ToolCallStarted("b", "time"),
        ToolCallDelta("b", "{}"),
        ToolCallReady("a", "weather", "{}"),
        ToolCallReady("b", "time", "{}"),
        ToolCallReady("own", "search", "{}"),
    )
    async with connect(agent) as client:
        answer = await client.chat.completions.create(
            model="agent", messages=HELLO, tools=TOOLS, parallel_tool_calls=False
        )
        both = await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS)
    assert [call.id for call in answer.choices[0].message.tool_calls or []] == ["a"]
    assert [call.id for call in both.choices[0].message.tool_calls or []] == ["a", "b"]


# the agent's own tools

OWN: list[Any] = [
    "Let me see.",
    ToolCallStarted("t1", "search"),
    ToolCallDelta("t1", '{"q":1}'),
    ToolCallReady("t1", "search", '{"q":1}'),
    ToolResult("t1", "a secret result"),
    ToolCallReady("t2", "rm", "{}"),
    ToolResult("t2", "no", denied=True),
    ToolCallReady("t3", "fetch", "{}"),
    ToolResult("t3", "boom", is_error=True),
    Progress("step", "s1", "Reading page 3", done=False),
    "Found it.",
]
LINES = [
    ("Running search …", False),
    ("search done", True),
    ("Running rm …", False),
    ("rm was denied", True),
    ("Running fetch …", False),
    ("fetch failed", True),
    ("Reading page 3", False),
]


@requirement("tools.own")
async def test_the_agents_own_tools_are_status_lines_on_empty_deltas_and_never_tool_calls(connect: Connect) -> None:
    async with connect(Says(*OWN)) as client:
        streamed = await chunks(client, tools=TOOLS)
        plain = await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS)
    assert streamed == [
        {"delta": {"role": "assistant", "content": "", "refusal": None}},
        {"delta": {"content": "Let me see."}},
        *[status(text, done=done) for text, done in LINES],
        {"delta": {"content": "\n\n"}},
        {"delta": {"content": "Found it."}},
        {"delta": {}, "finish_reason": "stop"},
    ]
    assert plain.choices[0].message.to_dict() == {
        "role": "assistant",
        "content": "Let me see.\n\nFound it.",
        "refusal": None,
        "annotations": [],
    }
    assert plain.choices[0].finish_reason == "stop"


@requirement("tools.own")
@in_process
async def test_own_tools_can_be_hidden(connect: Connect) -> None:
    async with connect(Says(*OWN), visibility="hidden") as client:
        streamed = await chunks(client)
    assert [chunk["delta"].get("content") for chunk in streamed] == ["", "Let me see.", "\n\n", "Found it.", None]
    assert all("event" not in chunk for chunk in streamed)


@requirement("tools.own")
@pytest.mark.parametrize(
    ("visibility", "field", "expected"),
    [
        ("reasoning", "reasoning_content", "".join([text + "\n" for text, _ in LINES])),
        ("text", "content", "Let me see." + "".join([f"[⚙ {text}]\n" for text, _ in LINES]) + "\n\nFound it."),
    ],
)
@in_process
async def test_own_tools_can_be_shown_as_reasoning_or_text_streamed_as_plain(
    visibility: Any, field: str, expected: str, connect: Connect
) -> None:
    async with connect(Says(*OWN), visibility=visibility) as client:
        streamed = await chunks(client)
        plain = await client.chat.completions.create(model="agent", messages=HELLO)
    assert "".join([chunk["delta"].get(field, "") for chunk in streamed]) == expected
    assert plain.choices[0].message.to_dict()[field] == expected
    assert all("event" not in chunk and "tool_calls" not in chunk["delta"] for chunk in streamed)


@requirement("tools.own")
@in_process
async def test_a_tool_that_has_the_name_of_one_of_the_clients_can_still_be_the_agents_own(connect: Connect) -> None:
    agent = Says(ToolCallReady("t", "time", "{}", "agent"), ToolResult("t", "noon"), "Noon.")
    async with connect(agent) as client:
        answer = await client.chat.completions.create(model="agent", messages=HELLO, tools=TOOLS)
    assert answer.choices[0].message.tool_calls is None
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Noon.", "stop")


@requirement("tools.own")
@in_process
async def test_own_and_client_calls_in_one_turn_do_not_mix(connect: Connect) -> None:
    agent = Says(
        ToolCallStarted("mine", "search"),
        ToolCallStarted("yours", "time"),
        ToolCallDelta("mine", '{"q":1}'),
        ToolCallDelta("yours", "{}"),
        ToolResult("mine", "found"),
    )
    async with connect(agent) as client:
        streamed = await chunks(client, tools=TOOLS)
    assert [call for chunk in streamed for call in chunk["delta"].get("tool_calls", [])] == [
        {"index": 0, "id": "yours", "type": "function", "function": {"name": "time", "arguments": ""}},
        {"index": 0, "function": {"arguments": "{}"}},
    ]
    assert streamed[-1]["finish_reason"] == "tool_calls"


@requirement("tools.notice")
@in_process
async def test_a_notice_is_a_finished_status_line(connect: Connect) -> None:
    async with connect(Says(Notice("The disk is nearly full.", "warning"), "Done.")) as client:
        streamed = await chunks(client)
    assert streamed[1] == status("The disk is nearly full.", done=True)


@requirement("chat.message-break")
@pytest.mark.parametrize(
    ("items", "text"),
    [
        (["one", MessageBreak(), "two", MessageBreak(), "three"], "one\n\ntwo\n\nthree"),
        ([MessageBreak(), "one", MessageBreak()], "one"),
        (["one", MessageBreak(), ToolCallReady("t", "own", "{}"), MessageBreak(), TextDelta("two")], "one\n\ntwo"),
    ],
)
@in_process
async def test_messages_after_each_other_have_a_blank_line_between_them(
    items: Any, text: str, connect: Connect
) -> None:
    async with connect(Says(*items)) as client:
        streamed = await chunks(client)
        plain = await client.chat.completions.create(model="agent", messages=HELLO)
    assert "".join([chunk["delta"].get("content", "") for chunk in streamed]) == text
    assert plain.choices[0].message.content == text


# history


CALL: Any = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
CUSTOM_CALL: Any = {"id": "c2", "type": "custom", "custom": {"name": "code", "input": "print(1)"}}
CALLED: Any = {"role": "assistant", "content": None, "tool_calls": [CALL, CUSTOM_CALL]}
RESULT: Any = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}
CUSTOM_RESULT: Any = {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "1"}]}


@requirement("tools.history")
async def test_calls_and_results_reach_the_agent_in_pairs_and_as_what_to_resume_with(connect: Connect) -> None:
    agent = Says("It is sunny.")
    async with connect(agent) as client:
        await client.chat.completions.create(
            model="agent", messages=[*HELLO, CALLED, CUSTOM_RESULT, RESULT], tools=TOOLS
        )
    sunny, one = ToolMessage("c1", "sunny", "weather"), ToolMessage("c2", "1", "code")
    request = agent.request
    assert request.messages == (
        UserMessage((TextPart("Hello"),)),
        AssistantMessage(
            tool_calls=(ToolCall("c1", "weather", "{}"), ToolCall("c2", "code", "print(1)", "custom")),
        ),
        one,
        sunny,
    )
    assert request.new_messages == (one, sunny)
    assert request.resume is not None
    assert request.resume.results == {"c1": sunny, "c2": one}


@requirement("tools.history")
@in_process
async def test_results_that_were_answered_already_are_history_and_nothing_to_resume(connect: Connect) -> None:
    agent = Says("ok")
    messages: list[Any] = [*HELLO, CALLED, RESULT, CUSTOM_RESULT, {"role": "assistant", "content": "Sunny."}, *HELLO]
    async with connect(agent) as client:
        await client.chat.completions.create(model="agent", messages=messages)
        await client.chat.completions.create(model="agent", messages=[*messages[:4], *HELLO])
    assert [request.resume for request in agent.requests] == [None, None]


@requirement("tools.history.orphans")
@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([*HELLO, RESULT], "messages[1].tool_call_id"),
        ([*HELLO, CALLED], "messages[1].tool_calls"),
        ([*HELLO, CALLED, RESULT], "messages[1].tool_calls"),
        ([*HELLO, CALLED, RESULT, *HELLO], "messages[1].tool_calls"),
        ([*HELLO, CALLED, RESULT, RESULT], "messages[3].tool_call_id"),
        ([*HELLO, CALLED, {**RESULT, "tool_call_id": "c9"}], "messages[2].tool_call_id"),
        ([*HELLO, CALLED, {"role": "tool", "content": "x"}], "messages[2].tool_call_id"),
        ([*HELLO, {"role": "assistant", "tool_calls": [{"type": "function"}]}], "messages[1].tool_calls[0].id"),
        (
            [*HELLO, {"role": "assistant", "tool_calls": [{"type": "function", "id": "c1"}]}],
            "messages[1].tool_calls[0].function",
        ),
        ([*HELLO, {"role": "assistant", "tool_calls": [{**CALL, "type": "magic"}]}], "messages[1].tool_calls[0].type"),
    ],
)
@in_process
async def test_a_call_or_result_that_stands_alone_is_refused_by_its_place(
    messages: Any, param: str, connect: Connect
) -> None:
    agent = Says("ok")
    async with connect(agent) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="agent", messages=messages)
    assert caught.value.param == param
    assert agent.requests == []


@requirement("tools.history")
@in_process
async def test_a_call_that_was_declared_asynchronous_need_not_be_answered_yet(connect: Connect) -> None:
    agent = Says("ok")
    waiting: Any = {"role": "assistant", "content": None, "tool_calls": [{**CALL, "async": True}]}
    async with connect(agent) as client:
        await client.chat.completions.create(model="agent", messages=[*HELLO, waiting, *HELLO])
    assert len(agent.requests) == 1


# the whole round trip


async def forecaster(request: AgentRequest) -> AsyncIterator[AgentEvent | str]:
    """Calls the client's weather tool, then reports the result."""
    if request.resume is None:
        yield "I shall ask. "
        yield ToolCallReady("call_rome", "weather", '{"city": "Rome"}')
        yield ToolCallReady("call_oslo", "weather", '{"city": "Oslo"}')
    else:
        told = request.resume.results
        yield f"Rome is {told['call_rome'].text}, Oslo is {told['call_oslo'].text}."


@requirement("tools.round-trip")
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_runs_the_tools_it_is_asked_to_and_gets_its_answer(streamed: bool, connect: Connect) -> None:
    weather = {"Rome": "sunny", "Oslo": "grey"}
    messages: list[Any] = [*HELLO]
    async with connect(forecaster) as client:

        async def turn() -> Any:
            if not streamed:
                return await client.chat.completions.create(model="agent", messages=messages, tools=[WEATHER])
            async with client.chat.completions.stream(model="agent", messages=messages, tools=[WEATHER]) as stream:
                return await stream.get_final_completion()

        choice = (await turn()).choices[0]
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I shall ask. ")
        messages.append(choice.message)
        for call in choice.message.tool_calls:
            city = json.loads(call.function.arguments)["city"]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": weather[city]})
        choice = (await turn()).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("stop", "Rome is sunny, Oslo is grey.")


class Forecast(pydantic.BaseModel):
    city: str
    degrees: int


@requirement("tools.sdk-parsing")
@in_process
async def test_the_sdks_parsing_helpers_work(connect: Connect) -> None:
    tool: Any = openai.pydantic_function_tool(Forecast, name="forecast")
    rome = '{"city": "Rome", "degrees": 30}'
    agents = {"caller": Says(ToolCallReady("c", "forecast", rome)), "writer": Says(rome)}
    async with connect(agents) as client:
        called = await client.chat.completions.parse(model="caller", messages=HELLO, tools=[tool])
        written = await client.chat.completions.parse(model="writer", messages=HELLO, response_format=Forecast)
        async with client.chat.completions.stream(model="writer", messages=HELLO, response_format=Forecast) as stream:
            streamed = await stream.get_final_completion()
    calls = called.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.parsed_arguments == Forecast(city="Rome", degrees=30)
    assert written.choices[0].message.parsed == streamed.choices[0].message.parsed == Forecast(city="Rome", degrees=30)
