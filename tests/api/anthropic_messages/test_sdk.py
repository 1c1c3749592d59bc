"""Anthropic's own SDK as a client: in the same process, and over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anthropic
import httpx2
import pytest
from pydantic import BaseModel

from openai_compat import (
    AgentError,
    AgentRequest,
    Capabilities,
    Finished,
    ReasoningDelta,
    Server,
    ToolCallReady,
    UsageReported,
)
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.messages import FilePart, ImagePart, ToolMessage, UserMessage
from openai_compat_adapters.testing import listening
from openai_compat_adapters.transport import AsyncTransport
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

SAID: Any = [{"role": "user", "content": "How is it in Paris?"}]
WEATHER: Any = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
Reach = Callable[[Any], AbstractAsyncContextManager[anthropic.AsyncAnthropic]]


@pytest.fixture
def anyio_backend() -> str:
    """The SDK leaves generators to the collector, which trio reports: asyncio only."""
    return "asyncio"


@asynccontextmanager
async def in_process(server: Server) -> AsyncIterator[anthropic.AsyncAnthropic]:
    http = httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost")
    async with anthropic.AsyncAnthropic(
        api_key="secret", base_url="http://localhost", http_client=http, max_retries=0
    ) as client:
        yield client


@asynccontextmanager
async def over_socket(server: Server) -> AsyncIterator[anthropic.AsyncAnthropic]:
    with listening(server) as url:
        async with anthropic.AsyncAnthropic(api_key="secret", base_url=url, max_retries=0) as client:
            yield client


@pytest.fixture(params=[in_process, over_socket])
def reach(request: pytest.FixtureRequest) -> Any:
    return request.param


def serve(agent: Any, **settings: Any) -> Server:
    return Server(agent, apis=[AnthropicMessages()], **settings)


@requirement("anthropic.sdk")
async def test_the_sdk_reads_a_plain_message_and_its_stream(reach: Reach) -> None:
    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        yield ReasoningDelta("I look out.")
        yield "It is "
        yield "sunny."
        yield UsageReported(50, 6, cached_tokens=10, cache_write_tokens=5, reasoning_tokens=2)

    ask: Any = {"model": "agent", "max_tokens": 1000, "messages": SAID, "thinking": {"type": "adaptive"}}
    async with reach(serve(agent)) as client:
        plain = await client.messages.create(**ask)
        async with client.messages.stream(**ask) as stream:
            events = [event async for event in stream]
            streamed = await stream.get_final_message()
    assert [block.type for block in plain.content] == ["thinking", "text"]
    assert plain.content[1].text == "It is sunny."
    assert (plain.stop_reason, plain.stop_sequence) == ("end_turn", None)
    assert (plain.usage.input_tokens, plain.usage.cache_read_input_tokens) == (35, 10)
    assert (plain.usage.cache_creation_input_tokens, plain.usage.output_tokens) == (5, 6)
    assert plain.usage.output_tokens_details is not None
    assert plain.usage.output_tokens_details.thinking_tokens == 2
    assert plain._request_id is not None
    assert plain._request_id.startswith("req_")
    assert streamed.model_dump(exclude={"id"}) == plain.model_dump(exclude={"id"})
    assert [event.type for event in events if event.type == "text"] == ["text", "text"]


@requirement("anthropic.sdk")
async def test_a_tool_of_the_clients_is_called_and_its_result_brought_back(reach: Reach) -> None:
    seen: list[AgentRequest] = []

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        seen.append(request)
        if request.resume is None:
            yield "Let me look."
            yield ToolCallReady("call_1", "weather", '{"city": "Paris"}')
        else:
            yield f"It is {request.resume.results['call_1'].text}."

    ask: Any = {"model": "agent", "max_tokens": 1000, "tools": [WEATHER]}
    async with reach(serve(agent)) as client:
        async with client.messages.stream(messages=SAID, **ask) as stream:
            called = await stream.get_final_message()
        plain = await client.messages.create(messages=SAID, **ask)
        assert [block.to_dict() for block in plain.content] == [block.to_dict() for block in called.content]
        result = {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny", "is_error": True}
        conversation = [
            *SAID,
            {"role": "assistant", "content": called.content},
            {"role": "user", "content": [result]},
        ]
        answered = await client.messages.create(messages=conversation, **ask)
    text, call = called.content
    assert (text.type, call.type, called.stop_reason) == ("text", "tool_use", "tool_use")
    assert (call.name, call.input) == ("weather", {"city": "Paris"})
    assert answered.content[0].text == "It is sunny."
    assert seen[-1].messages[-1] == ToolMessage("call_1", "sunny", "weather", is_error=True)
    assert seen[-1].tools[0].description == "Tells the weather."


@requirement("anthropic.sdk")
@pytest.mark.parametrize("stream", [False, True])
async def test_the_tool_runner_runs_the_tools_to_the_end_in_a_thread(reach: Reach, stream: bool) -> None:
    seen: list[AgentRequest] = []

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        seen.append(request)
        results = [message for message in request.messages if isinstance(message, ToolMessage)]
        if len(results) < 2:
            yield ToolCallReady(f"call_{len(results)}", "look", '{"city": "Paris"}')
        else:
            yield " and ".join([result.text for result in results])

    @anthropic.beta_async_tool
    async def look(city: str) -> str:
        """Look.

        Args:
            city: where.
        """
        return f"sunny in {city}"

    async with reach(serve(agent)) as client:
        runner = client.beta.messages.tool_runner(
            model="agent", max_tokens=1000, messages=SAID, tools=[look], system="Be brief.", stream=stream
        )
        last = await runner.until_done()
    assert last.content[0].text == "sunny in Paris and sunny in Paris"
    assert [len(request.messages) for request in seen] == [2, 4, 6], "each request has all that was said before"
    assert seen[-1].system == "Be brief."
    assert [tool.name for tool in seen[-1].tools] == ["look"]


@requirement("anthropic.sdk")
async def test_failures_are_the_sdks_own_exceptions(reach: Reach) -> None:
    async def agent(prompt: str) -> AsyncIterator[str]:
        if "late" in prompt:
            yield "one"
        raise AgentError("It is closed.", status=503, code="closed")

    async with reach(serve(agent, keys="secret")) as client:
        ask: Any = {"model": "agent", "max_tokens": 10}
        with pytest.raises(anthropic.NotFoundError) as unknown:
            await client.messages.create(model="other", max_tokens=10, messages=SAID)
        assert unknown.value.request_id is not None
        assert "other" in str(unknown.value)
        with pytest.raises(anthropic.AuthenticationError):
            await client.with_options(api_key="wrong").messages.create(messages=SAID, **ask)
        with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\].content"):
            await client.messages.create(messages=[{"role": "user", "content": [{"type": "odd"}]}], **ask)
        with pytest.raises(anthropic.InternalServerError, match="closed") as closed:
            await client.messages.create(messages=SAID, **ask)
        assert closed.value.response.headers["x-should-retry"] == "false"
        with pytest.raises(anthropic.APIStatusError, match="closed"):
            async with client.messages.stream(messages=[{"role": "user", "content": "late"}], **ask) as stream:
                await stream.get_final_message()


@requirement("anthropic.sdk")
async def test_json_by_a_schema_is_asked_for_and_parsed() -> None:
    class Weather(BaseModel):
        city: str

    seen: list[AgentRequest] = []

    async def agent(request: AgentRequest) -> str:
        seen.append(request)
        return '{"city": "Paris"}'

    async with in_process(serve(agent)) as client:
        parsed = await client.messages.parse(model="agent", max_tokens=100, messages=SAID, output_format=Weather)
    assert parsed.parsed_output == Weather(city="Paris")
    assert seen[0].json_schema is not None
    assert seen[0].json_schema.schema["properties"] == {"city": {"title": "City", "type": "string"}}


@requirement("anthropic.sdk")
async def test_pictures_and_documents_reach_the_agent() -> None:
    seen: list[AgentRequest] = []

    async def agent(request: AgentRequest) -> str:
        seen.append(request)
        return "Seen."

    content: Any = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
            "title": "T",
        },
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {"type": "text", "text": "What is it?"},
    ]
    async with in_process(serve(agent)) as client:
        await client.messages.create(model="agent", max_tokens=100, messages=[{"role": "user", "content": content}])
    message = seen[0].messages[0]
    assert isinstance(message, UserMessage)
    assert message.parts[:4] == (
        ImagePart("data:image/png;base64,aGk="),
        ImagePart("https://example.com/a.png"),
        FilePart("data:application/pdf;base64,aGk=", filename="T"),
        FilePart(file_url="https://example.com/a.pdf"),
    )
    assert message.text == "words\nWhat is it?"


@requirement("anthropic.sdk")
async def test_models_are_listed_in_pages_and_counted_in_tokens(reach: Reach) -> None:
    async def agent(prompt: str) -> str:
        return "Hi."

    async with reach(serve({"one": agent, "two": agent, "three": agent})) as client:
        names = [model.id async for model in client.models.list(limit=2)]
        one = await client.models.retrieve("one")
        count = await client.messages.count_tokens(model="one", messages=SAID, tools=[WEATHER])
    assert names == ["one", "two", "three"]
    assert (one.type, one.lifecycle) == ("model", "active")
    assert count.input_tokens > 20


@requirement("anthropic.sdk")
async def test_the_stop_sequence_that_ended_an_answer_is_named() -> None:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        yield "one STOP two"

    async with in_process(serve(agent)) as client:
        told = await client.messages.create(model="agent", max_tokens=100, messages=SAID, stop_sequences=["STOP"])
    assert (told.stop_reason, told.stop_sequence) == ("stop_sequence", "STOP")
    assert told.content[0].text == "one "


async def test_an_agent_without_eyes_refuses_a_picture_by_its_place() -> None:
    class Blind:
        capabilities = Capabilities(vision=False)

        async def run(self, request: AgentRequest, context: Any) -> AsyncIterator[Any]:
            yield Finished()

    picture: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    async with in_process(serve(Blind())) as client:
        with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\].content\[0\]"):
            await client.messages.create(
                model="agent", max_tokens=10, messages=[{"role": "user", "content": [picture]}]
            )
