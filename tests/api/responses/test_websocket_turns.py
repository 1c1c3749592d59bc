"""Responses over a WebSocket without a socket: the running, the waiting, the remembered, and how they end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from openai_compat import (
    AgentError,
    AgentRequest,
    Capabilities,
    Conversations,
    Cors,
    Deadlines,
    Disconnect,
    Limits,
    Principal,
    Rates,
    RunContext,
    Server,
    ToolCallReady,
)
from openai_compat_adapters.transport import AsyncTransport
from openai_compat_adapters.websocket import Closed, Refused, WebSocket, connect
from tests.conftest import anyio_backend as anyio_backend
from tests.requirements import requirement

pytestmark = pytest.mark.anyio
TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
PATIENCE = 10


class Client:
    """A WebSocket that exchanges events; every wait is bounded."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket

    async def send(self, **event: Any) -> None:
        with anyio.fail_after(PATIENCE):
            await self.websocket.send(json.dumps(event))

    async def create(self, text: str = "hi", **fields: Any) -> None:
        await self.send(**{"type": "response.create", "model": "agent", "input": text, **fields})

    async def receive(self) -> dict[str, Any]:
        with anyio.fail_after(PATIENCE):
            frame = await self.websocket.receive()
        assert isinstance(frame, str)
        return json.loads(frame)

    async def until(self, *types: str) -> list[dict[str, Any]]:
        """The events up to the first of these types, by default the last one of a response."""
        events = [await self.receive()]
        while events[-1]["type"] not in (types or TERMINAL):
            events.append(await self.receive())
        return events

    async def ask(self, text: str = "hi", **fields: Any) -> dict[str, Any]:
        """The last event of a response."""
        await self.create(text, **fields)
        return (await self.until())[-1]

    async def closed(self) -> int:
        """The code with which the server closes, as its next action."""
        with anyio.fail_after(PATIENCE), pytest.raises(Closed) as closed:
            await self.websocket.receive()
        return closed.value.code


@asynccontextmanager
async def connected(server: Server, **headers: str) -> AsyncGenerator[Client]:
    async with connect(server, headers=headers) as websocket:
        yield Client(websocket)


def said(event: dict[str, Any]) -> str:
    """The text of a response."""
    assert event["type"] == "response.completed", event
    return "".join(part["text"] for item in event["response"]["output"] for part in item["content"])


def error(event: dict[str, Any]) -> tuple[int, str, str | None]:
    """Status, code and param of an error, which must be complete."""
    assert event["type"] == "error", event
    assert {"message", "type", "code", "param", "headers"} == set(event["error"])
    assert event["error"]["headers"]["x-request-id"].startswith("req_")
    return event["status"], event["error"]["code"], event["error"]["param"]


async def echo(messages: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Repeats the whole conversation, in two chunks; fails on request."""
    last = messages[-1]["content"]
    if last == "fail at once":
        raise AgentError("Not today.", status=409, code="not_today")
    yield "heard: "
    if last == "fail later":
        raise AgentError("Not any more.", code="not_any_more")
    yield " / ".join([message["content"] for message in messages])


class Gate:
    """An agent that, if its prompt is "wait NAME", waits until let through."""

    def __init__(self) -> None:
        self.doors: dict[str, anyio.Event] = {}
        self.ended: list[str] = []
        self._changed = anyio.Event()

    async def __call__(self, prompt: str) -> AsyncIterator[str]:
        word, _, name = prompt.partition(" ")
        if word == "wait":
            self.doors[name] = anyio.Event()
            self._change()
            try:
                await self.doors[name].wait()
            finally:
                self.ended.append(name)
                self._change()
        yield prompt

    def _change(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE):
            while not condition():
                await self._changed.wait()

    async def waits(self, *names: str) -> None:
        """Return once the agent waits at these doors."""
        await self.until(lambda: set(names) <= set(self.doors))


# running and waiting


@requirement("ws.processed")
async def test_a_client_that_says_what_it_has_read_gets_no_answer_to_that() -> None:
    async with connected(Server({"agent": echo})) as client:
        first = await client.ask("one")
        await client.send(type="response.processed", response_id=first["response"]["id"])
        await client.send(type="response.processed", response_id="resp_unknown", stream_id="a")
        assert said(await client.ask("two")) == "heard: two"


@requirement("responses.warm_up")
async def test_a_client_warms_up_without_anything_to_say_and_goes_on_from_there() -> None:
    async with connected(Server({"agent": echo})) as client:
        await client.send(type="response.create", model="agent", input=[], generate=False, store=False)
        warm = (await client.until())[-1]["response"]
        assert (warm["status"], warm["output"]) == ("completed", [])
        answer = await client.ask("go", previous_response_id=warm["id"], store=False)
        assert said(answer) == "heard: go"


@requirement("ws.events")
async def test_the_events_are_those_of_a_stream_with_the_lane_on_each() -> None:
    server = Server(echo)
    async with connected(server) as client, httpx2.AsyncClient(transport=AsyncTransport(server)) as http:
        body = {"model": "agent", "input": "hi", "stream": True}
        streamed = (await http.post("http://localhost/v1/responses", json=body)).text
        over_http = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
        for lane in (None, "a.b-c_1"):
            await client.create(**({} if lane is None else {"stream_id": lane}))
            events = await client.until()
            assert [event["type"] for event in events] == [event["type"] for event in over_http]
            assert [event["sequence_number"] for event in events] == list(range(len(events)))
            assert {event.get("stream_id") for event in events} == {lane}
            assert [event.get("delta") for event in events] == [event.get("delta") for event in over_http]
            assert events[-1]["response"].keys() == over_http[-1]["response"].keys()


@requirement("ws.fifo")
async def test_without_lanes_each_response_waits_for_the_one_before() -> None:
    gate = Gate()
    async with connected(Server(gate)) as client:
        await client.create("wait a")
        await client.create("second")
        await client.create("third")
        await gate.waits("a")
        gate.doors["a"].set()
        assert [said((await client.until())[-1]) for _ in range(3)] == ["wait a", "second", "third"]


@requirement("ws.lanes")
async def test_lanes_run_side_by_side_and_each_in_order() -> None:
    gate = Gate()
    async with connected(Server(gate)) as client:
        await client.create("wait a", stream_id="a")
        await client.create("after a", stream_id="a")
        await client.create("wait b", stream_id="b")
        await gate.waits("a", "b")
        assert said(await client.ask("unnamed")) == "unnamed"
        gate.doors["b"].set()
        assert (await client.until())[-1]["stream_id"] == "b"
        gate.doors["a"].set()
        ended = [(await client.until())[-1] for _ in range(2)]
        assert [(event["stream_id"], said(event)) for event in ended] == [("a", "wait a"), ("a", "after a")]


@requirement("ws.generate")
@pytest.mark.parametrize("option", [{"generate": False}, {"prompt_cache_options": {"prewarm": True}}])
@pytest.mark.parametrize("store", [True, False])
async def test_a_response_can_be_made_that_only_remembers_its_input(option: dict[str, Any], store: bool) -> None:
    runs: list[str] = []

    def agent(messages: list[dict[str, Any]]) -> str:
        runs.append(messages[-1]["content"])
        return " / ".join([message["content"] for message in messages])

    server = Server(agent)
    async with connected(server) as client:
        await client.create("warm", store=store, **option)
        events = await client.until()
        assert [event["type"] for event in events] == ["response.created", "response.in_progress", "response.completed"]
        warm = events[-1]["response"]
        assert (warm["output"], runs) == ([], [])
        assert said(await client.ask("go", store=store, previous_response_id=warm["id"])) == "warm / go"
    assert server.services.live.slots.used == 0


@requirement("ws.generate")
async def test_a_response_that_only_remembers_its_input_takes_no_slot() -> None:
    gate = Gate()
    async with connected(Server(gate, limits=Limits(slots=1))) as client:
        await client.create("wait a", stream_id="a")
        await gate.waits("a")
        await client.create("warm", stream_id="b", generate=False)
        assert [event["type"] for event in await client.until()][-1] == "response.completed"
        await client.create("more", stream_id="b")
        assert error((await client.until())[-1]) == (429, "rate_limit_exceeded", None)
        gate.doors["a"].set()
        await client.until()


# memory of the connection


@requirement("ws.local")
async def test_what_is_not_stored_can_be_continued_on_its_connection_only() -> None:
    server = Server(echo)
    async with connected(server) as client, httpx2.AsyncClient(transport=AsyncTransport(server)) as http:
        first = (await client.ask("one", store=False))["response"]
        second = await client.ask("two", store=False, previous_response_id=first["id"])
        assert said(second) == "heard: one / heard: one / two"
        assert second["response"]["previous_response_id"] == first["id"]
        fork = await client.ask("fork", store=False, previous_response_id=first["id"], stream_id="b")
        assert said(fork) == "heard: one / heard: one / fork"
        assert (await http.get(f"http://localhost/v1/responses/{first['id']}")).status_code == 404
        async with connected(server) as other:
            refused = await other.ask("two", previous_response_id=first["id"])
            assert error(refused) == (400, "previous_response_not_found", "previous_response_id")


@requirement("ws.local")
async def test_a_stored_response_that_continues_one_that_is_not_is_whole_everywhere() -> None:
    server = Server(echo)
    async with connected(server) as client:
        first = (await client.ask("one", store=False))["response"]
        second = (await client.ask("two", previous_response_id=first["id"]))["response"]
    async with connected(server) as client:
        third = await client.ask("three", previous_response_id=second["id"])
        assert said(third).endswith("one / heard: one / two / heard: one / heard: one / two / three")


@requirement("ws.evict")
@pytest.mark.parametrize("failing", [{"text": "fail at once"}, {"text": "fail later"}, {"temperature": 9}])
async def test_a_response_that_could_not_be_continued_is_forgotten_unless_it_was_a_fork(failing: Any) -> None:
    async with connected(Server(echo)) as client:
        first = (await client.ask("one", store=False))["response"]
        again = {"store": False, "previous_response_id": first["id"]}
        assert (await client.ask(**failing, **again, stream_id="fork"))["type"] in ("error", "response.failed")
        assert said(await client.ask("two", **again)).endswith("two")
        assert (await client.ask(**failing, **again))["type"] in ("error", "response.failed")
        assert error(await client.ask("two", **again))[1] == "previous_response_not_found"


async def test_other_principals_responses_are_unknown() -> None:
    server = Server(echo, keys={"one": Principal("one"), "two": Principal("two")})
    async with connected(server, authorization="Bearer one") as client:
        first = (await client.ask("secret"))["response"]
    async with connected(server, authorization="Bearer two") as client:
        refused = await client.ask("tell", previous_response_id=first["id"])
        assert error(refused)[1] == "previous_response_not_found"


# errors


@requirement("ws.errors")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "nothing"}, (404, "model_not_found", "model")),
        ({"model": None}, (400, "missing_required_parameter", "model")),
        ({"input": None}, (400, "missing_required_parameter", "input")),
        ({"temperature": "hot"}, (400, "invalid_type", "temperature")),
        ({"generate": "no"}, (400, "invalid_type", "generate")),
        ({"background": True}, (400, "unsupported_value", "background")),
        ({"previous_response_id": "resp_x"}, (400, "previous_response_not_found", "previous_response_id")),
        ({"type": "response.inject"}, (400, "invalid_value", "type")),
        ({"input": "fail at once"}, (409, "not_today", None)),
    ],
)
async def test_a_request_that_fails_says_why_on_its_lane_and_the_connection_goes_on(
    change: dict[str, Any], expected: tuple[int, str, str | None]
) -> None:
    event = {"type": "response.create", "model": "agent", "input": "hi", "stream_id": "a", **change}
    event = {name: value for name, value in event.items() if value is not None}
    async with connected(Server(echo)) as client:
        await client.send(**event)
        refused = await client.receive()
        assert error(refused) == expected
        assert refused["stream_id"] == "a"
        assert said(await client.ask("hi", stream_id="a")) == "heard: hi"


@requirement("ws.errors")
async def test_a_stream_that_breaks_off_ends_with_one_event() -> None:
    async with connected(Server(echo)) as client:
        await client.create("fail later")
        events = await client.until()
        assert [event["type"] for event in events][-1] == "response.failed"
        assert "error" not in [event["type"] for event in events]
        assert events[-1]["response"]["error"]["message"] == "Not any more."
        assert said(await client.ask("hi")) == "heard: hi"


async def test_a_frame_over_the_limit_closes_the_connection() -> None:
    async with connected(Server(echo, limits=Limits(body=1000))) as client:
        assert said(await client.ask("x" * 900)).startswith("heard: x")
        await client.create("x" * 1000)
        assert await client.closed() == 1009


async def test_bytes_are_no_json() -> None:
    async with connected(Server(echo)) as client:
        await client.websocket.send(b"{}")
        assert error(await client.receive()) == (400, "invalid_frame", None)
        assert said(await client.ask("hi")) == "heard: hi"


async def test_more_lanes_than_openai_has_are_refused() -> None:
    async with connected(Server(echo)) as client:
        for number in range(32):
            assert said(await client.ask("hi", stream_id=f"lane{number}")) == "heard: hi"
        refused = await client.ask("hi", stream_id="lane32")
        assert error(refused) == (400, "websocket_stream_limit_reached", "stream_id")
        assert said(await client.ask("hi", stream_id="lane31")) == "heard: hi"
        assert said(await client.ask("hi")) == "heard: hi"


async def test_the_slots_of_the_server_count_here_too() -> None:
    gate = Gate()
    async with connected(Server(gate, limits=Limits(slots=1))) as client:
        await client.create("wait a", stream_id="a")
        await gate.waits("a")
        refused = await client.ask("hi")
        assert error(refused)[:2] == (429, "rate_limit_exceeded")
        assert refused["error"]["headers"]["retry-after"]


async def test_rates_count_each_response() -> None:
    async with connected(Server(echo, rates=Rates(2))) as client:
        assert said(await client.ask("one")) == "heard: one"
        assert said(await client.ask("two")) == "heard: two"
        refused = await client.ask("three")
        assert error(refused)[:2] == (429, "rate_limit_exceeded")
        assert refused["error"]["headers"]["retry-after"]


async def test_a_conversation_named_when_connecting_has_all_turns() -> None:
    server = Server(echo, conversations=Conversations())
    for text, heard in (("one", "one"), ("two", "one / heard: one / two")):
        async with connected(server, **{"x-conversation-id": "talk"}) as client:
            assert said(await client.ask(text)) == f"heard: {heard}"


# ends


@requirement("ws.leave")
@pytest.mark.parametrize("policy", ["cancel", "finish"])
@pytest.mark.parametrize("frames", range(12))
async def test_wherever_a_client_leaves_nothing_is_left_behind(policy: Any, frames: int) -> None:
    server = Server(echo, conversations=Conversations(), disconnect=Disconnect(policy))
    async with connected(server, **{"x-conversation-id": "talk"}) as client:
        await client.create("one")
        await client.create("two", stream_id="b")
        for _ in range(frames):
            await client.receive()
    with anyio.fail_after(PATIENCE):
        await server.services.live.responses.wait_empty()
        await server.services.live.slots.wait_unused()
    assert not server.services.live.runner.running
    async with connected(server, **{"x-conversation-id": "talk"}) as client:
        assert said(await client.ask("three")).endswith("three")


@requirement("ws.leave")
async def test_a_client_that_leaves_stops_what_runs() -> None:
    gate = Gate()
    server = Server(gate)
    async with connected(server) as client:
        await client.create("wait a", stream_id="a")
        await client.create("wait b", stream_id="b")
        await client.create("never", stream_id="b")
        await gate.waits("a", "b")
    assert sorted(gate.ended) == ["a", "b"]
    assert server.services.live.slots.used == 0
    assert not server.services.live.runner.running


@requirement("ws.leave")
async def test_a_turn_may_outlive_its_client_and_be_found_again() -> None:
    gate = Gate()
    server = Server(gate, disconnect=Disconnect("finish"))
    async with connected(server) as client:
        await client.create("wait a")
        await gate.waits("a")
    (key,) = server.services.live.responses
    async with httpx2.AsyncClient(transport=AsyncTransport(server)) as http:
        found = await http.get(f"http://localhost/v1/responses/{key.id}")
        assert (found.status_code, found.json()["status"]) == (200, "in_progress")
    gate.doors["a"].set()
    with anyio.fail_after(PATIENCE):
        await server.services.live.responses.wait_empty()
    async with connected(server) as client:
        assert said(await client.ask("go on", previous_response_id=key.id)) == "go on"


@requirement("ws.slow")
async def test_a_client_that_does_not_read_is_left() -> None:
    stopped = anyio.Event()

    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await anyio.lowlevel.checkpoint()
        finally:
            stopped.set()

    async with connected(Server(endless, deadlines=Deadlines(write=0.05))) as client:
        await client.create()
        with anyio.fail_after(PATIENCE):
            await stopped.wait()
        with pytest.raises(Closed) as closed:
            await client.until("nothing")
        assert closed.value.code == 1006


@requirement("ws.limit")
async def test_a_connection_has_its_time_and_its_last_turn_may_end() -> None:
    gate = Gate()
    async with connected(Server(gate, deadlines=Deadlines(connection=0.05))) as client:
        await client.create("wait a")
        await gate.waits("a")
        refused = None
        while refused is None:
            await client.create("not any more", stream_id="b")
            last = (await client.until())[-1]
            refused = last if last["type"] == "error" else None
        assert error(refused)[:2] == (400, "websocket_connection_limit_reached")
        gate.doors["a"].set()
        assert said((await client.until())[-1]) == "wait a"
        assert error(await client.receive())[1] == "websocket_connection_limit_reached"
        assert await client.closed() == 1001


@requirement("ws.drain")
async def test_a_server_that_ends_closes_idle_connections_and_lets_turns_end() -> None:
    gate = Gate()
    server = Server(gate)
    async with AsyncExitStack() as stack:
        idle = await stack.enter_async_context(connected(server))
        busy = await stack.enter_async_context(connected(server))
        await busy.create("wait a")
        await gate.waits("a")
        async with anyio.create_task_group() as group:
            group.start_soon(server.drain, PATIENCE)
            assert await idle.closed() == 1012
            assert error(await busy.ask("no more", stream_id="b"))[:2] == (503, "shutting_down")
            gate.doors["a"].set()
            assert said((await busy.until())[-1]) == "wait a"
            assert await busy.closed() == 1012
        with pytest.raises(Refused) as refused:
            await stack.enter_async_context(connected(server))
        assert refused.value.status == 503


@requirement("ws.drain")
async def test_a_host_that_will_stop_closes_connections_as_soon_as_nothing_runs_on_them() -> None:
    gate = Gate()
    server = Server(gate)
    async with connected(server) as idle, connected(server) as busy:
        await busy.create("wait a")
        await gate.waits("a")
        server.draining()
        assert await idle.closed() == 1012
        gate.doors["a"].set()
        assert said((await busy.until())[-1]) == "wait a"
        assert await busy.closed() == 1012


@requirement("ws.auth")
async def test_a_key_that_is_taken_back_is_worth_nothing_on_open_connections() -> None:
    keys = ["old"]
    async with connected(Server(echo, keys=lambda: keys), authorization="Bearer old") as client:
        assert said(await client.ask("hi")) == "heard: hi"
        keys[:] = ["new"]
        assert error(await client.ask("hi"))[:2] == (401, "invalid_api_key")
        assert await client.closed() == 1008


# before the start


@requirement("ws.auth")
@pytest.mark.parametrize(
    ("options", "headers", "path", "expected"),
    [
        ({"keys": "right"}, {}, "/v1/responses", (401, "invalid_api_key")),
        ({"keys": "right"}, {"authorization": "Bearer wrong"}, "/v1/nothing", (401, "invalid_api_key")),
        ({"keys": "right"}, {"authorization": "Bearer right"}, "/v1/nothing", (404, "unknown_url")),
        ({"keys": "right"}, {"authorization": "Bearer right"}, "/responses", (404, "unknown_url")),
        ({"keys": lambda: 1 / 0}, {}, "/v1/responses", (500, "internal_error")),
        ({}, {"host": "evil.example"}, "/v1/responses", (403, "host_not_allowed")),
        ({}, {"origin": "http://evil.example"}, "/v1/responses", (403, "origin_not_allowed")),
        ({}, {"origin": "null"}, "/v1/responses", (403, "origin_not_allowed")),
        (
            {"cors": Cors(["http://a.example"])},
            {"origin": "http://b.example"},
            "/v1/responses",
            (403, "origin_not_allowed"),
        ),
    ],
)
async def test_who_may_not_connect_gets_an_answer(
    options: dict[str, Any], headers: dict[str, str], path: str, expected: tuple[int, str]
) -> None:
    with pytest.raises(Refused) as refused:
        async with connect(Server(echo, **options), path, headers=headers):
            pass
    answer = json.loads(refused.value.body)
    assert (refused.value.status, answer["error"]["code"]) == expected
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert refused.value.headers["x-request-id"].startswith("req_")
    assert refused.value.headers["content-type"] == "application/json"


@requirement("ws.auth")
@pytest.mark.parametrize(
    ("options", "headers", "path"),
    [
        ({"keys": "right"}, {"authorization": "Bearer right"}, "/v1/responses"),
        ({}, {"host": "localhost:8000", "origin": "http://localhost:8000"}, "/v1/responses"),
        ({"cors": Cors(["http://a.example"])}, {"origin": "http://a.example"}, "/v1/responses"),
        ({"bare_paths": True}, {}, "/responses"),
    ],
)
async def test_who_may_connect_does(options: dict[str, Any], headers: dict[str, str], path: str) -> None:
    async with connect(Server(echo, **options), path, headers=headers) as websocket:
        assert websocket.headers["x-request-id"].startswith("req_")
        assert websocket.subprotocol is None
        assert said(await Client(websocket).ask("hi")) == "heard: hi"


# steering


class Steered:
    """An agent that says one word per signal, and ends when the user has said more."""

    capabilities = Capabilities()

    def __init__(self, *, calls: bool = False) -> None:
        self.calls = calls
        self.begun = anyio.Event()
        self.told: list[Any] = []
        self._ends: dict[str, anyio.Event] = {}

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        yield f"{request.prompt} "
        if request.prompt != "long":
            return
        self._ends[context.turn_id] = anyio.Event()
        self.begun.set()
        await self._ends[context.turn_id].wait()
        if self.calls:
            yield ToolCallReady("call_1", "look", "{}", executor="client")
        else:
            yield "cut short"

    def steer(self, context: RunContext, items: list[dict[str, Any]]) -> bool:
        self.told.append(items)
        self._ends[context.turn_id].set()
        if items[0]["content"] == "break":
            raise RuntimeError("cannot be steered after all")
        return items[0]["content"] == "short"


@requirement("ws.steer")
@pytest.mark.parametrize("text", ["more", "short", "break"])
@pytest.mark.parametrize("store", [True, False])
async def test_input_for_a_running_response_is_taken_up_by_one_that_follows(text: str, store: bool) -> None:
    agent = Steered()
    async with connected(Server(agent)) as client:
        await client.create("long", stream_id="a", store=store, instructions="Be brief.", metadata={"a": "b"})
        created = (await client.until("response.created"))[-1]["response"]
        with anyio.fail_after(PATIENCE):
            await agent.begun.wait()
        await client.send(type="response.steer", previous_response_id=created["id"], input=text)
        *_, accepted = await client.until("response.steer.accepted")
        assert accepted["steer"]["previous_response_id"] == created["id"]
        assert (accepted["stream_id"], accepted["sequence_number"]) == ("a", 0)
        steered = (await client.until())[-1]["response"]
        assert (steered["id"], steered["output"][0]["content"][0]["text"]) == (created["id"], "long cut short")
        short = {"reason": "steered"} if text == "short" else None
        assert (steered["status"], steered["incomplete_details"]) == ("incomplete" if short else "completed", short)
        successor = (await client.until())[-1]
        assert successor["stream_id"] == "a"
        assert successor["response"]["previous_response_id"] == created["id"]
        assert successor["response"]["instructions"] == "Be brief."
        assert said(successor) == f"{text} "
    assert agent.told == [[{"type": "message", "role": "user", "content": text}]]


@requirement("ws.steer")
async def test_input_for_a_response_that_calls_the_client_waits_for_the_result() -> None:
    agent = Steered(calls=True)
    tool = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
    async with connected(Server(agent)) as client:
        await client.create("long", tools=[tool])
        created = (await client.until("response.created"))[-1]["response"]
        with anyio.fail_after(PATIENCE):
            await agent.begun.wait()
        await client.send(type="response.steer", previous_response_id=created["id"], input="more")
        await client.until("response.completed")
        pending = await client.receive()
        assert pending["type"] == "response.steer.pending"
        (stub,) = pending["required_input"]
        assert stub == {"type": "function_call_output", "call_id": "call_1", "name": "look"}
        result = {"type": "function_call_output", "call_id": "call_1", "output": "seen"}
        await client.create(input=[result], previous_response_id=created["id"], tools=[tool])
        assert said((await client.until())[-1]) == "more "


@requirement("ws.steer")
@pytest.mark.parametrize("running", [True, False])
async def test_input_that_cannot_be_taken_comes_back(running: bool) -> None:
    gate = Gate()
    server = Server(gate)
    async with connected(server) as client:
        await client.create("wait a")
        await gate.waits("a")
        (identifier,) = [key.id for key in server.services.live.responses] if running else ["resp_unknown"]
        await client.send(type="response.steer", previous_response_id=identifier, input="more")
        failed = await client.receive()
        assert failed["type"] == "response.steer.failed"
        assert failed["error"]["code"] == ("steering_not_supported" if running else "response_not_found")
        assert failed["steer"] == {"previous_response_id": identifier, "input": "more"}
        gate.doors["a"].set()
        assert said((await client.until())[-1]) == "wait a"
