"""A scripted model works as the API of a model for the real SDKs, and for agents that use them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anthropic
import anyio
import httpx2
import openai
import pytest

from openai_compat import (
    AgentError,
    Finished,
    ReasoningDelta,
    Server,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    UsageReported,
)
from openai_compat.backends.anthropic import AnthropicBackend
from openai_compat.backends.openai import OpenAIBackend
from openai_compat.testing import HANG, ScriptedModel
from openai_compat_adapters.testing import listening
from openai_compat_adapters.transport import AsyncTransport
from tests.requirements import requirement
from tests.support.exchanges import answer, chat
from tests.support.stepping import eventually

pytestmark = pytest.mark.anyio

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}
CALL = (
    ReasoningDelta("I need the weather."),
    "Let me ",
    "look.",
    ToolCallStarted("call_1", "weather"),
    ToolCallDelta("call_1", '{"city": '),
    ToolCallDelta("call_1", '"Paris"}'),
    ToolCallReady("call_1", "weather", '{"city": "Paris"}'),
    UsageReported(50, 6, cached_tokens=10, reasoning_tokens=2),
)
SAID: Any = [{"role": "user", "content": "How is it in Paris?"}]

Reach = Callable[[ScriptedModel], AbstractAsyncContextManager[tuple[str, Any]]]


@pytest.fixture
def anyio_backend() -> str:
    """The SDKs leave generators to the garbage collector, which trio reports: asyncio only."""
    return "asyncio"


@pytest.fixture(params=["transport", "socket"])
def reach(request: pytest.FixtureRequest) -> Reach:
    """The model's URL, and an HTTP client that reaches it."""

    @asynccontextmanager
    async def open_client(model: ScriptedModel) -> AsyncIterator[tuple[str, Any]]:
        if request.param == "transport":
            async with httpx2.AsyncClient(transport=AsyncTransport(model)) as client:
                yield "http://localhost", client
        else:
            with listening(model) as url:
                async with httpx2.AsyncClient() as client:
                    yield url, client

    return open_client


@asynccontextmanager
async def openai_client(reach: Reach, model: ScriptedModel, retries: int = 0) -> AsyncIterator[openai.AsyncOpenAI]:
    async with reach(model) as (url, http):
        yield openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-any", http_client=http, max_retries=retries)


@asynccontextmanager
async def claude(reach: Reach, model: ScriptedModel, retries: int = 0) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with reach(model) as (url, http):
        yield anthropic.AsyncAnthropic(base_url=url, api_key="sk-any", http_client=http, max_retries=retries)


@requirement("kit.model")
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_it_speaks_chat_completions(reach: Reach, stream: bool) -> None:
    model = ScriptedModel(CALL, ["It is ", "sunny."])
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    async with openai_client(reach, model) as client:
        asked: Any = {"model": "gpt-any", "messages": SAID, "tools": tools}
        if stream:
            async with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
                whole: Any = await events.get_final_completion()
        else:
            whole = await client.chat.completions.create(**asked)
        then = await client.chat.completions.create(model="gpt-other", messages=SAID)
    message = whole.choices[0].message
    [call] = message.tool_calls
    assert (message.content, message.reasoning_content) == ("Let me look.", "I need the weather.")
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{"city": "Paris"}')
    assert (whole.model, whole.choices[0].finish_reason) == ("gpt-any", "tool_calls")
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (50, 6)
    assert whole.usage.prompt_tokens_details.cached_tokens == 10
    assert (then.choices[0].message.content, then.choices[0].finish_reason) == ("It is sunny.", "stop")
    first, second = model.requests
    assert (first.path, first.body["messages"], first.body["tools"]) == ("/v1/chat/completions", SAID, tools)
    assert first.headers["authorization"] == "Bearer sk-any"
    assert second.body["model"] == "gpt-other"


@requirement("kit.model")
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_it_speaks_responses(reach: Reach, stream: bool) -> None:
    model = ScriptedModel(CALL)
    tools: Any = [{"type": "function", "name": "weather", "parameters": WEATHER}]
    async with openai_client(reach, model) as client:
        asked: Any = {"model": "gpt-any", "input": "Paris?", "tools": tools}
        if stream:
            async with client.responses.stream(**asked) as events:
                whole: Any = await events.get_final_response()
        else:
            whole = await client.responses.create(**asked)
    assert [item.type for item in whole.output] == ["reasoning", "message", "function_call"]
    assert (whole.output[2].call_id, whole.output[2].arguments) == ("call_1", '{"city": "Paris"}')
    assert whole.output_text == "Let me look."
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (50, 6)
    assert model.requests[0].path == "/v1/responses"


@requirement("kit.model")
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_it_speaks_messages(reach: Reach, stream: bool) -> None:
    model = ScriptedModel(CALL, ["It is ", "sunny.", Finished("length")])
    tools: Any = [{"name": "weather", "input_schema": WEATHER}]
    async with claude(reach, model) as client:
        asked: Any = {"model": "claude-any", "max_tokens": 90, "messages": SAID, "tools": tools}
        if stream:
            async with client.messages.stream(**asked) as events:
                whole: Any = await events.get_final_message()
        else:
            whole = await client.messages.create(**asked)
        then: Any = await client.messages.create(model="claude-any", max_tokens=90, messages=SAID)
    thought, text, call = whole.content
    assert (thought.type, thought.thinking) == ("thinking", "I need the weather.")
    assert (text.text, call.id, call.name, call.input) == ("Let me look.", "call_1", "weather", {"city": "Paris"})
    assert (whole.stop_reason, whole.model, whole.role) == ("tool_use", "claude-any", "assistant")
    usage = whole.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (40, 10, 6)
    assert usage.output_tokens_details.thinking_tokens == 2
    assert (then.content[0].text, then.stop_reason) == ("It is sunny.", "max_tokens")
    assert model.requests[0].headers["anthropic-version"]
    assert model.requests[0].body["tools"] == tools


@requirement("kit.model")
async def test_a_rate_limit_is_obeyed_by_the_sdks_as_that_of_a_real_api(reach: Reach) -> None:
    limit = [AgentError("Slow down.", status=429, retry_after=0.01)]
    model = ScriptedModel(limit, ["good"])
    async with openai_client(reach, model, retries=1) as client:
        assert (await client.chat.completions.create(model="any", messages=SAID)).choices[0].message.content == "good"
    assert len(model.requests) == 2
    async with openai_client(reach, ScriptedModel(limit)) as client:
        with pytest.raises(openai.RateLimitError, match="Slow down") as refused:
            await client.responses.create(model="any", input="hi")
    assert refused.value.response.headers["retry-after"] == "0.01"
    assert "x-should-retry" not in refused.value.response.headers
    async with claude(reach, ScriptedModel(limit)) as anthropics:
        with pytest.raises(anthropic.RateLimitError, match="Slow down"):
            await anthropics.messages.create(model="any", max_tokens=9, messages=SAID)


@requirement("kit.model")
async def test_a_stream_may_end_with_an_error(reach: Reach) -> None:
    script = ["It is ", AgentError("Too busy.", status=529)]
    async with openai_client(reach, ScriptedModel(script)) as client:
        stream = await client.chat.completions.create(model="any", messages=SAID, stream=True)
        with pytest.raises(openai.APIError, match="Too busy"):
            [chunk async for chunk in stream]
    async with claude(reach, ScriptedModel(script)) as anthropics:
        async with anthropics.messages.stream(model="any", max_tokens=9, messages=SAID) as events:
            with pytest.raises(anthropic.APIStatusError, match="Too busy"):
                [event async for event in events]


@requirement("kit.model")
async def test_it_tells_when_a_client_has_left(reach: Reach) -> None:
    model = ScriptedModel(["It is ", HANG])
    async with openai_client(reach, model) as client:
        stream = await client.chat.completions.create(model="any", messages=SAID, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        assert not model.left.is_set()
        await stream.close()
        await eventually(model.left.is_set)


@requirement("kit.model")
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"model": "any"}', b'{"model": "any", "messages": 1, "tools": [1]}']
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_nonsense_is_refused_and_kept(reach: Reach, path: str, body: bytes) -> None:
    model = ScriptedModel(["good"])
    async with reach(model) as (url, client):
        refused = await client.post(f"{url}{path}", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 400
    assert isinstance(refused.json()["error"]["message"], str)
    assert len(model.requests) == 1


@requirement("kit.model")
async def test_agents_are_proved_on_it(reach: Reach) -> None:
    model = ScriptedModel(["It is ", "sunny.", UsageReported(50, 6)])
    async with openai_client(reach, model) as client, claude(reach, model) as anthropics:
        agents = {"one": OpenAIBackend("gpt", client=client), "two": AnthropicBackend("claude", client=anthropics)}
        server = Server(agents)
        for name in agents:
            sent = await answer(server, chat(model=name))
            assert (sent.status, sent.text) == (200, "It is sunny.")
    assert [request.path for request in model.requests] == ["/v1/chat/completions", "/v1/messages"]


def test_a_model_without_a_script_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one script"):
        ScriptedModel()


async def test_one_that_hangs_is_left_by_a_timeout() -> None:
    model = ScriptedModel([HANG])
    async with httpx2.AsyncClient(transport=AsyncTransport(model)) as http:
        client = openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="any", http_client=http, max_retries=0)
        with anyio.move_on_after(0.05) as scope:
            await client.chat.completions.create(model="any", messages=SAID)
    assert scope.cancelled_caught
    await eventually(model.left.is_set)
