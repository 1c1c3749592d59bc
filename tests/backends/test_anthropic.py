"""A model behind the Anthropic API as an agent, through an httpx2 transport and over a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
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
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat.agent_request import Caller
from openai_compat.agents.error_mapping import to_public_error
from openai_compat.backends.anthropic import AnthropicBackend
from openai_compat.errors import InvalidRequest
from openai_compat.wire.responses.parse.request import parse_response
from openai_compat_adapters.client import async_openai
from tests.api.anthropic_messages.support import send, serve
from tests.backends.support import new_context, read, request_for, run, until, user
from tests.backends.upstream import Reply, Upstream, error_reply
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

COST = {"input_tokens": 10, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 3000, "output_tokens": 1}
THOUGHT = (ReasoningDelta("Hm."), ReasoningDelta("", "signed"))
REPORTED = UsageReported(3210, 42, cached_tokens=3000, cache_write_tokens=200)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio only: the anthropic SDK leaves generators to the garbage collector, which trio reports."""
    return "asyncio"


@asynccontextmanager
async def backend_for(
    upstream: Upstream, over: str, *arguments: Any, **options: Any
) -> AsyncIterator[AnthropicBackend]:
    """The backend with a ready client on a transport, or with its own client over a socket."""
    if over == "mock":
        async with httpx2.AsyncClient(transport=upstream.transport()) as http:
            client = anthropic.AsyncAnthropic(api_key="k", base_url="http://upstream", max_retries=0, http_client=http)
            yield AnthropicBackend(*arguments, client=client, **options)
        return
    with upstream.served() as url:
        backend = AnthropicBackend(*arguments, api_key="k", base_url=url, max_retries=0, **options)
        try:
            yield backend
        finally:
            await backend.aclose()


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def begin(**fields: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": COST}
    return event("message_start", message=message | fields)


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    return [
        event("content_block_start", index=index, content_block=start),
        *[event("content_block_delta", index=index, delta=delta) for delta in deltas],
        event("content_block_stop", index=index),
    ]


def text(index: int, *pieces: str) -> list[bytes]:
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    return block(index, {"type": "text", "text": ""}, *deltas)


def thinking(index: int, thought: str) -> list[bytes]:
    deltas = [{"type": "thinking_delta", "thinking": thought}, {"type": "signature_delta", "signature": "signed"}]
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)


def tool_use(index: int, call_id: str, *pieces: str, name: str = "weather", kind: str = "tool_use") -> list[bytes]:
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]
    return block(index, {"type": kind, "id": call_id, "name": name, "input": {}}, *deltas)


def message(*blocks: list[bytes], reason: str = "end_turn", hang: bool = False, **delta: Any) -> Reply:
    ending = [
        event(
            "message_delta", delta={"stop_reason": reason, "stop_sequence": None, **delta}, usage={"output_tokens": 42}
        ),
        event("message_stop"),
    ]
    pings = [event("ping")]
    return Reply(
        [begin(), *pings, *[frame for frames in blocks for frame in frames], *([] if hang else ending)], hang=hang
    )


async def asked(request: Any = None, *arguments: Any, reply: Reply | None = None, **options: Any) -> dict[str, Any]:
    """The body of the API call for a request."""
    upstream = Upstream(reply or message())
    async with backend_for(upstream, "mock", *(arguments or ("m",)), **options) as backend:
        await run(backend, request or request_for())
    return upstream.requests[0]


def assistant_call(call_id: str, name: str = "weather", arguments: str = "{}") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


# the request to the API


async def test_a_conversation_is_asked_in_anthropics_words(over: str) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        user("Hello"),
        user("Are you there?"),
        {"role": "assistant", "content": "I call."},
        {**assistant_call("call:1", arguments='{"city": "Rome"}'), "content": "Now."},
        {"role": "tool", "tool_call_id": "call:1", "content": "sunny"},
        user("And?"),
        {"role": "developer", "content": "Be polite."},
    ]
    upstream = Upstream(message())
    async with backend_for(upstream, over, "claude-sonnet-5", system="Obey.") as backend:
        await run(backend, request_for(messages, tools=[TOOL]))
    assert upstream.requests == [
        {
            "model": "claude-sonnet-5",
            "max_tokens": 8192,
            "stream": True,
            "system": "Obey.\n\nBe brief.\n\nBe polite.",
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "Are you there?"}],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "I call."},
                        {"type": "text", "text": "Now."},
                        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
                        {"type": "text", "text": "And?"},
                    ],
                },
            ],
            "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "auto"},
        }
    ]
    assert upstream.headers[0]["authorization"] == "Bearer k"


PNG = "iVBORw0KGgo="
PDF = "JVBERi0="


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x/a.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        ),
        (
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"file_data": PDF}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
        ),
        (
            {"type": "file", "file": {"file_data": "SGnigqw=", "filename": "a.txt"}},
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Hi€"},
                "title": "a.txt",
            },
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/plain,a%20b"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a b"}},
        ),
        (
            {"type": "file", "file": {"file_data": PNG, "filename": "a.png"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        ),
    ],
)
async def test_pictures_and_documents_are_sent(part: Any, expected: Any) -> None:
    content = [{"type": "text", "text": "What is this?"}, {"type": "text", "text": " "}, part]
    body = await asked(request_for([{"role": "user", "content": content}]))
    assert body["messages"][0]["content"] == [{"type": "text", "text": "What is this?"}, expected]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64"}},
        {"type": "file", "file": {"filename": "a.pdf"}},
        {"type": "file", "file": {"file_url": "file:///etc/passwd"}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA"}},
    ],
)
async def test_what_the_api_cannot_take_is_the_clients_error_and_not_sent(part: Any) -> None:
    upstream = Upstream()
    messages: Any = [{"role": "user", "content": [part]}]
    async with backend_for(upstream, "mock", "m") as backend, async_openai(Server(backend), max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as raised:
            await client.chat.completions.create(model="agent", messages=messages)
    assert raised.value.param == "messages"
    assert upstream.requests == []


async def test_what_only_the_responses_api_can_carry_is_sent_too() -> None:
    page = {"type": "input_file", "file_url": "https://a.example/b.pdf"}
    picture = {"type": "input_image", "image_url": "https://a.example/c.png"}
    items: list[dict[str, Any]] = [
        {"role": "user", "content": [page]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [{"type": "input_text", "text": "see"}, picture],
        },
    ]
    parsed = parse_response({"model": "agent", "input": items}, Caller(), lambda prefix: f"{prefix}1")
    body = await asked(parsed.request)
    document = {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}}
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/c.png"}}
    assert body["messages"][0]["content"] == [document]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "see"}, image]}
    ]


async def test_limits_stops_effort_and_schemas_are_sent() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    request = request_for(
        max_tokens=5, stop=["END", " "], reasoning_effort="minimal", response_format=wanted, presence_penalty=0
    )
    assert await asked(request) == {
        "model": "m",
        "max_tokens": 5,
        "stream": True,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "stop_sequences": ["END"],
        "output_config": {"format": {"type": "json_schema", "schema": schema}, "effort": "low"},
    }


@requirement("backends.numbers")
async def test_temperature_and_top_p_are_handed_over_although_the_sdk_does_not_know_them() -> None:
    body = await asked(request_for(temperature=0, top_p=0.5))
    assert (body["temperature"], body["top_p"]) == (0, 0.5)
    more = {"extra_body": {"top_k": 5, "temperature": 0.1}}
    body = await asked(request_for(temperature=0.7), extra=more)
    assert (body["temperature"], body["top_k"]) == (0.1, 5)


@requirement("backends.numbers")
@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", 1), ("seed", 0), ("frequency_penalty", 0.5), ("presence_penalty", -1), ("logit_bias", {"1": 5})],
)
async def test_what_the_api_does_not_have_is_refused_before_it_is_asked(over: str, field: str, value: object) -> None:
    upstream = Upstream()
    async with backend_for(upstream, over, "m") as backend:
        with pytest.raises(InvalidRequest) as refusal:
            await run(backend, request_for(**{field: value}))
    assert (refusal.value.status, refusal.value.param) == (400, field)
    assert upstream.requests == []


@requirement("backends.numbers")
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("temperature", 0.7, "`temperature` is deprecated for this model."),
        ("temperature", 1.5, "temperature: range: 0..1"),
        ("top_p", 0.5, "`top_p` cannot be set when `thinking` is enabled."),
    ],
)
async def test_what_the_model_does_not_take_is_a_400_that_names_it(
    over: str, field: str, value: float, words: str
) -> None:
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
    upstream = Upstream(error_reply(400, body))
    async with backend_for(upstream, over, "claude-opus-5") as backend:
        async with async_openai(Server({"m": backend})) as client:
            with pytest.raises(openai.BadRequestError) as raised:
                await client.chat.completions.create(model="m", messages=[user("Hi")], **{field: value})
    assert (raised.value.param, raised.value.code) == (field, "unsupported_parameter")
    assert words not in str(raised.value)
    assert len(upstream.requests) == 1


async def test_how_much_is_to_be_said_is_asked_for_in_words() -> None:
    assert (await asked(request_for(verbosity="low"), system="Obey."))["system"] == "Obey.\n\nKeep your answers short."
    assert "system" not in await asked(request_for(verbosity="medium"))


async def test_json_without_a_schema_is_asked_for_in_words() -> None:
    body = await asked(request_for(response_format={"type": "json_object"}), system="Obey.")
    assert body["system"] == "Obey.\n\nAnswer with one JSON object and nothing else."


async def test_the_model_may_be_the_one_the_client_names_and_the_operator_may_add_arguments() -> None:
    body = await asked(request_for(model="claude-opus-5"), None, max_tokens=100, extra={"service_tier": "auto"})
    assert (body["model"], body["max_tokens"], body["service_tier"]) == ("claude-opus-5", 100, "auto")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"type": "auto"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "a"}}}, {"type": "tool", "name": "a"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
async def test_which_tool_may_or_must_be_called_is_said(fields: Any, expected: Any) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    body = await asked(request_for(tools=tools, **fields), reply=message(tool_use(0, "toolu_1", name="a")))
    assert body["tool_choice"] == expected


async def test_tools_are_described_and_free_text_is_asked_for_as_one_parameter() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}}
    tools = [
        {
            "type": "function",
            "function": {"name": "f", "description": "F", "strict": True, "parameters": {"properties": {}}},
        },
        {"type": "custom", "custom": {"name": "c", "description": "C", "format": grammar}},
    ]
    body = await asked(
        request_for(tools=tools), extra={"tools": [{"type": "web_search_20260901", "name": "web_search"}]}
    )
    assert body["tools"] == [
        {"type": "web_search_20260901", "name": "web_search"},
        {"name": "f", "input_schema": {"type": "object", "properties": {}}, "strict": True, "description": "F"},
        {
            "name": "c",
            "input_schema": {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]},
            "description": f"C\nThe input must have this format: {json.dumps(grammar)}",
        },
    ]


async def test_a_conversation_with_calls_has_tools_even_if_none_may_be_called() -> None:
    messages = [user("Hi"), assistant_call("a"), {"role": "tool", "tool_call_id": "a", "content": ""}]
    body = await asked(request_for(messages, tools=[TOOL], tool_choice="none"))
    assert body["tools"] == [{"name": "weather", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


async def test_arguments_that_are_no_object_are_put_into_one() -> None:
    call = {**assistant_call("a", arguments="not JSON")["tool_calls"][0]}
    custom = {"id": "b", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    messages = [
        user("Hi"),
        {"role": "assistant", "tool_calls": [call, custom]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    ]
    body = await asked(request_for(messages))
    inputs = [block["input"] for block in body["messages"][1]["content"]]
    assert inputs == [{"arguments": "not JSON"}, {"input": "select 1"}]


async def test_a_conversation_that_ends_with_the_assistant_is_gone_on_with() -> None:
    body = await asked(request_for([user("Tell."), {"role": "assistant", "content": "Once upon"}]))
    assert body["messages"][-1] == {"role": "user", "content": [{"type": "text", "text": "Continue."}]}


async def test_a_call_that_may_stay_open_gets_an_answer() -> None:
    call = {**assistant_call("a")["tool_calls"][0], "async": True}
    body = await asked(request_for([user("Hi"), {"role": "assistant", "tool_calls": [call]}, user("So?")]))
    assert body["messages"][-1]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "(There is no result yet.)"},
        {"type": "text", "text": "So?"},
    ]


def test_it_declares_what_the_api_can_do() -> None:
    assert AnthropicBackend("m").capabilities == Capabilities(audio_input=False, counts_tokens=True)


def test_a_ready_client_and_options_for_another_are_refused() -> None:
    with pytest.raises(TypeError, match="base_url"):
        AnthropicBackend("m", client=anthropic.AsyncAnthropic(api_key="k"), base_url="http://x")


# the answer of the API


async def test_thinking_text_and_usage_become_events(over: str) -> None:
    reply = message(thinking(0, "Hm."), text(1, "Hello, ", "Bob"))
    async with backend_for(Upstream(reply), over, "m") as backend:
        assert await run(backend) == [
            ReasoningDelta("Hm."),
            ReasoningDelta("", "signed"),
            "Hello, Bob",
            REPORTED,
            Finished("stop"),
        ]


async def test_tokens_of_thinking_are_part_of_those_of_the_output() -> None:
    usage = {"output_tokens": 42, "input_tokens": 12, "output_tokens_details": {"thinking_tokens": 30}}
    frames = [begin(), event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage), event("message_stop")]
    async with backend_for(Upstream(Reply(frames)), "mock", "m") as backend:
        assert await run(backend) == [
            UsageReported(3212, 42, 3000, reasoning_tokens=30, cache_write_tokens=200),
            Finished(),
        ]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("a_reason_of_the_future", "stop"),
    ],
)
async def test_why_the_model_stopped_is_the_finish_reason(theirs: str, ours: Any) -> None:
    async with backend_for(Upstream(message(text(0, "x"), reason=theirs)), "mock", "m") as backend:
        assert await run(backend) == ["x", REPORTED, Finished(ours)]


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({"stop_details": {"type": "refusal", "explanation": "Not that."}}, "Not that."),
        ({}, "The model declined to answer."),
    ],
)
async def test_a_refusal_is_said_and_ends_the_turn_as_filtered(details: Any, said: str) -> None:
    async with backend_for(Upstream(message(reason="refusal", **details)), "mock", "m") as backend:
        assert await run(backend) == [REPORTED, RefusalDelta(said), Finished("content_filter")]


async def test_tool_calls_pause_the_turn(over: str) -> None:
    reply = message(
        text(0, "Let me see."),
        tool_use(1, "toolu_1", '{"city":', '"Rome"}'),
        tool_use(2, "toolu_2"),
        reason="tool_use",
    )
    async with backend_for(Upstream(reply), over, "m") as backend:
        said = await run(backend, request_for(tools=[TOOL]))
    assert [item for item in said if item != ToolCallDelta("toolu_1", "") and item != ToolCallDelta("toolu_2", "")] == [
        "Let me see.",
        ToolCallStarted("toolu_1", "weather", "client"),
        ToolCallDelta("toolu_1", '{"city":'),
        ToolCallDelta("toolu_1", '"Rome"}'),
        ToolCallReady("toolu_1", "weather", '{"city":"Rome"}', "client"),
        ToolCallStarted("toolu_2", "weather", "client"),
        ToolCallReady("toolu_2", "weather", "{}", "client"),
        REPORTED,
        Paused((PendingCall("toolu_1", "weather", '{"city":"Rome"}'), PendingCall("toolu_2", "weather", "{}"))),
    ]


async def test_a_free_text_tool_gets_its_text() -> None:
    reply = message(tool_use(0, "toolu_1", '{"input": "select', ' 1"}', name="sql"), reason="tool_use")
    async with backend_for(Upstream(reply), "mock", "m") as backend:
        said = await run(backend, request_for(tools=[{"type": "custom", "custom": {"name": "sql"}}]))
    assert said == [
        ToolCallStarted("toolu_1", "sql", "client"),
        ToolCallReady("toolu_1", "sql", "select 1", "client"),
        REPORTED,
        Paused((PendingCall("toolu_1", "sql", "select 1"),)),
    ]


async def test_tools_that_anthropic_runs_are_the_agents_and_their_sources_are_cited() -> None:
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"title": "X"}]}
    failed = {**found, "tool_use_id": "srvtoolu_2", "content": {"type": "web_search_tool_result_error"}}
    citation = {"type": "web_search_result_location", "url": "https://x", "title": "X", "cited_text": "…"}
    reply = message(
        tool_use(0, "srvtoolu_1", '{"query": "x"}', name="web_search", kind="server_tool_use"),
        block(1, found),
        block(2, failed),
        text(3, "It is "),
        block(
            4,
            {"type": "text", "text": "", "citations": []},
            {"type": "text_delta", "text": "so"},
            {"type": "citations_delta", "citation": citation},
        ),
        text(5, "."),
    )
    async with backend_for(Upstream(reply), "mock", "m") as backend:
        said = await run(backend)
    assert [item for item in said if not isinstance(item, ToolCallDelta)] == [
        ToolCallStarted("srvtoolu_1", "web_search", "agent"),
        ToolCallReady("srvtoolu_1", "web_search", '{"query": "x"}', "agent"),
        ToolResult("srvtoolu_1", '[{"title":"X"}]'),
        ToolResult("srvtoolu_2", '{"type":"web_search_tool_result_error"}', is_error=True),
        "It is so",
        Citation("https://x", "X", 6, 8),
        ".",
        REPORTED,
        Finished(),
    ]


async def test_an_answer_that_the_api_has_paused_is_gone_on_with() -> None:
    first = message(thinking(0, "Hm."), text(1, "One "), reason="pause_turn")
    upstream = Upstream(first, message(text(0, "two")))
    async with backend_for(upstream, "mock", "m") as backend:
        assert await run(backend) == [*THOUGHT, "One ", REPORTED, "two", REPORTED, Finished()]
    assert upstream.requests[1]["messages"][-1] == {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "Hm.", "signature": "signed"}, {"type": "text", "text": "One "}],
    }


async def test_but_not_for_ever() -> None:
    upstream = Upstream(*[message(reason="pause_turn") for _ in range(11)])
    async with backend_for(upstream, "mock", "m") as backend:
        with pytest.raises(AgentError, match="did not come to an end"):
            await run(backend)
    assert len(upstream.requests) == 10


# thinking between calls

BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 2048}}


def results(call_id: str) -> list[Any]:
    return [user("Weather?"), assistant_call(call_id), {"role": "tool", "tool_call_id": call_id, "content": "sun"}]


async def test_signed_thoughts_go_back_with_the_results_of_the_calls_they_led_to() -> None:
    upstream = Upstream(
        message(thinking(0, "Hm."), tool_use(1, "toolu_1", '{"city": "Rome"}'), reason="tool_use"),
        message(text(0, "Sunny.")),
    )
    async with backend_for(upstream, "mock", "m", extra=BUDGET) as backend:
        await run(backend, request_for(tools=[TOOL]))
        await run(backend, request_for(results("toolu_1"), tools=[TOOL]))
    assert upstream.requests[1]["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "signed"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
    ]
    assert upstream.requests[1]["thinking"] == BUDGET["thinking"]


async def test_clients_of_the_messages_api_bring_them_back_to_any_process() -> None:
    redacted = block(1, {"type": "redacted_thinking", "data": "secret"})
    reply = message(thinking(0, "Hm."), redacted, tool_use(2, "toolu_1", "{}"), reason="tool_use")
    asking: Any = {
        "max_tokens": 4000,
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
        "thinking": {"type": "adaptive"},
    }
    async with backend_for(Upstream(reply), "mock", "m", extra=BUDGET) as backend:
        told = (await send(serve(backend), **asking)).json
    assert [part["type"] for part in told["content"]] == ["thinking", "redacted_thinking", "tool_use"]
    failed = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no sun", "is_error": True}
    conversation = [
        user("hi"),
        {"role": "assistant", "content": told["content"]},
        {"role": "user", "content": [failed]},
    ]
    upstream = Upstream(message(text(0, "Rain.")))
    async with backend_for(upstream, "mock", "m", extra=BUDGET) as another:
        assert (await send(serve(another), messages=conversation, **asking)).status == 200
    _, said, result = upstream.requests[0]["messages"]
    assert said["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "signed"},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
    ]
    assert result["content"] == [failed]
    assert upstream.requests[0]["thinking"] == BUDGET["thinking"]


async def test_where_they_are_not_known_the_turn_goes_on_without_thinking() -> None:
    body = await asked(request_for(results("toolu_9"), tools=[TOOL]), extra=BUDGET)
    assert body["thinking"] == {"type": "disabled"}


async def test_they_are_kept_for_the_caller_they_were_made_for() -> None:
    reply = message(thinking(0, "Hm."), tool_use(1, "toolu_1"), reason="tool_use")
    upstream = Upstream(reply, message())
    async with backend_for(upstream, "mock", "m", extra=BUDGET) as backend:
        server = Server(backend, keys=["key-of-bob", "key-of-eve"])
        for key, messages in (("key-of-bob", [user("Weather?")]), ("key-of-eve", results("toolu_1"))):
            async with async_openai(server, api_key=key, max_retries=0) as client:
                await client.chat.completions.create(model="agent", messages=messages, tools=[TOOL])
    assert "Hm." not in json.dumps(upstream.requests[1])


@pytest.mark.parametrize("fields", [{"tool_choice": "required", "tools": [TOOL]}, {"max_tokens": 1000}])
async def test_where_the_api_allows_no_thinking_there_is_none(fields: Any) -> None:
    reply = message(tool_use(0, "toolu_1"), reason="tool_use") if "tools" in fields else None
    body = await asked(request_for(**fields), reply=reply, extra=BUDGET)
    assert body["thinking"] == {"type": "disabled"}


# errors


@pytest.mark.parametrize(
    ("status", "kind", "words", "expected"),
    [
        (429, "rate_limit_error", "secret 1", (429, "rate_limit_exceeded")),
        (401, "authentication_error", "secret 2", (502, "upstream_auth")),
        (529, "overloaded_error", "secret 3", (503, "upstream_unavailable")),
        (400, "invalid_request_error", "prompt is too long: 250000", (400, "context_length_exceeded")),
        (404, "not_found_error", "secret 4", (500, "upstream_error")),
    ],
)
async def test_errors_of_the_model_are_told_without_its_words(
    over: str, status: int, kind: str, words: str, expected: tuple[int, str]
) -> None:
    body = {"type": "error", "error": {"type": kind, "message": words}}
    async with backend_for(Upstream(error_reply(status, body)), over, "m") as backend:
        with pytest.raises(anthropic.APIStatusError) as raised:
            await run(backend)
    error = to_public_error(raised.value)
    assert (error.status, error.code) == expected
    assert words not in error.message


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", (503, "upstream_unavailable")),
        ("rate_limit_error", (429, "rate_limit_exceeded")),
        ("of_the_future", (500, "upstream_error")),
    ],
)
async def test_an_error_within_the_stream_is_told_by_its_type(over: str, kind: str, expected: tuple[int, str]) -> None:
    broken = event("error", error={"type": kind, "message": "secret"})
    async with backend_for(Upstream(Reply([begin(), *text(0, "half"), broken])), over, "m") as backend:
        with pytest.raises(anthropic.APIStatusError) as raised:
            await run(backend)
    error = to_public_error(raised.value)
    assert (error.status, error.code) == expected


async def test_a_connection_that_is_cut_fails_the_turn(over: str) -> None:
    reply = Reply([begin(), *text(0, "half")], break_off=True)
    async with backend_for(Upstream(reply), over, "m") as backend:
        with pytest.raises((anthropic.APIConnectionError, httpx2.TransportError)) as raised:
            await run(backend)
    assert to_public_error(raised.value).code == "upstream_unreachable"


async def test_a_stream_that_does_not_say_why_it_ended_fails_the_turn(over: str) -> None:
    async with backend_for(Upstream(Reply([begin(), *text(0, "half")])), over, "m") as backend:
        with pytest.raises(AgentError) as raised:
            await run(backend)
    assert (raised.value.status, raised.value.code) == (502, "upstream_incomplete")


# end to end


async def test_cancelling_closes_the_connection_to_the_model() -> None:
    upstream = Upstream(message(text(0, "first"), hang=True))
    async with backend_for(upstream, "socket", "m") as backend:
        with anyio.fail_after(20), anyio.CancelScope() as scope:
            async for item in read(backend, request_for(), new_context()):
                if item == "first":
                    scope.cancel()
        await until(upstream.left.is_set)


async def test_a_client_that_leaves_closes_the_connection_to_the_model() -> None:
    upstream = Upstream(message(text(0, "first"), hang=True))
    async with backend_for(upstream, "socket", "m") as backend, async_openai(Server(backend), max_retries=0) as client:
        with anyio.fail_after(20):
            answer = await client.chat.completions.create(model="agent", messages=[user("Hi")], stream=True)
            async with answer:
                await anext(answer)
            await until(upstream.left.is_set)


async def test_a_tool_loop_through_the_server_with_plain_and_streamed_answers_alike() -> None:
    asks = message(thinking(0, "Hm."), text(1, "Let me see."), tool_use(2, "toolu_1"), reason="tool_use")
    tells = message(text(0, "It is ", "sunny."))
    upstream = Upstream(asks, tells, asks, tells)
    messages: list[Any] = [user("Weather?")]
    async with backend_for(upstream, "mock", "m") as backend, async_openai(Server(backend), max_retries=0) as client:
        plain = await client.chat.completions.create(model="agent", messages=messages, tools=[TOOL])
        first = plain.choices[0].message
        assert plain.choices[0].finish_reason == "tool_calls"
        assert first.model_extra == {"reasoning_content": "Hm."}
        assert plain.usage
        assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (3210, 42)
        more = [
            *messages,
            first.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": "toolu_1", "content": ""},
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
    assert [turn["role"] for turn in upstream.requests[1]["messages"]] == ["user", "assistant", "user"]
