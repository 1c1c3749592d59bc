"""The tool loop: a bare model that calls the agent's tools and the client's."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import anyio
import pytest

from openai_compat import (
    AgentError,
    AgentRequest,
    Capabilities,
    Citation,
    Finished,
    MessageBreak,
    Notice,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    RunContext,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat.agent_request import CustomTool
from openai_compat.errors import InvalidRequest
from openai_compat.messages import AssistantMessage, TextPart, ToolCall, ToolMessage, UserMessage
from openai_compat.testing import ScriptedBackend
from openai_compat.tools import AgentTool, ToolError, ToolLoop, as_tool, tool
from openai_compat.tools.loop_turn import NOT_RUN
from tests.tools.support import after, call, function, new_context, request_for, results, run, text, user

pytestmark = pytest.mark.anyio


@tool(danger="safe")
async def weather(city: str) -> str:
    """The weather of a city."""
    if city == "Atlantis":
        raise ToolError("There is no city of that name.")
    if city == "Chernobyl":
        raise RuntimeError("password=hunter2")
    return f"sunny in {city}"


def names(request: AgentRequest) -> list[str]:
    return [offered.name for offered in request.tools]


# one turn


async def test_the_model_calls_a_tool_and_answers_with_its_result() -> None:
    model = ScriptedBackend(["Let me see.", call("call_1", "weather", city="Oslo")], ["It is sunny."])

    said = await run(ToolLoop(model, [weather]), request_for("Weather?"))

    assert said == [
        TextDelta("Let me see."),
        ToolCallStarted("call_1", "weather", "agent"),
        ToolCallDelta("call_1", '{"city": "Oslo"}'),
        ToolCallReady("call_1", "weather", '{"city": "Oslo"}', "agent"),
        ToolResult("call_1", "sunny in Oslo"),
        MessageBreak(),
        TextDelta("It is sunny."),
        Finished("stop"),
    ]


async def test_the_result_goes_back_to_the_model_as_messages_typed_and_raw() -> None:
    model = ScriptedBackend(["Let me see.", call("call_1", "weather", city="Oslo")], ["It is sunny."])

    await run(ToolLoop(model, [weather]), request_for("Weather?"))

    first, second = model.requests
    assert first.tools == (as_tool(weather).offer,)
    assert first.tool_choice.names == {"weather"}
    assert second.messages == (
        UserMessage((TextPart("Weather?"),)),
        AssistantMessage((TextPart("Let me see."),), (ToolCall("call_1", "weather", '{"city": "Oslo"}'),)),
        ToolMessage("call_1", "sunny in Oslo", "weather"),
    )
    assert second.raw_messages == [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny in Oslo"},
    ]
    assert second.resume is not None
    assert second.resume.results == {"call_1": ToolMessage("call_1", "sunny in Oslo", "weather")}


async def test_what_the_model_streams_of_a_call_is_passed_on_as_it_comes() -> None:
    go = anyio.Event()
    model = ScriptedBackend(
        [
            ReasoningDelta("hm"),
            ToolCallStarted("c", "weather", "client"),
            ToolCallDelta("c", '{"city":'),
            go,
            ToolCallDelta("c", ' "Oslo"}'),
            ToolCallReady("c", "weather", '{"city": "Oslo"}', "client"),
        ],
        ["Sunny."],
    )
    first: list[Any] = []
    with anyio.fail_after(10):
        async with aclosing(cast("Any", ToolLoop(model, [weather]).run(request_for(), new_context()))) as items:
            async for item in items:
                first.append(item)
                if len(first) == 3:
                    go.set()

    assert first[:3] == [
        ReasoningDelta("hm"),
        ToolCallStarted("c", "weather", "agent"),
        ToolCallDelta("c", '{"city":'),
    ]
    assert first[-3:] == [ToolResult("c", "sunny in Oslo"), "Sunny.", Finished("stop")]
    answer = model.requests[1].messages[1]
    assert isinstance(answer, AssistantMessage)
    assert answer.reasoning == "hm"


async def test_a_model_that_calls_nothing_is_passed_through_with_its_reason() -> None:
    assert await run(ToolLoop(ScriptedBackend(["Hi.", Finished("content_filter")]), [weather])) == [
        TextDelta("Hi."),
        Finished("content_filter"),
    ]


async def test_calls_of_one_step_run_at_once_and_their_results_keep_the_order_of_the_calls() -> None:
    slow = anyio.Event()

    @tool(danger="safe")
    async def first() -> str:
        await slow.wait()
        return "one"

    @tool(danger="safe")
    async def second() -> str:
        slow.set()
        return "two"

    model = ScriptedBackend([call("a", "first"), call("b", "second")], ["Done."])
    said = await run(ToolLoop(model, [first, second]))

    assert [result.output for result in results(said)] == ["two", "one"]
    assert [message.text for message in model.requests[1].messages if isinstance(message, ToolMessage)] == [
        "one",
        "two",
    ]


async def test_a_failing_tool_is_told_to_the_model_and_the_turn_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "openai_compat")
    model = ScriptedBackend(
        [
            call("a", "weather", city="Atlantis"),
            call("b", "weather", city="Chernobyl"),
            call("c", "weather", town="Oslo"),
            call("d", "no_such_tool"),
            ToolCallReady("e", "weather", '{"city": '),
        ],
        ["Sorry."],
    )
    said = await run(ToolLoop(model, [weather]))

    assert {result.call_id: result.output for result in results(said)} == {
        "a": "There is no city of that name.",
        "b": "The tool failed.",
        "c": "The arguments are wrong.\ncity: is missing\ntown: is not known here",
        "d": "There is no tool of that name.",
        "e": "The arguments are wrong.\narguments: is not valid JSON: EOF while parsing a value at line 1 column 9",
    }
    assert all([result.is_error for result in results(said)])
    assert text(said) == "Sorry."


async def test_usage_of_all_steps_is_reported() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo"), UsageReported(10, 5)], ["Sunny.", UsageReported(20, 6)])

    said = await run(ToolLoop(model, [weather]))

    assert [event for event in said if isinstance(event, UsageReported)] == [UsageReported(10, 5), UsageReported(20, 6)]


async def test_ids_that_a_model_uses_again_are_told_apart() -> None:
    model = ScriptedBackend(*[[call("call_0", "weather", city=city)] for city in ("Oslo", "Rome")], ["Both sunny."])
    history = [
        user("Before"),
        {
            "role": "assistant",
            "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "x", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "y"},
        user("Weather?"),
    ]
    said = await run(ToolLoop(model, [weather]), request_for(history))

    assert [(result.call_id, result.output) for result in results(said)] == [
        ("call_0_2", "sunny in Oslo"),
        ("call_0_3", "sunny in Rome"),
    ]


async def test_citations_of_a_later_step_point_into_the_whole_text() -> None:
    model = ScriptedBackend(
        ["12345", call("a", "weather", city="Oslo")], ["Sunny.", Citation("https://a.example", "a", 0, 5)]
    )
    said = await run(ToolLoop(model, [weather]))

    assert Citation("https://a.example", "a", 5, 10) in said


async def test_tools_that_the_models_provider_runs_itself_are_left_alone() -> None:
    model = ScriptedBackend([ToolCallReady("s", "weather", "{}", "agent"), ToolResult("s", "searched"), "Found."])

    said = await run(ToolLoop(model, [weather]))

    assert results(said) == [ToolResult("s", "searched")]
    assert (text(said), len(model.requests)) == ("Found.", 1)


async def test_a_model_that_may_make_one_call_at_a_time_makes_one() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo"), call("b", "weather", city="Rome")], ["Sunny."])
    request = request_for(tools=[function("other")], parallel_tool_calls=False)

    said = await run(ToolLoop(model, [weather]), request)

    assert [result.call_id for result in results(said)] == ["a"]
    assert not model.requests[0].parallel_tool_calls


async def test_a_call_that_was_cut_off_is_not_run() -> None:
    model = ScriptedBackend(
        [ToolCallStarted("a", "weather"), ToolCallDelta("a", '{"city": "Os'), Finished("length")],
    )
    said = await run(ToolLoop(model, [weather]))

    assert (results(said), said[-1]) == ([], Finished("length"))


async def test_a_call_that_the_model_left_open_at_its_end_is_whole() -> None:
    model = ScriptedBackend([ToolCallStarted("a", "weather"), ToolCallDelta("a", '{"city": "Oslo"}')], ["Sunny."])

    assert results(await run(ToolLoop(model, [weather]))) == [ToolResult("a", "sunny in Oslo")]


async def test_an_answer_in_json_holds_nothing_that_was_said_beside_a_call() -> None:
    json_object = {"response_format": {"type": "json_object"}}
    script = [["Let me ", "see.", call("a", "weather", city="Oslo")], ['{"sun":', " true}"]]

    said = await run(ToolLoop(ScriptedBackend(*script), [weather]), request_for("In JSON", **json_object))
    without_tools = ToolLoop(ScriptedBackend(['{"sun":', " true}"]), [])

    assert text(said) == '{"sun": true}'
    assert ReasoningDelta("Let me see.") in said
    assert MessageBreak() not in said
    assert text(await run(without_tools, request_for("In JSON", **json_object))) == '{"sun": true}'


# limits


async def test_a_model_that_never_stops_calling_is_stopped_with_a_notice() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo")])

    said = await run(ToolLoop(model, [weather], roundtrips=2))

    assert [result.output for result in results(said)] == ["sunny in Oslo", "sunny in Oslo", NOT_RUN.text]
    assert said[-2:] == [
        Notice("The agent was stopped: it has run tools 2 times, as often as it may.", "warning"),
        Finished("length"),
    ]
    assert len(model.requests) == 3


async def test_five_roundtrips_are_the_default() -> None:
    model = ScriptedBackend(*[[call("a", "weather", city="Oslo")]] * 5, ["Sunny."])

    said = await run(ToolLoop(model, [weather]))

    assert (len(results(said)), text(said), said[-1]) == (5, "Sunny.", Finished("stop"))


async def test_a_turn_that_has_used_its_tokens_runs_no_more_tools() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo"), UsageReported(60, 40)])

    said = await run(ToolLoop(model, [weather], budget=150))

    assert [result.is_error for result in results(said)] == [False, True]
    assert said[-2] == Notice("The agent was stopped: it has used 200 tokens, and may use 150.", "warning")
    assert said[-1] == Finished("length")


async def test_the_longest_answer_is_for_all_steps_together() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo"), UsageReported(9, 30)], ["Sunny.", UsageReported(9, 9)])
    loop = ToolLoop(model, [weather])

    assert (await run(loop, request_for(max_tokens=100)))[-1] == Finished("stop")
    assert [request.sampling.max_tokens for request in model.requests] == [100, 70]


async def test_an_answer_with_no_room_left_ends() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo"), UsageReported(9, 30)])

    said = await run(ToolLoop(model, [weather]), request_for(max_tokens=30))

    assert (said[-1], len(results(said)), len(model.requests)) == (Finished("length"), 1, 1)


async def test_a_request_may_have_less_than_the_limits_and_more_only_where_the_operator_says_so() -> None:
    async def steps(loop_settings: dict[str, int], **fields: int) -> int:
        model = ScriptedBackend([call("a", "weather", city="Oslo"), UsageReported(50, 50)])
        await run(ToolLoop(model, [weather], **loop_settings), request_for(**fields))
        return len(model.requests)

    assert await steps({"roundtrips": 3}, max_steps=2) == 2
    assert await steps({"roundtrips": 3}, max_steps=1) == 1
    assert await steps({"roundtrips": 3}, max_steps=9) == 4
    assert await steps({"roundtrips": 3, "most_roundtrips": 6}, max_steps=9) == 7
    assert await steps({"roundtrips": 3, "most_roundtrips": 6}) == 4
    assert await steps({"roundtrips": 9}, max_budget=200) == 2
    assert await steps({"roundtrips": 9, "budget": 200}, max_budget=900) == 2


@pytest.mark.parametrize("field", ["max_steps", "max_budget"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, [1]])
async def test_limits_of_a_request_that_are_no_numbers_are_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await run(ToolLoop(ScriptedBackend(["Hi."])), request_for(**{field: value}))
    assert caught.value.param == field


async def test_a_client_that_wants_to_know_is_told_of_each_step() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo"), UsageReported(50, 50)], ["Sunny."])

    said = await run(ToolLoop(model, [weather], budget=1000), request_for(report_steps=True))
    told = [event for event in said if isinstance(event, Progress)]

    assert [(event.kind, event.id, event.done) for event in told] == [
        *[("step", "step_1", False), ("step", "step_1", True), ("step", "step_2", False), ("step", "step_2", True)],
    ]
    assert told[1].data == {"step": 1, "max_steps": 6, "used_budget": 100, "max_budget": 1000, "tool_calls": 1}
    assert told[3].data["tool_calls"] == 0


@pytest.mark.parametrize("wrong", [{"roundtrips": -1}, {"budget": 0}, {"roundtrips": 3, "most_roundtrips": 2}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"at least one|no less"):
        ToolLoop(ScriptedBackend([]), [], **cast("Any", wrong))


def test_a_model_that_cannot_call_tools_is_refused() -> None:
    with pytest.raises(TypeError, match="does not declare that it can call tools"):
        ToolLoop(ScriptedBackend([], capabilities=Capabilities(client_tools=False)), [weather])


def test_the_loop_can_take_what_its_model_can() -> None:
    capabilities = Capabilities(vision=False, counts_tokens=True, state_version=3)

    loop = ToolLoop(ScriptedBackend([], capabilities=capabilities), [weather])
    own = {"own_tools": frozenset({"weather"}), "security_modes": True, "keeps_state": True, "state_version": 0}
    assert loop.capabilities == replace(capabilities, **own)


# the client's tools


async def test_a_call_of_the_clients_tool_pauses_the_turn() -> None:
    model = ScriptedBackend([call("c", "pick_file"), Paused((PendingCall("c", "pick_file", "{}"),))])
    request = request_for(tools=[function("pick_file")])

    said = await run(ToolLoop(model, [weather]), request)

    assert said[-1] == Paused((PendingCall("c", "pick_file", "{}"),))
    assert names(model.requests[0]) == ["weather", "pick_file"]
    assert model.requests[0].tool_choice.names == {"weather", "pick_file"}


def answered(call_id: str) -> AgentRequest:
    """The client's request with the result of its call: contains nothing of our tools."""
    made = {"id": call_id, "type": "function", "function": {"name": "pick_file", "arguments": "{}"}}
    results = [{"role": "assistant", "tool_calls": [made]}, {"role": "tool", "tool_call_id": call_id, "content": "x"}]
    return request_for([user("Go"), *results], tools=[function("pick_file")])


async def test_calls_of_both_in_one_step_run_ours_and_leave_the_clients_to_it() -> None:
    loop = ToolLoop(ScriptedBackend([call("a", "weather", city="Oslo"), call("c", "pick_file")]), [weather])

    said = await run(loop, request_for("Go", tools=[function("pick_file")]))
    assert [result.call_id for result in results(said)] == ["a"]
    assert said[-1].pending == (PendingCall("c", "pick_file", "{}"),)

    model = ScriptedBackend(["Done."])
    elsewhere = ToolLoop(model, [weather])
    assert text(await run(elsewhere, after(answered("c"), said[-1], client={"c": "x"}))) == "Done."

    [seen] = model.requests
    assert [(message.call_id, message.text) for message in seen.messages if isinstance(message, ToolMessage)] == [
        ("a", "sunny in Oslo"),
        ("c", "x"),
    ]
    assert [message["role"] for message in seen.raw_messages] == ["user", "assistant", "tool", "tool"]
    assert [made["id"] for made in seen.raw_messages[1]["tool_calls"]] == ["a", "c"]
    assert seen.state is None  # the state belongs to the loop


async def test_what_our_tools_answered_before_the_client_is_asked_is_in_the_state() -> None:
    loop = ToolLoop(ScriptedBackend([call("a", "weather", city="Oslo")], [call("c", "pick_file")]), [weather])
    said = await run(loop, request_for("Go", tools=[function("pick_file")]))

    for request, roles in [
        (after(answered("c"), said[-1], client={"c": "x"}), ["user", "assistant", "tool", "assistant", "tool"]),
        (answered("c"), ["user", "assistant", "tool"]),  # the state is lost, but the client's own messages remain
    ]:
        model = ScriptedBackend(["Done."])
        await run(ToolLoop(model, [weather]), request)
        assert [message["role"] for message in model.requests[0].raw_messages] == roles
        assert model.requests[0].messages[-1] == ToolMessage("c", "x", "pick_file")


async def test_a_client_that_knows_all_that_was_done_needs_no_state() -> None:
    loop = ToolLoop(ScriptedBackend([call("c", "pick_file")]), [weather])
    said = await run(loop, request_for("Go", tools=[function("pick_file")]))
    assert said[-1] == Paused((PendingCall("c", "pick_file", "{}"),))


async def test_a_tool_of_the_clients_cannot_have_the_name_of_one_of_ours() -> None:
    model = ScriptedBackend([call("c", "weather", city="Oslo")])

    with pytest.raises(InvalidRequest) as refused:
        await run(ToolLoop(model, [weather]), request_for(tools=[function("weather")]))

    assert (refused.value.code, refused.value.param, model.requests) == ("tool_name_taken", "tools", [])


async def test_where_the_client_demands_a_call_of_its_tools_ours_are_not_offered() -> None:
    model = ScriptedBackend([call("c", "pick_file")])

    await run(ToolLoop(model, [weather]), request_for(tools=[function("pick_file")], tool_choice="required"))

    assert (names(model.requests[0]), model.requests[0].tool_choice.required) == (["pick_file"], True)


async def test_where_the_client_wants_none_of_its_tools_called_ours_are_offered() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo")], ["Sunny."])

    said = await run(ToolLoop(model, [weather]), request_for(tools=[function("pick_file")], tool_choice="none"))

    assert (names(model.requests[0]), text(said)) == (["weather"], "Sunny.")


async def test_a_custom_tool_of_the_clients_keeps_its_text() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo"), ToolCallReady("c", "sql", "select 1")], ["Done."])
    request = request_for("Go", tools=[{"type": "custom", "custom": {"name": "sql"}}])
    loop = ToolLoop(model, [weather])

    said = await run(loop, request)
    assert said[-1].pending == (PendingCall("c", "sql", "select 1"),)
    made = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    answer = [
        user("Go"),
        {"role": "assistant", "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    sent = request_for(answer, tools=[{"type": "custom", "custom": {"name": "sql"}}])
    await run(loop, after(sent, said[-1], client={"c": "1"}))

    seen = model.requests[1].messages[1]
    assert isinstance(seen, AssistantMessage)
    assert [made.kind for made in seen.tool_calls] == ["function", "custom"]
    assert [offered for offered in model.requests[1].tools if isinstance(offered, CustomTool)]


# modes


async def test_a_tool_that_is_not_safe_is_denied_when_there_is_nobody_to_ask() -> None:
    ran: list[str] = []

    def delete(path: str) -> None:
        ran.append(path)

    model = ScriptedBackend([call("a", "delete", path="/")], ["I may not."])
    said = await run(ToolLoop(model, [delete]))

    denied = ToolResult("a", "Denied: It needs approval, and there is nobody to ask.", denied=True)
    assert (results(said), ran, text(said)) == ([denied], [], "I may not.")
    assert cast("ToolMessage", model.requests[1].messages[-1]).text == denied.output


async def test_in_the_mode_deny_no_tool_is_offered_and_none_runs() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo")], ["I may not."])

    said = await run(ToolLoop(model, [weather], security="deny"))

    assert model.requests[0].tools == ()
    assert results(said) == [ToolResult("a", "Denied: Tools may not be used here.", denied=True)]


async def test_a_request_tightens_the_mode_and_does_not_loosen_it() -> None:
    ran: list[str] = []

    def delete(path: str) -> str:
        ran.append(path)
        return "gone"

    script = [[call("a", "delete", path="/")], ["Done."]]
    await run(ToolLoop(ScriptedBackend(*script), [delete], security="full"), request_for(security_mode="ask"))
    await run(ToolLoop(ScriptedBackend(*script), [delete], security="ask"), request_for(security_mode="full"))
    assert ran == []
    await run(ToolLoop(ScriptedBackend(*script), [delete], security="full"), request_for())
    assert ran == ["/"]


async def test_a_request_for_a_mode_that_does_not_exist_is_refused_before_the_model_is_asked() -> None:
    model = ScriptedBackend(["Hi."])

    with pytest.raises(InvalidRequest):
        await run(ToolLoop(model, [weather]), request_for(security_mode="yolo"))
    assert model.requests == []


async def test_the_sandbox_mode_without_a_sandbox_denies_even_what_is_safe() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo")], ["I may not."])

    said = await run(ToolLoop(model, [weather], security="sandbox"))

    assert results(said) == [
        ToolResult("a", "Denied: Tools may be used in a sandbox only, and there is none.", denied=True)
    ]


# leaving


async def test_a_turn_that_is_left_leaves_no_tool_running() -> None:
    started, ended = anyio.Event(), anyio.Event()

    @tool(danger="safe")
    async def forever() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async def read() -> None:
        loop = ToolLoop(ScriptedBackend([call("a", "forever"), call("b", "forever")]), [forever])
        async with aclosing(cast("Any", loop.run(request_for(), new_context()))) as items:
            async for _ in items:
                pass

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await started.wait()
            group.cancel_scope.cancel()
    assert ended.is_set()


async def test_a_turn_that_is_closed_between_two_results_leaves_no_tool_running() -> None:
    ended = anyio.Event()

    @tool(danger="safe")
    async def forever() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    loop = ToolLoop(ScriptedBackend([call("a", "weather", city="Oslo"), call("b", "forever")]), [weather, forever])
    with anyio.fail_after(10):
        async with aclosing(cast("Any", loop.run(request_for(), new_context()))) as items:
            async for item in items:
                if isinstance(item, ToolResult):
                    break
    assert ended.is_set()


async def test_the_models_failure_is_the_turns() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo")], [AgentError("Out of tokens.", status=429)])

    with pytest.raises(AgentError, match="Out of tokens"):
        await run(ToolLoop(model, [weather]))


async def test_a_tool_that_cancels_itself_has_failed_and_the_turn_goes_on(anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        pytest.skip("on trio, only trio itself can raise Cancelled")

    @tool(danger="safe")
    async def gives_up() -> None:
        raise anyio.get_cancelled_exc_class()

    said = await run(ToolLoop(ScriptedBackend([call("a", "gives_up")], ["Hm."]), [gives_up]))

    assert results(said) == [ToolResult("a", "The tool failed.", is_error=True)]
    assert text(said) == "Hm."


class Model(ScriptedBackend):
    closed = False
    cancelled: list[RunContext]

    def request_cancel(self, context: RunContext) -> None:
        self.cancelled = [context]

    async def aclose(self) -> None:
        self.closed = True


class Source:
    name = "tickets"
    closed = False

    async def tools(self) -> list[AgentTool]:
        raise ConnectionError("refused")

    async def aclose(self) -> None:
        self.closed = True


async def test_the_model_and_the_sources_are_told_to_stop_and_closed_with_the_loop() -> None:
    model, source, context = Model(["Hi."]), Source(), new_context()
    loop = ToolLoop(model, [source])
    loop.request_cancel(context)
    ToolLoop(ScriptedBackend([])).request_cancel(context)
    await loop.aclose()

    assert (model.cancelled, model.closed, source.closed) == ([context], True, True)


async def test_a_source_that_cannot_be_reached_is_missed_with_a_notice(caplog: pytest.LogCaptureFixture) -> None:
    said = await run(ToolLoop(ScriptedBackend(["Hi."]), [Source(), weather]))

    assert said == [
        Notice("The tools of 'tickets' cannot be reached.", "warning"),
        TextDelta("Hi."),
        Finished("stop"),
    ]
    assert [record.getMessage() for record in caplog.records] == ["req_1: the tools of 'tickets' cannot be reached"]
    assert "refused" in caplog.text


async def test_any_agent_that_takes_the_request_can_be_the_model() -> None:
    async def model(request: AgentRequest) -> AsyncIterator[Any]:
        last = request.messages[-1]
        yield last.text if isinstance(last, ToolMessage) else call("a", "weather", city="Oslo")

    assert text(await run(ToolLoop(model, [weather]))) == "sunny in Oslo"


async def test_a_state_is_plain_json() -> None:
    model = ScriptedBackend([call("a", "weather", city="Oslo"), call("c", "pick_file")])
    items = ToolLoop(model, [weather]).run(request_for(tools=[function("pick_file")]), new_context())
    async with aclosing(cast("Any", items)) as said:
        last = [item async for item in said][-1]

    assert json.loads(json.dumps(last.state)) == last.state
