"""The openai SDK on the Responses API as programs use it: sync and async, over a real socket and SQLite."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import openai
import pydantic
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import ParsedResponseOutputMessage

from tests.clients.response_agents import server
from tests.transports import uvicorn_socket

# The SDK triggers this warning with newer releases of websockets.
pytestmark = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}
APPROVER: Any = {"type": "mcp", "server_label": "careful", "server_url": "https://example.org"}


class Person(pydantic.BaseModel):
    name: str
    age: int


class weather(pydantic.BaseModel):  # noqa: N801  (its name is the tool's)
    city: str


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with uvicorn_socket(server(f"sqlite:///{tmp_path_factory.mktemp('clients') / 'state.db'}")) as found:
        yield f"{found}/v1"


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=20) as made:
        yield made


def result(call: Any, said: str = "sunny") -> Any:
    """The output item of the client's tool."""
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Paris"})
    return {"type": "function_call_output", "call_id": call.call_id, "output": said}


def test_the_client_runs_its_tool_and_the_answer_follows_from_the_response_before(client: OpenAI) -> None:
    asked = client.responses.create(model="weather", input="And now?", tools=[WEATHER])
    told = client.responses.create(
        model="weather", input=[result(asked.output[-1])], previous_response_id=asked.id, tools=[WEATHER]
    )

    assert [item.type for item in asked.output] == ["reasoning", "function_call"]
    assert told.output_text == "It is sunny, after 3 messages."
    assert told.previous_response_id == asked.id
    assert [item.type for item in client.responses.input_items.list(told.id)] == ["function_call_output"]


def test_the_client_that_sends_everything_again_gets_the_same_answer(client: OpenAI) -> None:
    """Without state on the server: the response's output goes back as input, as in the SDK's guides."""
    question: Any = {"role": "user", "content": "And now?"}
    asked = client.responses.create(model="weather", input=[question], tools=[WEATHER], store=False)
    said: Any = [question, *[item.model_dump() for item in asked.output], result(asked.output[-1])]
    told = client.responses.create(model="weather", input=said, tools=[WEATHER], store=False)

    assert told.output_text == "It is sunny, after 3 messages."


def test_a_conversation_goes_on_over_a_tool_call_and_lists_it(client: OpenAI) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "We are in Paris."}])
    asked = client.responses.create(model="weather", input="And now?", tools=[WEATHER], conversation=conversation.id)
    told = client.responses.create(
        model="weather", input=[result(asked.output[-1])], tools=[WEATHER], conversation={"id": conversation.id}
    )

    assert told.output_text == "It is sunny, after 4 messages."
    assert told.conversation is not None
    assert told.conversation.id == conversation.id
    found = [item.type for item in client.conversations.items.list(conversation.id, order="asc", limit=2)]
    assert found == ["message", "message", "reasoning", "function_call", "function_call_output", "message"]


def test_the_stream_helper_collects_a_tool_call_and_parses_its_arguments(client: OpenAI) -> None:
    parsed: Any = openai.pydantic_function_tool(weather)
    with client.responses.stream(model="weather", input="And now?", tools=[parsed]) as stream:
        events = list(stream)
        asked = stream.get_final_response()
    call = asked.output[-1]
    assert call.type == "function_call"
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]

    assert ("".join(pieces), len(pieces)) == ('{"city": "Paris"}', 2)
    assert call.parsed_arguments == weather(city="Paris")
    with client.responses.stream(
        model="weather", input=[result(call)], tools=[parsed], previous_response_id=asked.id
    ) as stream:
        texts = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == texts[-1] == "It is sunny, after 3 messages."


def test_answers_are_parsed_plain_and_streamed(client: OpenAI) -> None:
    plain = client.responses.parse(model="person", input="Who?", text_format=Person)
    with client.responses.stream(model="person", input="Who?", text_format=Person) as stream:
        streamed = stream.get_final_response()

    assert plain.output_parsed == streamed.output_parsed == Person(name="Ada", age=36)


def test_what_the_agent_does_itself_is_no_work_for_the_client(client: OpenAI) -> None:
    with client.responses.stream(model="searcher", input="Where is it?", tools=[WEATHER]) as stream:
        found = stream.get_final_response()
    own, message = found.output

    assert own.type == "mcp_call"
    assert (own.name, own.arguments, own.output, own.error) == ("search", '{"for": "it"}', "a needle", None)
    assert isinstance(message, ParsedResponseOutputMessage)
    assert client.responses.retrieve(found.id).output_text == found.output_text == "Found it."


@pytest.mark.parametrize("approve", [True, False])
def test_the_client_decides_what_the_agent_may_do(client: OpenAI, approve: bool) -> None:
    asked = client.responses.create(model="careful", input="Clean up", tools=[APPROVER])
    message, request = asked.output
    assert (message.type, request.type) == ("message", "mcp_approval_request")
    told = client.responses.create(
        model="careful",
        input=[{"type": "mcp_approval_response", "approval_request_id": request.id, "approve": approve}],
        previous_response_id=asked.id,
        tools=[APPROVER],
    )
    assert told.output_text == f'Approved: {approve}, state: {{"step": 7}}'


def outcome(retrieve: Callable[[], Any]) -> Any:
    """A background response once it has ended; pytest's timeout bounds the wait."""
    while (found := retrieve()).status in ("queued", "in_progress"):
        pass
    return found


def test_a_background_response_is_left_resumed_and_polled(client: OpenAI) -> None:
    started = client.responses.create(model="waiting", input="sync", background=True, stream=True)
    seen = []
    for event in started:
        seen.append(event)
        if event.type == "response.output_text.delta":
            started.close()
            break
    identifier = seen[0].response.id
    assert client.responses.retrieve(identifier).status == "in_progress"
    client.responses.create(model="opener", input="sync")
    for event in client.responses.retrieve(identifier, stream=True, starting_after=seen[-1].sequence_number):
        seen.append(event)

    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert "".join([event.delta for event in seen if event.type == "response.output_text.delta"]) == "one two"
    assert outcome(lambda: client.responses.retrieve(identifier)).output_text == "one two"
    with client.responses.stream(response_id=identifier, starting_after=3) as stream:
        assert next(iter(stream)).sequence_number == 4
        assert stream.get_final_response().output_text == "one two"


def test_a_background_response_is_cancelled_and_deleted(client: OpenAI) -> None:
    made = client.responses.create(model="waiting", input="nobody opens this", background=True)
    assert made.status in ("queued", "in_progress")
    assert client.responses.cancel(made.id).status == "cancelled"
    assert outcome(lambda: client.responses.retrieve(made.id)).status == "cancelled"
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_failure_in_the_middle_is_told_and_the_conversation_is_as_before(client: OpenAI) -> None:
    conversation = client.conversations.create().id
    client.responses.create(model="echo", input="one", conversation=conversation)
    stream = client.responses.create(model="breaks", input="two", conversation=conversation, stream=True)
    said: list[str] = []
    with pytest.raises(openai.APIError, match=r"The calendar is closed today\.") as failed:
        said.extend(event.type for event in stream)

    assert "response.output_text.delta" in said
    assert failed.value.body["original_code"] == "calendar_closed"
    told = client.responses.create(model="echo", input="three", conversation=conversation)
    assert told.output_text == "heard: one / heard: one / three"


def test_a_tool_call_goes_over_one_websocket_without_anything_being_stored(client: OpenAI) -> None:
    def turn(connection: Any, **fields: Any) -> Any:
        connection.response.create(model="weather", tools=[WEATHER], store=False, **fields)
        while (event := connection.recv()).type not in ("response.completed", "error"):
            pass
        return event.response

    with client.responses.connect() as connection:
        asked = turn(connection, input="And now?")
        told = turn(connection, input=[result(asked.output[-1])], previous_response_id=asked.id)

    assert told.output_text == "It is sunny, after 3 messages."
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(told.id)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_the_asynchronous_client_does_all_that_too(url: str) -> None:
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=20) as client:
        asked = await client.responses.create(model="weather", input="And now?", tools=[WEATHER])
        async with client.responses.stream(
            model="weather", input=[result(asked.output[-1])], previous_response_id=asked.id, tools=[WEATHER]
        ) as stream:
            assert [event.delta async for event in stream if event.type == "response.output_text.delta"]
            assert (await stream.get_final_response()).output_text == "It is sunny, after 3 messages."
        parsed = await client.responses.parse(model="person", input="Who?", text_format=Person)
        assert parsed.output_parsed == Person(name="Ada", age=36)

        made = await client.responses.create(model="waiting", input="async", background=True)
        async with anyio.create_task_group() as tasks:
            followed: list[str] = []

            async def follow() -> None:
                async for event in await client.responses.retrieve(made.id, stream=True):
                    followed.append(event.type)

            tasks.start_soon(follow)
            await client.responses.create(model="opener", input="async")
        assert followed[-1] == "response.completed"
        assert (await client.responses.retrieve(made.id)).output_text == "one two"
        async with client.responses.connect() as connection:
            await connection.response.create(model="echo", input="hi", previous_response_id=made.id)
            async for event in connection:
                if event.type == "response.completed":
                    assert event.response.output_text == "heard: async / one two / hi"
                    break
