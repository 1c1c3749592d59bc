"""Streamed and plain responses agree, however the stream is batched, and every byte of them is valid."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openai_compat.agent_request import Sampling, ToolChoice
from openai_compat.errors import AgentError
from openai_compat.events import (
    AgentEvent,
    Citation,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
    Progress,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat.turns.event_contract import EventContract
from openai_compat.wire.chat.legacy_serialize import CompletionForm, CompletionStream
from openai_compat.wire.chat.serialize import ChatForm, ChatStream
from openai_compat.wire.presentation import Presentation, Visibility
from openai_compat.wire.reducer import FinalMessage, Item, Reducer, Usage
from tests.requirements import requirement
from tests.support import strategies
from tests.support.accumulator import chat_messages, completion_choices
from tests.support.exchanges import sse_events, strict_json

VISIBILITIES: list[Visibility] = ["status", "hidden", "reasoning", "text"]
CUSTOM = frozenset(["write_code"])
ALL = ToolChoice(frozenset(["get_weather", "find", "write_code"]))


def run_contract(said: list[AgentEvent | str]) -> list[Item]:
    """Return the items that a turn passes on: contract order, one terminal event; violations are dropped."""
    enforcer = EventContract(strategies.asked(ALL, Sampling()), counts_tokens=True)
    out: list[Item] = []
    for item in said:
        if isinstance(item, str) and enforcer.can_pass(item):
            out += [item] if item else []  # as in a turn: text that needs no check is passed on unchanged
            continue
        with suppress(AgentError):
            out += enforcer.feed(item)
    return [*out, *enforcer.end()]


turns = st.lists(strategies.items, max_size=15).map(run_contract)
batched_turns = st.tuples(turns, strategies.cuts).map(lambda pair: strategies.split(*pair))
answers = st.lists(batched_turns, min_size=1, max_size=3)


def fold_shown(batches: list[list[Item]], view: Presentation) -> FinalMessage:
    reducer = Reducer()
    for batch in batches:
        reducer.feed(view.show(batch))
    return reducer.message()


def usage_of(messages: list[FinalMessage]) -> Usage:
    usage = Usage()
    for message in messages:
        usage.add(message.usage)
    return usage


def interleave(answer: list[list[list[Item]]]) -> list[tuple[int, list[Item]]]:
    longest = max(map(len, answer))
    return [(index, batches[n]) for n in range(longest) for index, batches in enumerate(answer) if n < len(batches)]


HALVES: list[Item] = ["\ud83d", "\ude00", Finished()]
"""The two surrogate halves of an emoji, as separate chunks."""


@given(answers, st.sampled_from(VISIBILITIES), st.booleans())
@example(answer=[[[item] for item in HALVES]], visibility="status", include_usage=False)
def test_a_chat_stream_adds_up_to_the_plain_answer(
    answer: list[list[list[Item]]], visibility: Visibility, include_usage: bool
) -> None:
    form = ChatForm("chatcmpl-1", 1_700_000_000, 'mo"del\ud800', CUSTOM, include_usage)
    messages = [fold_shown([[*chain(*batches)]], Presentation(visibility)) for batches in answer]
    plain = strict_json(form.whole_response(messages))

    views, streams = [Presentation(visibility) for _ in answer], [ChatStream(form, i) for i in range(len(answer))]
    written = [streams[index].feed(views[index].show(batch)) for index, batch in interleave(answer)]
    for piece in written:
        sse_events(piece)  # every write holds whole events only
    choices, usage = chat_messages(b"".join(written) + form.stream_end(usage_of(messages)))

    assert choices == plain["choices"]
    assert usage == (plain["usage"] if include_usage else None)


@given(answers, st.booleans(), st.booleans())
@example(answer=[[[item] for item in HALVES]], echo=True, include_usage=False)
def test_a_completion_stream_adds_up_to_the_plain_answer(
    answer: list[list[list[Item]]], echo: bool, include_usage: bool
) -> None:
    echoes = tuple(["echoed\ud800 " if echo else "" for _ in answer])
    form = CompletionForm("cmpl-1", 1_700_000_000, "model", include_usage, echoes)
    messages = [fold_shown([[*chain(*batches)]], Presentation("hidden", refusal_as_text=True)) for batches in answer]
    plain = strict_json(form.whole_response(messages))

    views = [Presentation("hidden", refusal_as_text=True) for _ in answer]
    streams = [CompletionStream(form, index) for index in range(len(answer))]
    written = [streams[index].feed(views[index].show(batch)) for index, batch in interleave(answer)]
    for piece in written:
        sse_events(piece)
    choices, usage = completion_choices(b"".join(written) + form.stream_end(usage_of(messages)))

    assert choices == plain["choices"]
    assert usage == (plain["usage"] if include_usage else None)


@given(turns, strategies.cuts, strategies.cuts, st.sampled_from(VISIBILITIES))
def test_how_a_turn_is_split_into_batches_changes_nothing(
    items: list[Item], cuts: list[int], other: list[int], visibility: Visibility
) -> None:
    form = ChatForm("chatcmpl-1", 1, "agent", CUSTOM)

    def stream(where: list[int]) -> bytes:
        view, writer = Presentation(visibility), ChatStream(form, 0)
        return b"".join([writer.feed(view.show(batch)) for batch in strategies.split(items, where)])

    assert stream(cuts) == stream(other)
    assert fold_shown(strategies.split(items, cuts), Presentation(visibility)) == fold_shown(
        strategies.split(items, other), Presentation(visibility)
    )


@pytest.mark.parametrize("hostile", strategies.HOSTILE)
def test_hostile_text_stays_inside_its_event(hostile: str) -> None:
    items: list[Item] = [
        hostile,
        TextDelta(hostile),
        ReasoningDelta(hostile),
        Progress("step", "1", hostile),
        Finished(),
    ]
    data = ChatStream(ChatForm("chatcmpl-1", 1, hostile), 0).feed(items)
    *_, last = events = sse_events(data)
    assert len(events) == 6
    assert last["choices"][0]["finish_reason"] == "stop"
    shown = "".join(["\ufffd" if "\ud800" <= c <= "\udfff" else c for c in hostile])
    assert [events[1]["choices"][0]["delta"], events[2]["choices"][0]["delta"]] == [{"content": shown}] * 2


def chunks(items: list[Item], form: ChatForm | None = None) -> list[Any]:
    return sse_events(ChatStream(form or ChatForm("chatcmpl-1", 1, "agent", CUSTOM), 0).feed(items))


def deltas(items: list[Item]) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(items)]


def test_a_text_chunk_is_exactly_what_openai_writes() -> None:
    expected = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "agent",
        "system_fingerprint": None,
        "choices": [{"index": 0, "delta": {"content": "hi"}, "logprobs": None, "finish_reason": None}],
    }
    assert chunks(["hi"])[1] == expected
    assert chunks([TextDelta("hi")])[1] == expected
    assert chunks(["hi"], ChatForm("chatcmpl-1", 1, "agent", CUSTOM, include_usage=True))[1] == expected | {
        "usage": None
    }


def test_a_calls_id_type_and_name_are_said_once_and_its_arguments_in_pieces() -> None:
    call: list[Item] = [ToolCallStarted("1", "find", "client"), ToolCallDelta("1", '{"a"'), ToolCallDelta("1", ":1}")]
    assert deltas([*call, ToolCallReady("1", "find", '{"a":1}', "client"), Paused()]) == [
        {"role": "assistant", "content": None, "refusal": None},
        {"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": {"name": "find", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {},
    ]


def test_a_custom_tools_call_is_written_as_one() -> None:
    assert deltas([ToolCallStarted("1", "write_code", "client"), ToolCallDelta("1", "x = 1")])[1:] == [
        {"tool_calls": [{"index": 0, "id": "1", "type": "custom", "custom": {"name": "write_code", "input": ""}}]},
        {"tool_calls": [{"index": 0, "custom": {"input": "x = 1"}}]},
    ]


def test_the_agents_work_is_an_event_beside_an_empty_delta() -> None:
    (_, progress, notice) = chunks([Progress("step", "1", "Looking …"), Notice("Careful.")])
    assert progress["event"] == {"type": "status", "data": {"description": "Looking …", "done": False}}
    assert notice["event"] == {"type": "status", "data": {"description": "Careful.", "done": True}}
    assert progress["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}]


@requirement("tools.at_once")
def test_tools_that_run_at_once_share_a_line_so_that_no_outcome_is_hidden() -> None:
    both: list[Item] = [
        ToolCallReady("a", "fetch", "{}", "agent"),
        ToolCallReady("b", "search", "{}", "agent"),
        ToolResult("a", "no", is_error=True),
        ToolResult("b", "yes"),
        ToolCallReady("c", "sum", "{}", "agent"),
        ToolResult("c", "3"),
    ]
    started: list[Item] = [ToolCallStarted(c, n, "agent") for c, n in (("a", "fetch"), ("b", "search"), ("c", "sum"))]
    lines = [chunk["event"]["data"] for chunk in chunks(Presentation().show([*started, *both]))[1:]]
    assert [(line["description"], line["done"]) for line in lines] == [
        ("Running fetch …", False),
        ("Running fetch … · Running search …", False),
        ("fetch failed · Running search …", False),
        ("fetch failed · search done", True),
        ("Running sum …", False),
        ("sum done", True),
    ]


@pytest.mark.parametrize("text", ["hi", 'a "quote" \\ \n\t\x00\x7f', "é \N{GRINNING FACE} \u2028", "half \ud800"])
@pytest.mark.parametrize("usage", [Usage(), Usage(1, 2, 3, None, None, reported=True)])
def test_an_answer_of_text_alone_is_written_as_any_other(text: str, usage: Usage) -> None:
    form, alone = ChatForm("chatcmpl-1", 1, 'an "agent" \ud800é'), FinalMessage(text=text, usage=usage)
    beside = FinalMessage(text=text, usage=usage, reasoning="more than text")
    assert form.whole_response([alone]) == form.whole_response([beside]).replace(
        b',"reasoning_content":"more than text"', b""
    )


def test_an_answer_without_anything_in_it_has_empty_content() -> None:
    assert deltas([Finished()]) == [{"role": "assistant", "content": "", "refusal": None}, {}]
    plain = strict_json(ChatForm("chatcmpl-1", 1, "agent").whole_response([FinalMessage()]))
    assert plain == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "agent",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "reported": False},
    }


def test_citations_pictures_and_speech_are_carried() -> None:
    items: list[Item] = [
        "See ",
        Citation("https://a.example", "A", 0, 3),
        MediaDelta(b"png", "image/png"),
        MediaDelta(b"spee", "audio/wav", "hel"),
        MediaDelta(b"ch", "audio/wav", "lo"),
        Finished(),
    ]
    (choice,), _ = chat_messages(ChatStream(ChatForm("chatcmpl-1", 7, "agent"), 0).feed(items) + b"data: [DONE]\n\n")
    assert choice["message"] == {
        "role": "assistant",
        "content": "See ",
        "refusal": None,
        "annotations": [
            {
                "type": "url_citation",
                "url_citation": {"start_index": 0, "end_index": 3, "url": "https://a.example", "title": "A"},
            }
        ],
        "audio": {"id": "audio_1", "data": "c3BlZWNo", "expires_at": 3607, "transcript": "hello"},
        "images": [{"index": 0, "type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}}],
    }


def test_what_a_message_break_divides_stays_apart() -> None:
    view = Presentation()
    assert view.show([MessageBreak(), "one", MessageBreak(), MessageBreak(), "two", MessageBreak()]) == [
        "one",
        "\n\n",
        "two",
    ]


def test_usage_is_the_sum_of_all_reports_and_says_when_there_was_none() -> None:
    form = ChatForm("chatcmpl-1", 1, "agent", include_usage=True)
    usage = Usage()
    assert sse_events(form.stream_end(usage))[0]["usage"]["reported"] is False
    usage.add(UsageReported(10, 5, cached_tokens=4))
    usage.add(UsageReported(1, 2, reasoning_tokens=1))
    assert sse_events(form.stream_end(usage))[0] == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "agent",
        "system_fingerprint": None,
        "choices": [],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }
