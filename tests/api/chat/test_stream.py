"""Streamed chat completions."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import openai
import pytest

from openai_compat import (
    AgentEvent,
    Citation,
    Deadlines,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    Server,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat_adapters.client import sync_openai
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says
from tests.transports import uvicorn_socket

pytestmark = pytest.mark.anyio

LOOK: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CODE: Any = {"type": "custom", "custom": {"name": "code"}}
SPEECH: Any = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
PROBABLE = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}


def citation(url: str, title: str, start: int, end: int) -> dict[str, Any]:
    place = {"url": url, "title": title, "start_index": start, "end_index": end}
    return {"type": "url_citation", "url_citation": place}


def picture(index: int, base64: str) -> dict[str, Any]:
    return {"index": index, "type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64}"}}


@dataclass
class Case:
    """An agent's output, and the resulting message and finish_reason, streamed and whole."""

    items: list[AgentEvent | str]
    message: dict[str, Any]
    finish: str = "stop"
    ask: dict[str, Any] = field(default_factory=dict[str, Any])
    logprobs: list[Any] | None = None


CASES = {
    "text": Case(["Hello, ", TextDelta("Bob")], {"content": "Hello, Bob"}),
    "nothing": Case([], {"content": ""}),
    "two messages": Case(["one", MessageBreak(), MessageBreak(), "two"], {"content": "one\n\ntwo"}),
    "reasoning": Case(
        [ReasoningDelta("Let me "), ReasoningDelta("think."), "Yes."],
        {"reasoning_content": "Let me think.", "content": "Yes."},
    ),
    "reasoning alone": Case([ReasoningDelta("Hm.")], {"reasoning_content": "Hm.", "content": ""}),
    "refusal": Case([RefusalDelta("I will "), RefusalDelta("not.")], {"refusal": "I will not."}),
    "two citations": Case(
        ["See A, B.", Citation("http://a/", "A", 4, 5), Citation("http://b/", "B", 7, 8)],
        {"content": "See A, B.", "annotations": [citation("http://a/", "A", 4, 5), citation("http://b/", "B", 7, 8)]},
    ),
    "a citation in the second message": Case(
        ["One. ", MessageBreak(), "Two.", Citation("http://a/", "A", 5, 8)],
        {"content": "One. \n\nTwo.", "annotations": [citation("http://a/", "A", 7, 10)]},
    ),
    "two pictures": Case(
        ["Look:", MediaDelta(b"abc", "image/png"), MediaDelta(b"def", "image/png")],
        {"content": "Look:", "images": [picture(0, "YWJj"), picture(1, "ZGVm")]},
    ),
    "speech": Case(
        [MediaDelta(b"a", "audio/wav", "Hel"), MediaDelta(b"bcde", "audio/wav", "lo")],
        {"audio": {"data": "YWJjZGU=", "transcript": "Hello"}},
        ask=SPEECH,
    ),
    "function calls": Case(
        [
            ToolCallStarted("call_1", "look"),
            ToolCallDelta("call_1", '{"at":'),
            ToolCallReady("call_2", "look", "{}"),
            ToolCallDelta("call_1", '"sky"}'),
            ToolCallReady("call_1", "look", '{"at":"sky"}'),
        ],
        {
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}},
                {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            ]
        },
        finish="tool_calls",
        ask={"tools": [LOOK]},
    ),
    "the agent's own tools": Case(
        [
            "Let me see. ",
            ToolCallReady("t", "search", "{}"),
            ToolResult("t", "42"),
            Progress("step", "s", "Adding"),
            "42",
        ],
        {"content": "Let me see. \n\n42"},
    ),
    "a notice": Case([Notice("The disk is nearly full.", "warning"), "Done."], {"content": "Done."}),
    "usage": Case(["Hi.", UsageReported(1, 2)], {"content": "Hi."}),
    "token probabilities": Case(
        [TextDelta("a", [PROBABLE]), TextDelta("a", [PROBABLE])],
        {"content": "aa"},
        ask={"logprobs": True},
        logprobs=[PROBABLE, PROBABLE],
    ),
}


def said(choice: Any) -> Case:
    """The SDK's result for an answer, without ids and the SDK's own fields, which always differ."""
    message = {key: value for key, value in choice.message.model_dump().items() if value}
    message.pop("role")
    if choice.message.content == "":
        message["content"] = ""
    for call in message.get("tool_calls", []):
        call.pop("index", None)
        call["function"].pop("parsed_arguments", None)
    if "audio" in message:
        assert message["audio"].pop("id").startswith("audio_")
        assert message["audio"].pop("expires_at") > 1_700_000_000
    probable = choice.logprobs and [token.model_dump() for token in choice.logprobs.content]
    return Case([], message, choice.finish_reason, logprobs=probable)


@requirement("chat.stream.same-as-plain")
@pytest.mark.parametrize("name", CASES)
async def test_what_is_streamed_adds_up_to_what_is_answered_plainly(name: str, connect: Connect) -> None:
    case = CASES[name]
    expected = Case([], case.message, case.finish, logprobs=case.logprobs)
    async with connect({"together": Says(*case.items), "apart": Says(*case.items, paced=True)}) as client:
        for model in ("together", "apart"):
            plain = await client.chat.completions.create(model=model, messages=HELLO, **case.ask)
            async with client.chat.completions.stream(model=model, messages=HELLO, **case.ask) as stream:
                streamed = await stream.get_final_completion()
            assert said(plain.choices[0]) == expected
            assert said(streamed.choices[0]) == expected
            assert plain.choices[0].message.role == streamed.choices[0].message.role == "assistant"


@requirement("chat.stream.same-as-plain")
@pytest.mark.parametrize("reason", ["length", "content_filter"])
@in_process
async def test_the_agents_own_finish_reason_is_passed_on(reason: Any, connect: Connect) -> None:
    async with connect(Says("Hi", Finished(reason), "not said")) as client:
        plain = await client.chat.completions.create(model="agent", messages=HELLO)
        stream = await client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert (plain.choices[0].message.content, plain.choices[0].finish_reason) == ("Hi", reason)
    assert "".join([chunk.choices[0].delta.content or "" for chunk in chunks]) == "Hi"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, reason]


@requirement("chat.stream")
@requirement("chat.first_chunk")
async def test_a_stream_says_the_role_once_and_first_and_ends_with_one_finish_reason(connect: Connect) -> None:
    async with connect({"greeter": Says("Hello, ", "Bob", paced=True)}) as client:
        stream = await client.chat.completions.create(model="greeter", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert [delta.role for delta in deltas] == ["assistant", None, None, None]
    assert [delta.content for delta in deltas] == ["", "Hello, ", "Bob", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1


@requirement("chat.stream")
@pytest.mark.parametrize(
    "first",
    [
        ReasoningDelta("Hm."),
        Progress("step", "1", "Working"),
        ToolCallReady("t", "own", "{}"),
        MediaDelta(b"x", "image/png"),
        UsageReported(1, 1),
    ],
)
@in_process
async def test_whatever_comes_first_the_role_is_said_once_and_before_it(first: AgentEvent, connect: Connect) -> None:
    async with connect(Says(first, "text")) as client:
        stream = await client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        roles = [chunk.choices[0].delta.role async for chunk in stream]
    assert roles == ["assistant"] + [None] * (len(roles) - 1)


@requirement("chat.stream.bytes")
@requirement("chat.first_chunk")
@requirement("chat.nullable_keys")
async def test_a_stream_is_server_sent_events_that_nothing_on_the_way_keeps_back(http: Http) -> None:
    body = {"model": "agent", "messages": HELLO, "stream": True}
    async with http(Says("Hi"), deadlines=Deadlines(head=30)) as client:
        answer = await client.post("/v1/chat/completions", json=body, headers={"accept": "application/json"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers
    *events, end, nothing = answer.text.split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    assert all(event.startswith("data: {") for event in events)
    head = {"object": "chat.completion.chunk", "model": "agent", "system_fingerprint": None}
    first = {"role": "assistant", "content": "", "refusal": None}
    for event, (delta, reason) in zip(events, [(first, None), ({"content": "Hi"}, None), ({}, "stop")], strict=True):
        chunk = json.loads(event.removeprefix("data: "))
        assert isinstance(chunk.pop("created"), int)
        assert chunk.pop("id").startswith("chatcmpl-")
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        assert chunk == {**head, "choices": [choice]}


@requirement("chat.stream.bytes")
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "application/json"])
@pytest.mark.parametrize(("stream", "kind"), [(True, "text/event-stream"), (False, "application/json")])
@in_process
async def test_stream_and_not_accept_decides_the_form(accept: str, stream: bool, kind: str, http: Http) -> None:
    body = {"model": "agent", "messages": HELLO, "stream": stream}
    async with http(Says("Hi")) as client:
        answer = await client.post("/v1/chat/completions", json=body, headers={"accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == kind


TEXTS = [
    "\n\ndata: [DONE]\n\n",
    "a\rb\r\nc",
    "x\u2028y\u2029z\x85",
    "\0\x1b\x7f",
    "\ufeffBOM",
    '"\\"',
    "🤖👩‍👩‍👧",
    ": comment",
    "event: x",
]


@requirement("chat.stream.any-text")
async def test_text_that_looks_like_framing_arrives_as_it_was_said(connect: Connect) -> None:
    async with connect({str(index): Says(text, "!") for index, text in enumerate(TEXTS)}) as client:
        for index, text in enumerate(TEXTS):
            stream = await client.chat.completions.create(model=str(index), messages=HELLO, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            plain = await client.chat.completions.create(model=str(index), messages=HELLO)
            assert "".join(pieces) == plain.choices[0].message.content == text + "!"


@requirement("chat.stream.any-text")
@in_process
async def test_half_a_surrogate_pair_is_replaced_and_the_answer_is_complete(connect: Connect) -> None:
    async with connect(Says("a\ud83db")) as client:
        stream = await client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        plain = await client.chat.completions.create(model="agent", messages=HELLO)
    assert "".join(pieces) == plain.choices[0].message.content == "a\ufffdb"


@requirement("chat.stream.live")
async def test_a_piece_arrives_before_the_agent_makes_the_next(connect: Connect) -> None:
    go = threading.Event()  # the agent may run on another thread's event loop

    async def patient(prompt: str) -> AsyncIterator[str]:
        yield "first"
        await anyio.to_thread.run_sync(go.wait, 10)
        yield "second"

    async with connect(patient) as client:
        async for chunk in await client.chat.completions.create(model="agent", messages=HELLO, stream=True):
            if chunk.choices[0].delta.content == "first":
                go.set()
    assert go.is_set()


@requirement("chat.stream.usage")
async def test_usage_is_null_until_a_last_chunk_without_choices_has_the_sum(connect: Connect) -> None:
    agent = Says(UsageReported(100, 1, cached_tokens=80), "Hi", UsageReported(10, 5, reasoning_tokens=4))
    async with connect(agent) as client:
        stream = await client.chat.completions.create(
            model="agent", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = [json.loads(chunk.model_dump_json(exclude_unset=True)) async for chunk in stream]
    assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 110,
        "completion_tokens": 6,
        "total_tokens": 116,
        "prompt_tokens_details": {"cached_tokens": 80},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }


@requirement("chat.stream.usage")
@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
@in_process
async def test_usage_that_was_not_asked_for_is_in_no_chunk_and_no_chunk_lacks_a_choice(
    options: Any, connect: Connect
) -> None:
    async with connect(Says("Hi", UsageReported(1, 2))) as client:
        stream = await client.chat.completions.create(
            model="agent", messages=HELLO, stream=True, stream_options=options
        )
        chunks = [json.loads(chunk.model_dump_json(exclude_unset=True)) async for chunk in stream]
    assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in chunks)


@requirement("chat.usage.unreported")
@in_process
async def test_where_the_agent_counts_nothing_the_zeros_say_that_they_are_no_count(connect: Connect) -> None:
    async with connect(Says("Hi")) as client:
        stream = await client.chat.completions.create(
            model="agent", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        *_, last = [chunk async for chunk in stream]
        plain = await client.chat.completions.create(model="agent", messages=HELLO)
    unreported = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "reported": False}
    assert last.usage is not None
    assert plain.usage is not None
    assert last.usage.model_dump(exclude_none=True) == plain.usage.model_dump(exclude_none=True) == unreported


@requirement("chat.stream.events")
async def test_the_sdks_own_stream_events_are_right(connect: Connect) -> None:
    agent = Says("Hi", ToolCallStarted("c", "look"), ToolCallDelta("c", "{}"))
    async with (
        connect(agent) as client,
        client.chat.completions.stream(model="agent", messages=HELLO, tools=[LOOK]) as stream,
    ):
        events = [event async for event in stream]
    kinds = [event.type for event in events if event.type != "chunk"]
    done = next(event for event in events if event.type == "tool_calls.function.arguments.done")
    assert kinds == [
        "content.delta",
        "content.delta",
        "tool_calls.function.arguments.delta",
        "content.done",
        "tool_calls.function.arguments.delta",
        "tool_calls.function.arguments.done",
    ]
    assert (done.name, done.index, done.arguments) == ("look", 0, "{}")


@requirement("chat.stream.n")
async def test_choices_are_streamed_side_by_side_each_with_its_own_role_and_end(connect: Connect) -> None:
    async with connect(Says("a", "b", UsageReported(1, 1))) as client:
        options: Any = {"include_usage": True}
        stream = await client.chat.completions.create(
            model="agent", messages=HELLO, stream=True, n=2, stream_options=options
        )
        *chunks, last = [chunk async for chunk in stream]
        async with client.chat.completions.stream(model="agent", messages=HELLO, n=2) as helper:
            final = await helper.get_final_completion()
    for index in (0, 1):
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        assert [(c.delta.role, c.delta.content, c.finish_reason) for c in mine] == [
            ("assistant", "", None),
            (None, "a", None),
            (None, "b", None),
            (None, None, "stop"),
        ]
    assert last.usage is not None
    assert (last.choices, last.usage.total_tokens) == ([], 4)
    assert [choice.message.content for choice in final.choices] == ["ab", "ab"]


@requirement("chat.raw-response")
async def test_raw_responses_give_headers_and_the_parsed_stream(connect: Connect) -> None:
    async with connect(Says("Hi")) as client:
        raw = await client.chat.completions.with_raw_response.create(model="agent", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in raw.parse()]
        async with client.chat.completions.with_streaming_response.create(
            model="agent", messages=HELLO, stream=True
        ) as streaming:
            lines = [line async for line in streaming.iter_lines() if line]
    assert raw.request_id is not None
    assert raw.request_id.startswith("req_")
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "Hi", None]
    assert streaming.status_code == 200
    assert lines[-1] == "data: [DONE]"


@requirement("chat.sync-client")
def test_a_blocking_client_reads_streams_over_a_socket() -> None:
    with (
        uvicorn_socket(Server(Says("Hello, ", "Bob"))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        chunks = list(client.chat.completions.create(model="agent", messages=HELLO, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "Hello, ", "Bob", None]


@requirement("chat.sync-client")
def test_a_blocking_client_reads_streams_and_helpers() -> None:
    with sync_openai(Server(Says("Hello, ", "Bob")), max_retries=0) as client:
        chunks = list(client.chat.completions.create(model="agent", messages=HELLO, stream=True))
        with client.chat.completions.stream(model="agent", messages=HELLO) as stream:
            final = stream.get_final_completion()
        with client.chat.completions.with_streaming_response.create(model="agent", messages=HELLO) as raw:
            parsed = raw.parse()
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "Hello, ", "Bob", None]
    assert final.choices[0].message.content == parsed.choices[0].message.content == "Hello, Bob"
