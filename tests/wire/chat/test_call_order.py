"""Parallel calls of an agent reach chat clients one after another, as the SDK's accumulator requires."""

from __future__ import annotations

import json
from typing import Any, cast

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from openai_compat.agent_request import Sampling
from openai_compat.errors import AgentError
from openai_compat.events import AgentEvent, Finished, TextDelta, ToolCallDelta, ToolCallReady, ToolCallStarted
from openai_compat.turns.event_contract import EventContract
from openai_compat.wire.chat.call_order import CALL_OVERHEAD, CallOrder
from openai_compat.wire.chat.serialize import ChatForm, ChatStream
from openai_compat.wire.presentation import Presentation
from openai_compat.wire.reducer import Item, Reducer
from tests.requirements import requirement
from tests.support import strategies
from tests.support.exchanges import sse_events, strict_json
from tests.turns.test_event_contract import ALL

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
STRICT: list[Any] = [
    {"type": "function", "function": {"name": name, "strict": True, "parameters": PARAMETERS}}
    for name in ("find", "get_weather")
]
FORM = ChatForm("chatcmpl-1", 1_700_000_000, "agent")

Script = list[AgentEvent | str]


@st.composite
def call_scripts(draw: st.DrawFn) -> list[Script]:
    """The events of each of the agent's calls: deltas, then a final event with or without arguments, or none."""
    scripts: list[Script] = []
    for number in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(["find", "get_weather", "own_tool"]))
        arguments = json.dumps({"city": draw(st.text('ab"é😀', max_size=4))})
        cuts = sorted(draw(st.lists(st.integers(0, len(arguments)), max_size=3)))
        pieces = [arguments[a:b] for a, b in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
        call = f"call_{number}"
        ready = draw(st.sampled_from([[], [ToolCallReady(call, name, "")], [ToolCallReady(call, name, arguments)]]))
        scripts.append([ToolCallStarted(call, name), *[ToolCallDelta(call, piece) for piece in pieces], *ready])
    return [*scripts, draw(st.lists(st.just("text"), max_size=2))]


@st.composite
def interleaved_scripts(draw: st.DrawFn) -> Script:
    """The calls' events in any interleaving that keeps the order within each call."""
    waiting = [list(script) for script in draw(call_scripts())]
    said: Script = []
    while any(waiting):
        said.append(draw(st.sampled_from([script for script in waiting if script])).pop(0))
    return said


def show_items(said: Script, sampling: Sampling | None = None) -> list[list[Item]]:
    """Return the items that a chat turn shows, per event."""
    enforcer = EventContract(strategies.asked(ALL, sampling or Sampling()), counts_tokens=False)
    view = Presentation("hidden", call_order=CallOrder(100_000))
    fed = [*[cast("list[Item]", enforcer.feed(item)) for item in said], cast("list[Item]", enforcer.end())]
    return [view.show(items) for items in fed]


def write_chunks(choices: list[list[list[Item]]]) -> list[Any]:
    """Return the chunks of all choices, alternating item by item."""
    streams = [ChatStream(FORM, index) for index in range(len(choices))]
    pieces = [stream.begin() for stream in streams]
    for turn in range(max(map(len, choices))):
        pieces += [streams[index].feed(batches[turn]) for index, batches in enumerate(choices) if turn < len(batches)]
    return sse_events(b"".join(pieces))


def accumulate(chunks: list[Any]) -> tuple[ChatCompletionStreamState[Any], list[Any]]:
    """Return the SDK's state after these chunks, and the events that it emitted."""
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState(input_tools=STRICT)
    return state, [event for chunk in chunks for event in state.handle_chunk(ChatCompletionChunk.model_validate(chunk))]


@requirement("chat.calls.in_turn")
@given(st.lists(interleaved_scripts(), min_size=1, max_size=3))
def test_the_sdk_gets_every_call_whole_and_once_however_they_are_interleaved(turns: list[Script]) -> None:
    choices = [show_items(said) for said in turns]
    chunks = write_chunks(choices)
    state, events = accumulate(chunks)
    expected: list[list[Any]] = []
    for batches in choices:
        reducer = Reducer()
        reducer.feed([item for items in batches for item in items])
        expected.append([(call.call_id, call.name, call.arguments) for call in reducer.message().client_calls])
    messages = [choice.message for choice in state.get_final_completion().choices]
    assert [[(c.id, c.function.name, c.function.arguments) for c in m.tool_calls or ()] for m in messages] == expected
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert sorted(event.arguments for event in done) == sorted(call[2] for calls in expected for call in calls)
    assert all(event.parsed_arguments == json.loads(event.arguments) for event in done)


@given(interleaved_scripts(), st.integers(1, 3))
def test_a_call_is_written_whole_before_the_next_one_begins(said: Script, limit: int) -> None:
    for sampling in (None, Sampling(max_tokens=limit)):
        open_call: list[str] = []
        for item in [item for items in show_items(said, sampling) for item in items]:
            if isinstance(item, ToolCallStarted):
                assert not open_call
                open_call.append(item.call_id)
            elif isinstance(item, ToolCallDelta):
                assert open_call == [item.call_id]
            elif isinstance(item, ToolCallReady):
                assert open_call.pop() == item.call_id


@requirement("chat.calls.in_turn")
def test_what_comes_first_is_not_held_up_and_what_waited_follows_at_once() -> None:
    order = CallOrder(1000)
    first, second = ToolCallStarted("1", "find", "client"), ToolCallStarted("2", "find", "client")
    ready = ToolCallReady("1", "find", "{}", "client")
    assert order.show(first) == (first,)
    assert [order.show(event) for event in (second, ToolCallDelta("2", "{"), ToolCallDelta("2", '"a"'))] == [()] * 3
    assert order.show(ToolCallDelta("1", "{}")) == (ToolCallDelta("1", "{}"),)
    assert order.show(ready) == (ready, second, ToolCallDelta("2", '{"a"'))
    assert order.show(ToolCallDelta("2", "}")) == (ToolCallDelta("2", "}"),)


@requirement("chat.calls.in_turn")
def test_a_turn_that_is_cut_off_leaves_one_call_unfinished_at_most() -> None:
    begun: Script = [ToolCallStarted("1", "find"), ToolCallStarted("2", "find"), ToolCallDelta("2", "{}")]
    items = [item for batch in show_items([*begun, "12345"], Sampling(max_tokens=1)) for item in batch]
    assert items == [ToolCallStarted("1", "find", "client"), TextDelta("1234"), Finished("length")]
    reducer = Reducer()
    reducer.feed(items)
    plain = strict_json(FORM.whole_response([reducer.message()]))
    assert [call["id"] for call in plain["choices"][0]["message"]["tool_calls"]] == ["1"]
    with pytest.raises(openai.LengthFinishReasonError):
        accumulate(write_chunks([[items]]))


def test_what_waits_is_bounded() -> None:
    order = CallOrder(CALL_OVERHEAD + 10)
    order.show(ToolCallStarted("1", "find", "client"))
    order.show(ToolCallStarted("2", "find", "client"))
    order.show(ToolCallDelta("2", "1234567890"))
    with pytest.raises(AgentError) as error:
        order.show(ToolCallDelta("2", "1"))
    assert (error.value.status, error.value.code) == (502, "answer_too_large")


def test_what_was_let_go_counts_no_more() -> None:
    order = CallOrder(CALL_OVERHEAD + 10)
    for number in range(100):
        order.show(ToolCallStarted(f"a{number}", "find", "client"))
        order.show(ToolCallStarted(f"b{number}", "find", "client"))
        order.show(ToolCallDelta(f"b{number}", "😀23456789"))
        order.show(ToolCallReady(f"a{number}", "find", "{}", "client"))
        order.show(ToolCallReady(f"b{number}", "find", "{}", "client"))
