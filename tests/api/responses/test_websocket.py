"""Responses over WebSocket as the openai SDK drives them: `connect()`, sessions and lanes, over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import openai
import pytest
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketSession,
    ResponsesWebSocketError,
    ResponsesWebSocketLimits,
    ResponsesWebSocketSession,
)
from openai.types.responses import Response
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from openai_compat import AgentError, AgentRequest, Capabilities, RunContext, Server
from tests.requirements import requirement
from tests.transports import LOOPS, uvicorn_socket

# The SDK calls newer releases of websockets in this way.
pytestmark = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")

LIMITS = ResponsesWebSocketLimits(
    max_lanes=8, max_events_per_lane=1000, max_events=5000, max_bytes_per_lane=2**20, max_bytes=2**23
)
TERMINAL = {"response.completed", "response.incomplete", "response.failed", "error"}
WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def echo(messages: list[dict[str, Any]]) -> AsyncIterator[str]:
    last = messages[-1]["content"]
    if last == "fail":
        raise AgentError("Not today.", status=409, code="not_today")
    yield "heard: "
    if last == "break":
        raise AgentError("Not any more.")
    yield " / ".join([message["content"] for message in messages])


class Steered:
    """Runs until the user has said more."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        self._more = anyio.Event()

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
        yield request.prompt
        if request.prompt == "long":
            await self._more.wait()

    def steer(self, context: RunContext, items: list[dict[str, Any]]) -> None:
        self._more.set()


@pytest.fixture(scope="module", params=LOOPS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with uvicorn_socket(Server({"agent": echo, "steered": Steered()}, keys="right"), request.param) as base:
        yield base


def plain(url: str, key: str = "right") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def asynchronous(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="right", max_retries=0)


def create(text: str, **fields: Any) -> Any:
    return {"type": "response.create", "model": "agent", "input": text, **fields}


def last_of(connection: Any) -> Any:
    """The last event of a response."""
    while (event := connection.recv()).type not in TERMINAL:
        pass
    return event


@requirement("ws.sdk")
def test_the_plain_client_has_turn_after_turn_over_one_connection(url: str) -> None:
    with plain(url).responses.connect() as connection:
        connection.send(create("one", store=False))
        first = last_of(connection).response
        assert isinstance(first, Response)
        assert first.output_text == "heard: one"
        connection.send(create("two", store=False, previous_response_id=first.id))
        assert last_of(connection).response.output_text == "heard: one / heard: one / two"
        connection.send(create("fail"))
        refused = last_of(connection)
        assert (refused.type, refused.status, refused.error.code) == ("error", 409, "not_today")
        connection.send(create("three"))
        assert last_of(connection).response.output_text == "heard: three"


@requirement("ws.sdk")
@pytest.mark.anyio
async def test_the_asynchronous_client_reads_typed_events(url: str) -> None:
    async with asynchronous(url).responses.connect() as connection:
        await connection.send(create("hi", stream_id="a"))
        text = ""
        async for event in connection:
            assert event.stream_id == "a"
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.completed":
                assert event.response.output_text == text == "heard: hi"
                break


@requirement("ws.sdk")
def test_sessions_route_lanes_and_collect_their_responses(url: str) -> None:
    connection = plain(url).responses.connect().enter()
    with ResponsesWebSocketSession(connection, limits=LIMITS) as session:
        lanes = [session.lane(name) for name in "abc"]
        for lane in lanes:
            lane.send(create(f"one {lane._state.stream_id}"))
        firsts = [lane.get_final_response(timeout=10) for lane in lanes]
        assert [one.output_text for one in firsts] == ["heard: one a", "heard: one b", "heard: one c"]
        lanes[0].send(create("break"))
        broken = lanes[0].get_final_response(timeout=10)
        assert (broken.status, broken.error.message) == ("failed", "Not any more.")
        lanes[0].send(create("fail"))
        with pytest.raises(ResponsesWebSocketError):
            lanes[0].get_final_response(timeout=10)
        lanes[0].send(create("two", previous_response_id=firsts[1].id))
        assert lanes[0].get_final_response(timeout=10).output_text == "heard: one b / heard: one b / two"


@requirement("ws.sdk")
@pytest.mark.anyio
async def test_a_running_response_can_be_steered_by_the_sdk(url: str) -> None:
    connection = await asynchronous(url).responses.connect().enter()
    async with AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session:
        lane = session.lane("a")
        with anyio.fail_after(10):
            await lane.send({**create("long"), "model": "steered"})
            while (event := await lane.recv()).type != "response.output_text.delta":
                if event.type == "response.created":
                    identifier = event.response.id
            await connection.response.steer(input="go on", previous_response_id=identifier)
            first = await lane.get_final_response()
            assert (first.id, first.output_text) == (identifier, "long")
            while (event := await lane.recv()).type != "response.created":
                assert event.type == "response.steer.accepted"
            successor = await lane.get_final_response()
        assert (successor.previous_response_id, successor.output_text) == (identifier, "go on")


@requirement("ws.auth")
def test_a_client_with_a_wrong_key_is_told_by_the_answer_to_its_handshake(url: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        plain(url, key="wrong").responses.connect().enter()
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["error"]["code"] == "invalid_api_key"


@requirement("ws.sdk")
def test_warm_ups_tools_and_responses_of_http_go_together(url: str) -> None:
    client = plain(url)
    stored = client.responses.create(model="agent", input="over http")
    with client.responses.connect() as connection:
        connection.send(create("warm", generate=False, previous_response_id=stored.id, tools=[WEATHER]))
        warm = last_of(connection).response
        assert warm.output == []
        connection.send(create("go", previous_response_id=warm.id))
        answer = last_of(connection).response
        assert answer.output_text == "heard: over http / heard: over http / warm / go"
    assert client.responses.retrieve(answer.id).output_text == answer.output_text
    assert [item.type for item in client.responses.input_items.list(warm.id)] == ["message"]


@pytest.mark.anyio
async def test_other_clients_may_offer_compression_and_send_in_pieces(url: str) -> None:
    headers = {"Authorization": "Bearer right"}
    target = url.replace("http", "ws") + "/v1/responses"
    with anyio.fail_after(10):
        async with connect(target, additional_headers=headers, compression="deflate") as websocket:
            event = json.dumps(create("x" * 5000))
            await websocket.send([event[at : at + 100] for at in range(0, len(event), 100)])
            while (received := json.loads(await websocket.recv()))["type"] not in TERMINAL:
                pass
            assert received["response"]["output"][0]["content"][0]["text"] == "heard: " + "x" * 5000
            await websocket.send(b"{}")
            assert json.loads(await websocket.recv())["error"]["code"] == "invalid_frame"
            await websocket.ping()
    assert websocket.close_code == 1000
