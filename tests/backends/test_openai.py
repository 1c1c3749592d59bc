"""A model behind OpenAI's API as an agent, through an httpx2 transport and over a socket."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import openai
import pytest

from openai_compat import (
    AgentError,
    Capabilities,
    Citation,
    Finished,
    Paused,
    PendingCall,
    ReasoningDelta,
    RefusalDelta,
    Server,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    UsageReported,
)
from openai_compat.agents.error_mapping import to_public_error
from openai_compat.backends.openai import OpenAIBackend
from openai_compat.errors import InvalidRequest
from openai_compat_adapters.client import async_openai
from tests.backends.support import new_context, read, request_for, run, until, user
from tests.backends.upstream import Reply, Upstream, error_reply
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
REPORTED = UsageReported(100, 20, cached_tokens=64, reasoning_tokens=5)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio only: the openai SDK leaves generators to the garbage collector, which trio reports."""
    return "asyncio"


@asynccontextmanager
async def backend_for(upstream: Upstream, over: str, *arguments: Any, **options: Any) -> AsyncIterator[OpenAIBackend]:
    """The backend with a ready client on a transport, or with its own client over a socket."""
    if over == "mock":
        async with httpx2.AsyncClient(transport=upstream.transport()) as http:
            client = openai.AsyncOpenAI(api_key="k", base_url="http://upstream/v1", max_retries=0, http_client=http)
            yield OpenAIBackend(*arguments, client=client, **options)
        return
    with upstream.served() as url:
        backend = OpenAIBackend(*arguments, api_key="k", base_url=f"{url}/v1", max_retries=0, **options)
        try:
            yield backend
        finally:
            await backend.aclose()


def chunk(choice: dict[str, Any] | None, **fields: Any) -> bytes:
    choices = [] if choice is None else [{"index": 0, "finish_reason": None, **choice}]
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **fields}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def delta(**fields: Any) -> bytes:
    return chunk({"delta": fields})


def stream(*deltas: bytes, reason: str | None = "stop", usage: dict[str, Any] | None = USAGE, **fields: Any) -> Reply:
    last = [chunk({"delta": {}, "finish_reason": reason})] if reason else []
    last += [chunk(None, usage=usage)] if usage else []
    return Reply([delta(role="assistant", content=""), *deltas, *last, b"data: [DONE]\n\n"], **fields)


# the request to the API


async def test_the_request_goes_to_the_model_as_the_client_sent_it(over: str) -> None:
    fields = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "low"}},
                ],
            },
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 50,
        "stop": ["END"],
        "seed": 7,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "logit_bias": {"50256": -100},
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "verbosity": "high",
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "prediction": {"type": "content", "content": "A cat"},
        "web_search_options": {},
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "F", "parameters": {"type": "object"}, "strict": True},
            },
            {"type": "custom", "custom": {"name": "c", "format": {"type": "text"}}},
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}
    upstream = Upstream(stream(delta(tool_calls=[call]), reason="tool_calls"))
    async with backend_for(upstream, over, "gpt-5.2") as backend:
        await run(backend, request_for(**{"prompt": "", **fields}))
    assert upstream.requests == [
        {"model": "gpt-5.2", "stream": True, "stream_options": {"include_usage": True}, **fields}
    ]
    assert upstream.headers[0]["authorization"] == "Bearer k"


async def test_what_the_client_did_not_set_is_left_to_the_model() -> None:
    upstream = Upstream(stream())
    async with backend_for(upstream, "mock") as backend:
        await run(backend, request_for("Hello", model="llama"))
    expected = {
        "model": "llama",
        "messages": [user("Hello")],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert upstream.requests == [expected]


async def test_the_operator_has_the_first_and_the_last_word() -> None:
    upstream = Upstream(stream())
    options: dict[str, Any] = {
        "system": "Obey.",
        "limit_name": "max_tokens",
        "pass_fields": ["top_k"],
        "extra": {"temperature": 0, "service_tier": "flex"},
    }
    async with backend_for(upstream, "mock", "m", **options) as backend:
        await run(backend, request_for("Hello", temperature=1, max_tokens=9, top_k=40, min_p=0.1))
    assert upstream.requests == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "Obey."}, user("Hello")],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0,
            "max_tokens": 9,
            "top_k": 40,
            "service_tier": "flex",
        }
    ]


async def test_only_tools_that_may_be_called_now_are_offered() -> None:
    tools = [TOOL, {"type": "function", "function": {"name": "other"}}]
    choice = {"type": "function", "function": {"name": "other"}}
    call = {"index": 0, "id": "call_1", "function": {"name": "other", "arguments": "{}"}}
    upstream = Upstream(stream(delta(tool_calls=[call]), reason="tool_calls"), stream())
    async with backend_for(upstream, "mock") as backend:
        await run(backend, request_for(tools=tools, tool_choice=choice))
        await run(backend, request_for(tools=tools, tool_choice="none"))
    assert upstream.requests[0]["tools"] == [{"type": "function", "function": {"name": "other"}}]
    assert upstream.requests[0]["tool_choice"] == "required"
    assert "tools" not in upstream.requests[1]


def test_it_declares_what_the_api_can_do() -> None:
    declared = OpenAIBackend("m").capabilities
    assert declared == Capabilities(logprobs=True, web_search=True, prediction=True, counts_tokens=True)


def test_a_ready_client_and_options_for_another_are_refused() -> None:
    with pytest.raises(TypeError, match="base_url"):
        OpenAIBackend("m", client=openai.AsyncOpenAI(api_key="k"), base_url="http://x")


def test_no_backend_imports_an_sdk_before_one_is_made() -> None:
    code = """
import sys
import openai_compat.backends.anthropic, openai_compat.backends.openai
import openai_compat.backends.pool, openai_compat.backends.subprocess
print([name for name in ("anthropic", "openai", "httpx2") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"


# the answer of the API


async def test_reasoning_text_and_usage_become_events(over: str) -> None:
    reply = stream(
        delta(reasoning_content="Hm. "), delta(reasoning="So."), delta(content="Hello, "), delta(content="Bob")
    )
    async with backend_for(Upstream(reply), over, "m") as backend:
        said = await run(backend)
    assert said == [ReasoningDelta("Hm. "), ReasoningDelta("So."), "Hello, Bob", REPORTED, Finished("stop")]


async def test_a_refusal_citations_and_probabilities_become_events(over: str) -> None:
    token = {"token": "A", "logprob": -0.1, "bytes": [65], "top_logprobs": []}
    cited = {"url": "https://x", "title": "X", "start_index": 0, "end_index": 1}
    reply = stream(
        chunk({"delta": {"content": "A"}, "logprobs": {"content": [token], "refusal": None}}),
        delta(annotations=[{"type": "url_citation", "url_citation": cited}, {"type": "of the future"}]),
        delta(refusal="No."),
        usage=None,
    )
    async with backend_for(Upstream(reply), over, "m") as backend:
        said = await run(backend)
    assert said == [TextDelta("A", [token]), Citation("https://x", "X", 0, 1), RefusalDelta("No."), Finished()]


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
async def test_the_models_finish_reason_is_ours(reason: Any) -> None:
    async with backend_for(Upstream(stream(delta(content="x"), reason=reason)), "mock", "m") as backend:
        assert await run(backend) == ["x", REPORTED, Finished(reason)]


async def test_tool_calls_pause_the_turn(over: str) -> None:
    pieces = [
        [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"city":'}}],
        [{"index": 0, "function": {"arguments": '"Rome"}'}}],
        [{"index": 1, "id": "call_2", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    ]
    reply = stream(*[delta(tool_calls=piece) for piece in pieces], reason="tool_calls")
    async with backend_for(Upstream(reply), over, "m") as backend:
        said = await run(backend, request_for(tools=[TOOL]))
    assert said == [
        ToolCallStarted("call_1", "weather", "client"),
        ToolCallDelta("call_1", '{"city":'),
        ToolCallDelta("call_1", '"Rome"}'),
        ToolCallStarted("call_2", "weather", "client"),
        ToolCallDelta("call_2", "{}"),
        ToolCallReady("call_1", "weather", '{"city":"Rome"}', "client"),
        ToolCallReady("call_2", "weather", "{}", "client"),
        REPORTED,
        Paused((PendingCall("call_1", "weather", '{"city":"Rome"}'), PendingCall("call_2", "weather", "{}"))),
    ]


async def test_free_text_tools_are_read_too() -> None:
    pieces = [
        [{"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "sql", "input": "select"}}],
        [{"index": 0, "custom": {"input": " 1"}}],
    ]
    reply = stream(*[delta(tool_calls=piece) for piece in pieces], reason="tool_calls", usage=None)
    async with backend_for(Upstream(reply), "mock", "m") as backend:
        said = await run(backend, request_for(tools=[{"type": "custom", "custom": {"name": "sql"}}]))
    assert said[-1] == Paused((PendingCall("call_1", "sql", "select 1"),))


async def test_calls_without_an_index_or_an_id_are_understood() -> None:
    piece = [{"type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    async with backend_for(Upstream(stream(delta(tool_calls=piece), usage=None)), "mock", "m") as backend:
        said = await run(backend, request_for(tools=[TOOL]))
    assert said[-1] == Paused((PendingCall("call_chatcmpl-1_0", "weather", "{}"),))


async def test_usage_that_is_repeated_counts_once() -> None:
    sums = [{"prompt_tokens": 5, "completion_tokens": n, "total_tokens": 5 + n} for n in (1, 2)]
    frames = [chunk({"delta": {"content": "x"}}, usage=usage) for usage in sums]
    async with backend_for(Upstream(stream(*frames, usage=None)), "mock", "m") as backend:
        assert await run(backend) == ["xx", UsageReported(5, 2), Finished()]


# errors


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, {"error": {"message": "slow down"}}, (429, "rate_limit_exceeded")),
        (401, {"error": {"message": "bad key k"}}, (502, "upstream_auth")),
        (503, {"error": {"message": "secret 51"}}, (503, "upstream_unavailable")),
        (400, {"error": {"message": "secret 52", "code": "context_length_exceeded"}}, (400, "context_length_exceeded")),
        (404, {"error": {"message": "no such model"}}, (500, "upstream_error")),
    ],
)
async def test_errors_of_the_model_are_told_without_its_words(
    over: str, status: int, body: Any, expected: tuple[int, str]
) -> None:
    upstream = Upstream(error_reply(status, body, **{"retry-after": "7"}))
    async with backend_for(upstream, over, "m") as backend:
        with pytest.raises(openai.APIStatusError) as raised:
            await run(backend)
    error = to_public_error(raised.value)
    assert (error.status, error.code) == expected
    assert body["error"]["message"] not in error.message
    assert error.retry_after == (7 if status in (429, 503) else None)


@requirement("backends.numbers")
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "secret 53", "param": "temperature", "code": "unsupported_value"}),
        (400, {"message": "Unsupported parameter: 'temperature' secret 53"}),
        (422, {"message": "temperature: secret 53"}),
    ],
)
async def test_a_number_that_the_model_does_not_take_is_a_400_that_names_it(over: str, status: int, error: Any) -> None:
    async with backend_for(Upstream(error_reply(status, {"error": error})), over, "m") as backend:
        with pytest.raises(InvalidRequest) as refusal:
            await run(backend, request_for(temperature=0.3, seed=5))
    assert (refusal.value.status, refusal.value.param) == (400, "temperature")
    assert "secret" not in refusal.value.message


async def test_a_number_that_the_client_has_not_sent_is_not_its_mistake(over: str) -> None:
    reply = error_reply(400, {"error": {"message": "no 'temperature' here", "param": "temperature"}})
    async with backend_for(Upstream(reply), over, "m", extra={"temperature": 5}) as backend:
        with pytest.raises(openai.BadRequestError):
            await run(backend, request_for(seed=5))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"type": "server_error", "message": "boom"}, (503, "upstream_unavailable")),
        ({"type": "rate_limit_error", "message": "slow"}, (429, "rate_limit_exceeded")),
        ({"message": "?"}, (500, "upstream_error")),
    ],
)
async def test_an_error_within_the_stream_is_told_by_its_type(over: str, body: Any, expected: tuple[int, str]) -> None:
    reply = Reply([delta(content="half"), b"data: " + json.dumps({"error": body}).encode() + b"\n\n"])
    async with backend_for(Upstream(reply), over, "m") as backend:
        with pytest.raises(openai.APIError) as raised:
            await run(backend)
    error = to_public_error(raised.value)
    assert (error.status, error.code) == expected


async def test_a_connection_that_is_cut_fails_the_turn(over: str) -> None:
    async with backend_for(Upstream(Reply([delta(content="half")], break_off=True)), over, "m") as backend:
        with pytest.raises(openai.APIConnectionError) as raised:
            await run(backend)
    assert to_public_error(raised.value).code == "upstream_unreachable"


@pytest.mark.parametrize("reason", [None, "error"])
async def test_a_stream_that_does_not_say_why_it_ended_fails_the_turn(over: str, reason: str | None) -> None:
    async with backend_for(Upstream(stream(delta(content="half"), reason=reason)), over, "m") as backend:
        with pytest.raises(AgentError) as raised:
            await run(backend)
    assert (raised.value.status, raised.value.code) == (502, "upstream_incomplete")


async def test_a_model_server_that_is_not_there(unused_port: int) -> None:
    backend = OpenAIBackend("m", api_key="k", base_url=f"http://127.0.0.1:{unused_port}", max_retries=0)
    with pytest.raises(openai.APIConnectionError) as raised:
        await run(backend)
    await backend.aclose()
    assert (to_public_error(raised.value).status, to_public_error(raised.value).code) == (503, "upstream_unreachable")


async def test_a_backend_works_on_one_event_loop_after_another() -> None:
    """Like behind a WSGI server, where each request may have its own event loop."""
    upstream = Upstream(stream(delta(content="1")), stream(delta(content="2")))
    with upstream.served() as url:
        backend = OpenAIBackend("m", api_key="k", base_url=f"{url}/v1", max_retries=0)

        async def once() -> list[Any]:
            try:
                return await run(backend)
            finally:
                await backend.aclose()

        said = [await anyio.to_thread.run_sync(anyio.run, once) for _ in range(2)]
    assert [items[0] for items in said] == ["1", "2"]


# end to end


async def test_cancelling_closes_the_connection_to_the_model() -> None:
    upstream = Upstream(Reply([delta(content="first")], hang=True))
    async with backend_for(upstream, "socket", "m") as backend:
        with anyio.fail_after(20), anyio.CancelScope() as scope:
            async for _ in read(backend, request_for(), new_context()):
                scope.cancel()
        await until(upstream.left.is_set)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_closes_the_connection_to_the_model(streamed: bool) -> None:
    upstream = Upstream(Reply([delta(content="first")], hang=True))
    async with backend_for(upstream, "socket", "m") as backend, async_openai(Server(backend), max_retries=0) as client:
        with anyio.fail_after(20):
            if streamed:
                answer = await client.chat.completions.create(model="agent", messages=[user("Hi")], stream=True)
                async with answer:
                    await anext(answer)
            else:
                async with anyio.create_task_group() as group:
                    ask = client.chat.completions.create
                    group.start_soon(lambda: ask(model="agent", messages=[user("Hi")]))
                    await until(lambda: upstream.requests)
                    group.cancel_scope.cancel()
            await until(upstream.left.is_set)


async def test_a_tool_loop_through_the_server_with_plain_and_streamed_answers_alike() -> None:
    calls = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    asks = stream(delta(content="Let me see."), delta(tool_calls=calls), reason="tool_calls")
    tells = stream(delta(content="It is "), delta(content="sunny."))
    upstream = Upstream(asks, tells, asks, tells)
    messages: list[Any] = [user("Weather?")]
    async with backend_for(upstream, "mock", "m") as backend, async_openai(Server(backend), max_retries=0) as client:
        plain = await client.chat.completions.create(model="agent", messages=messages, tools=[TOOL])
        first = plain.choices[0].message
        assert plain.choices[0].finish_reason == "tool_calls"
        assert first.tool_calls
        assert plain.usage
        assert plain.usage.model_dump(exclude_none=True) == USAGE
        more = [
            *messages,
            first.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        ]
        answer = await client.chat.completions.create(model="agent", messages=more, tools=[TOOL])
        assert answer.choices[0].message.content == "It is sunny."
        streamed = []
        for conversation in (messages, more):
            async with client.chat.completions.stream(model="agent", messages=conversation, tools=[TOOL]) as events:
                streamed.append((await events.get_final_completion()).choices[0].message)
    assert [m.content for m in streamed] == ["Let me see.", "It is sunny."]
    assert streamed[0].tool_calls
    assert streamed[0].tool_calls[0].function.arguments == "{}"
    assert upstream.requests[1]["messages"] == more
