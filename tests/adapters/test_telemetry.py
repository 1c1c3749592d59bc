"""OpenTelemetry traces and metrics, read from the SDK's in-memory exporters."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from openai_compat import (
    Capabilities,
    Conversations,
    Hooks,
    Rates,
    RequestInfo,
    RequestOutcome,
    Server,
    TurnInfo,
    TurnOutcome,
    UsageReported,
    WebhookAttempt,
)
from openai_compat.errors import AgentError
from openai_compat.events import Compacted, Paused, PendingCall, ReasoningDelta, ToolCallReady, ToolResult
from openai_compat.testing import ScriptedBackend
from openai_compat_adapters._instruments import INSTRUMENTS, MOST_ERRORS, MOST_TOOLS, OTHER, error_type
from openai_compat_adapters.telemetry import OpenTelemetry
from tests.api.chat_websocket.client import chat as websocket
from tests.requirements import requirement
from tests.support.exchanges import answer, request
from tests.support.hooked import EVERY_API, EndsAs, ask, hooked_server, run_turn

pytestmark = pytest.mark.anyio

CALLER = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
SECRET = "the secret of the sea"


@dataclass
class Told:
    """The spans and metrics that the exporters received."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def hook(self, **settings: Any) -> OpenTelemetry:
        return OpenTelemetry(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **settings)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        [found] = [span for span in self.spans if span.name == name]
        return found

    def attributes(self, name: str) -> dict[str, Any]:
        return dict(self.span(name).attributes or {})

    def metric(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The series of a metric: the attributes and the data point of each."""
        data: Any = self.reader.get_metrics_data()
        points = [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]
        return [(dict(point.attributes), point) for point in points]


@pytest.fixture
def told() -> Iterator[Told]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    yield Told(tracer_provider, meter_provider, exporter, reader)
    tracer_provider.shutdown()
    meter_provider.shutdown()


async def shopper(prompt: str) -> AsyncIterator[Any]:
    """Calls its own tools, one of which fails, one of which is denied, and one of which never answers."""
    yield ReasoningDelta("thinking")
    yield ToolCallReady("call_1", "find", '{"what":"shoes"}', "agent")
    yield ToolResult("call_1", SECRET)
    yield ToolCallReady("call_2", "pay", "{}", "agent")
    yield ToolResult("call_2", "no money", is_error=True)
    yield ToolCallReady("call_3", "steal", "{}", "agent")
    yield ToolResult("call_3", "no", denied=True)
    yield Compacted("much was said")
    yield UsageReported(10, 5, cached_tokens=4, reasoning_tokens=2)
    yield prompt.upper()


def send(server: Server, *headers: tuple[bytes, bytes], path: str = "/v1/chat/completions", **fields: Any) -> Any:
    body = {"model": "agent", "messages": [{"role": "user", "content": SECRET}], **fields}
    return answer(server, request(path, body, *headers))


# spans


@requirement("telemetry.spans")
async def test_a_request_is_a_server_span_below_the_clients_and_its_run_is_a_span_below_it(told: Told) -> None:
    sampling = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 50,
        "stop": ["END"],
        "seed": 7,
        "reasoning_effort": "low",
    }
    server = Server(shopper, hooks=[told.hook()], keys={"sk-ann": "ann"})
    await send(server, CALLER, (b"authorization", b"Bearer sk-ann"), **sampling)
    asked, run = told.span("POST /v1/chat/completions"), told.span("invoke_agent agent")
    assert asked.kind == SpanKind.SERVER
    assert asked.parent is not None
    assert f"{asked.context.trace_id:x}" == CALLER[1].decode().split("-")[1].lstrip("0")
    assert f"{asked.parent.span_id:x}" == CALLER[1].decode().split("-")[2]
    attributes = dict(asked.attributes or {})
    assert attributes.pop("openai_compat.request_id").startswith("req_")
    assert attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.scheme": "http",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "server.address": "localhost",
    }
    assert run.kind == SpanKind.INTERNAL
    assert run.parent is not None
    assert run.parent.span_id == asked.context.span_id
    attributes = dict(run.attributes or {})
    assert attributes.pop("gen_ai.response.id").startswith("chatcmpl-")
    assert attributes.pop("openai_compat.request_id").startswith("req_")
    assert 0 <= attributes.pop("gen_ai.response.time_to_first_chunk") < 10
    assert 0 <= attributes.pop("openai_compat.queue_seconds") < 10
    assert attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "agent",
        "gen_ai.request.model": "agent",
        "gen_ai.request.stream": False,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.seed": 7,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "text",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "openai_compat.usage.cached_tokens": 4,
        "openai_compat.api": "chat",
        "openai_compat.background": False,
        "user.id": "ann",
    }
    assert [event.name for event in run.events] == ["openai_compat.compacted", "openai_compat.first_event"]
    assert "sk-ann" not in everything(told)


@requirement("telemetry.spans")
async def test_a_requests_span_says_where_it_came_in_and_that_it_failed(told: Told) -> None:
    async def breaks(prompt: str) -> str:
        raise AgentError("It broke.", status=502, code="broken")

    asked = request("/v1/responses", {"model": "agent", "input": "hi"}, (b"authorization", b"Bearer sk-ann"))
    hosted = [(b"host", b"agents.example:8443"), *[header for header in asked.headers if header[0] != b"host"]]
    asked = replace(asked, headers=hosted, scope={"scheme": "https", "http_version": "1.1"})
    await answer(Server(breaks, hooks=[told.hook()], keys={"sk-ann": "ann"}), asked)
    attributes = told.attributes("POST /v1/responses")
    assert {name: attributes[name] for name in attributes if not name.startswith("openai_compat")} == {
        "http.request.method": "POST",
        "http.route": "/v1/responses",
        "url.scheme": "https",
        "url.path": "/v1/responses",
        "http.response.status_code": 502,
        "server.address": "agents.example",
        "server.port": 8443,
        "network.protocol.version": "1.1",
        "error.type": "broken",
    }
    assert told.span("POST /v1/responses").status.status_code == StatusCode.ERROR
    failed = told.span("invoke_agent agent").status
    assert (failed.status_code, failed.description) == (StatusCode.ERROR, "broken")


@requirement("telemetry.spans")
async def test_the_route_of_a_span_has_no_id_in_it(told: Told) -> None:
    await answer(Server(shopper, hooks=[told.hook()]), request("/v1/responses/resp_1", method="GET"))
    attributes = told.attributes("GET /v1/responses/{response_id}")
    assert (attributes["http.route"], attributes["url.path"]) == ("/v1/responses/{response_id}", "/v1/responses/resp_1")
    assert "error.type" not in attributes  # the client's error is no error of the server


@requirement("telemetry.spans")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"n": 2}, {"gen_ai.request.choice.count": 2}),
        ({"response_format": {"type": "json_object"}}, {"gen_ai.output.type": "json"}),
        (
            {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
            {"gen_ai.output.type": "speech"},
        ),
        ({}, {"gen_ai.conversation.id": "trip", "gen_ai.output.type": "text"}),
    ],
)
async def test_what_was_asked_for_is_on_the_span_of_each_run(
    told: Told, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    can = Capabilities(audio_output=True)
    server = Server(ScriptedBackend(["{}"], capabilities=can), hooks=[told.hook()], conversations=Conversations())
    named = () if "n" in fields else ((b"x-conversation-id", b"trip"),)
    await send(server, *named, **fields)
    runs = [dict(span.attributes or {}) for span in told.spans if span.name.startswith("invoke_agent")]
    assert len(runs) == fields.get("n", 1)
    for attributes in runs:
        assert {name: attributes.get(name) for name in expected} == expected
        # no tokens were reported, and one choice is the default
        assert not [name for name in attributes if name.startswith("gen_ai.usage")]
        assert ("gen_ai.request.choice.count" in attributes) == ("n" in fields)


@requirement("telemetry.spans")
@pytest.mark.parametrize(
    ("by", "error"),
    [("superseded", "superseded"), ("deadline", "timeout"), ("shutdown", "shutting_down"), ("client", "cancelled")],
)
def test_who_has_ended_a_run_is_its_error_type(by: Any, error: str) -> None:
    outcome = TurnOutcome(
        finish=None, error=None, usage=None, first_event=None, seconds=1.0, tool_calls=0, cancelled=by, committed=None
    )
    assert error_type(outcome) == error


@requirement("telemetry.spans")
async def test_each_call_of_an_own_tool_is_a_span_below_the_run(told: Told) -> None:
    await send(Server(shopper, hooks=[told.hook()]))
    run = told.span("invoke_agent agent")
    tools = {span.name: span for span in told.spans if span.name.startswith("execute_tool")}
    assert {span.parent.span_id for span in tools.values() if span.parent} == {run.context.span_id}
    assert {
        name: (dict(span.attributes or {}).get("error.type"), span.status.status_code) for name, span in tools.items()
    } == {
        "execute_tool find": (None, StatusCode.UNSET),
        "execute_tool pay": ("tool_error", StatusCode.ERROR),
        "execute_tool steal": ("denied", StatusCode.ERROR),
    }
    assert told.attributes("execute_tool find") == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "find",
        "gen_ai.tool.call.id": "call_1",
        "gen_ai.tool.type": "function",
        "gen_ai.agent.name": "agent",
    }


@requirement("telemetry.spans")
async def test_a_call_without_a_result_is_abandoned_and_a_clients_call_is_none_of_ours(told: Told) -> None:
    async def agent() -> AsyncIterator[Any]:
        yield ToolCallReady("call_1", "find", "{}", "agent")
        yield ToolCallReady("call_2", "theirs", "{}")
        raise AgentError("It broke.", code="broken")

    tools = [{"type": "function", "function": {"name": "theirs"}}]
    await send(Server(agent, hooks=[told.hook()]), tools=tools)
    assert [span.name for span in told.spans if "tool" in span.name] == ["execute_tool find"]
    assert told.attributes("execute_tool find")["error.type"] == "abandoned"


@requirement("telemetry.spans")
@pytest.mark.parametrize(("tools", "ours"), [("auto", 0), ("always", 1), ("never", 0)])
@pytest.mark.parametrize(
    ("name", "attributes"), [("execute_tool find", {}), ("find", {"openinference.span.kind": "TOOL"})]
)
async def test_an_agent_that_traces_its_tools_itself_does_not_show_them_twice(
    told: Told, tools: Any, ours: int, name: str, attributes: dict[str, str]
) -> None:
    tracer = told.tracer_provider.get_tracer("a.framework")

    async def agent() -> AsyncIterator[Any]:
        yield ToolCallReady("call_1", "find", "{}", "agent")
        with tracer.start_as_current_span(name, attributes=attributes):
            pass
        yield ToolResult("call_1", "found")

    await send(Server(agent, hooks=[told.hook(tools=tools)]))
    assert len([span for span in told.spans if span.name in ("find", "execute_tool find")]) == 1 + ours


@requirement("telemetry.nested")
@pytest.mark.parametrize("stream", [False, True])
async def test_what_an_agent_traces_is_below_its_run(told: Told, stream: bool) -> None:
    tracer = told.tracer_provider.get_tracer("a.framework")

    async def agent() -> AsyncIterator[str]:
        with tracer.start_as_current_span("chat gpt"):
            yield "hello"
            await anyio.sleep(0)

    def in_a_thread() -> str:
        with tracer.start_as_current_span("chat gpt"):
            return "hello"

    for one in (agent, in_a_thread):
        told.exporter.clear()
        await send(Server({"agent": one}, hooks=[told.hook()]), stream=stream)
        inner, run = told.span("chat gpt"), told.span("invoke_agent agent")
        assert inner.parent is not None
        assert inner.parent.span_id == run.context.span_id


@requirement("telemetry.nested")
async def test_below_another_instrumentation_there_is_no_second_server_span(told: Told) -> None:
    tracer = told.tracer_provider.get_tracer("an.asgi.instrumentation")
    with tracer.start_as_current_span("theirs") as theirs:
        await send(Server(shopper, hooks=[told.hook()]), CALLER)
        assert trace.get_current_span() is theirs
    run = told.span("invoke_agent agent")
    assert run.parent is not None
    assert run.parent.span_id == theirs.get_span_context().span_id
    assert not [span for span in told.spans if span.kind == SpanKind.SERVER]
    assert not told.metric("http.server.request.duration")  # the instrumentation in front measures it
    assert told.metric("gen_ai.invoke_agent.duration")


@requirement("telemetry.nested")
async def test_a_stranger_is_only_linked_where_that_is_wanted(told: Told) -> None:
    await send(Server(shopper, hooks=[told.hook(remote="link")]), CALLER)
    asked = told.span("POST /v1/chat/completions")
    assert asked.parent is None
    assert [f"{link.context.span_id:x}" for link in asked.links] == [CALLER[1].decode().split("-")[2]]


@requirement("telemetry.spans")
async def test_turns_of_a_websocket_are_traces_of_their_own_that_point_to_its_handshake(told: Told) -> None:
    async with websocket(hooked_server(EndsAs(), told.hook())) as client:
        handshake = told.span("GET /chat")  # ended, although the connection continues
        await client.say("ok")
        await client.until()
    run = told.span("invoke_agent agent")
    assert run.parent is None
    assert run.context.trace_id != handshake.context.trace_id
    assert [link.context.span_id for link in run.links] == [handshake.context.span_id]
    assert dict(handshake.attributes or {})["http.response.status_code"] == 101


@requirement("telemetry.spans")
async def test_a_background_response_is_below_its_request_and_ends_after_it(told: Told) -> None:
    go, over = anyio.Event(), anyio.Event()

    async def agent() -> str:
        await go.wait()
        return "done"

    class Over(Hooks):
        async def settled(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
            over.set()

    server = Server(agent, hooks=[told.hook(), Over()])
    await answer(server, request("/v1/responses", {"model": "agent", "input": "hi", "background": True}))
    asked = told.span("POST /v1/responses")
    go.set()
    with anyio.fail_after(10):
        await over.wait()
    run = told.span("invoke_agent agent")
    assert run.parent is not None
    assert run.parent.span_id == asked.context.span_id
    assert (run.end_time or 0) > (asked.end_time or 0)
    assert dict(run.attributes or {})["openai_compat.background"] is True


@requirement("telemetry.spans")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ending", ["ok", "error", "cancel", "pause"])
@pytest.mark.parametrize("api", EVERY_API)
async def test_every_api_traces_each_turn_once_and_says_how_it_ended(
    told: Told, api: str, ending: str, stream: bool
) -> None:
    agent = EndsAs()
    await run_turn(hooked_server(agent, told.hook()), agent, api, ending, stream=stream)
    run = told.span("invoke_agent agent")
    attributes = dict(run.attributes or {})
    error, finish = attributes.get("error.type"), attributes.get("gen_ai.response.finish_reasons")
    expected = {
        "ok": (None, ("stop",), StatusCode.UNSET),
        "error": ("broken", None, StatusCode.ERROR),
        "cancel": ("cancelled", None, StatusCode.UNSET),
        "pause": (None, ("paused",), StatusCode.UNSET),
    }
    assert (error, finish, run.status.status_code) == expected[ending]
    paused = [dict(event.attributes or {}) for event in run.events if event.name == "openai_compat.paused"]
    waits = {
        "gen_ai.tool.name": "delete",
        "gen_ai.tool.call.id": "call_1",
        "openai_compat.waits_for": "approval",
    }
    assert paused == ([waits] if ending == "pause" else [])
    assert attributes["openai_compat.api"] == api


@requirement("telemetry.spans")
async def test_a_decision_is_an_event_of_the_run_that_it_lets_go_on(told: Told) -> None:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        if prompt:
            yield Paused((PendingCall("call_1", "delete", "{}", "approval"),))
        else:
            yield "done"

    server = Server(agent, hooks=[told.hook()])
    fields = {"model": "agent", "tools": [{"type": "mcp", "server_label": "agent", "server_url": "https://x.example"}]}
    asked = json.loads(
        b"".join([b.data for b in (await answer(server, request("/v1/responses", {**fields, "input": "hi"}))).bodies])
    )
    [question] = [item for item in asked["output"] if item["type"] == "mcp_approval_request"]
    told.exporter.clear()
    decision = {"type": "mcp_approval_response", "approval_request_id": question["id"], "approve": True}
    again = {**fields, "input": [decision], "previous_response_id": asked["id"]}
    await answer(server, request("/v1/responses", again))
    [event] = [one for one in told.span("invoke_agent agent").events if one.name == "openai_compat.decided"]
    assert dict(event.attributes or {}) == {"gen_ai.tool.call.id": "call_1", "openai_compat.approved": True}


# content


def everything(told: Told) -> str:
    return json.dumps([json.loads(span.to_json() or "{}") for span in told.spans])


@requirement("telemetry.content")
async def test_nothing_that_is_said_is_told_unless_it_is_asked_for(told: Told) -> None:
    server = Server(shopper, hooks=[told.hook()])
    await send(server, stream=True)
    await send(server, path="/v1/responses", input=SECRET)
    assert SECRET not in everything(told)
    assert SECRET.upper() not in everything(told)


@requirement("telemetry.content")
@pytest.mark.parametrize(
    ("setting", "span", "event"),
    [("SPAN_ONLY", True, False), ("EVENT_ONLY", False, True), ("SPAN_AND_EVENT", True, True)],
)
async def test_content_is_told_where_the_conventions_switch_says(
    told: Told, monkeypatch: pytest.MonkeyPatch, setting: str, span: bool, event: bool
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", setting)
    system = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": SECRET}]
    tools = [{"type": "function", "function": {"name": "theirs", "parameters": {"type": "object"}}}]
    await send(Server(shopper, hooks=[told.hook()]), messages=system, tools=tools)
    run = told.span("invoke_agent agent")
    events = [dict(one.attributes or {}) for one in run.events if one.name == "openai_compat.turn.details"]
    found = [dict(run.attributes or {}), *events][0 if span else 1]
    assert bool(events) == event
    assert ("gen_ai.input.messages" in dict(run.attributes or {})) == span
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": SECRET}]}
    ]
    assert json.loads(found["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be kind."}]
    assert json.loads(found["gen_ai.tool.definitions"])[0]["name"] == "theirs"
    [said] = json.loads(found["gen_ai.output.messages"])
    assert said["role"] == "assistant"
    assert {"type": "text", "content": SECRET.upper()} in said["parts"]
    if span:
        assert told.attributes("execute_tool find")["gen_ai.tool.call.result"] == SECRET


@requirement("telemetry.content")
async def test_principals_are_told_unless_that_is_not_wanted(told: Told) -> None:
    server = Server(shopper, hooks=[told.hook(principals=False)], keys={"sk-ann": "ann"})
    await send(server, (b"authorization", b"Bearer sk-ann"))
    assert "user.id" not in told.attributes("invoke_agent agent")


@pytest.mark.parametrize(("name", "value"), [("tools", "some"), ("remote", "child"), ("content", "yes")])
def test_a_setting_that_is_none_is_an_error(told: Told, name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is one of"):
        told.hook(**{name: value})


# metrics


def webhook_attempt(outcome: Any) -> WebhookAttempt:
    return WebhookAttempt(id="evt_1", target="@app#1", attempt=1, outcome=outcome, error="", seconds=0.1)


def doubling(first: float, last: float) -> tuple[float, ...]:
    found = [first]
    while found[-1] < last:
        found.append(round(found[-1] * 2, 2))
    return tuple(found)


HTTP = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
STEPS = doubling(0.01, 81.92)
AGENT = "gen_ai.agent.name"
TABLE: dict[str, tuple[str, str, set[str], tuple[float, ...]]] = {
    "http.server.request.duration": (
        "histogram",
        "s",
        {"http.request.method", "http.route", "http.response.status_code", "url.scheme", "error.type"},
        HTTP,
    ),
    "gen_ai.invoke_agent.duration": (
        "histogram",
        "s",
        {"gen_ai.operation.name", AGENT, "error.type"},
        doubling(0.1, 409.6),
    ),
    "gen_ai.invoke_agent.tool_calls": ("histogram", "{tool_call}", {AGENT}, doubling(1, 128)),
    "gen_ai.execute_tool.duration": (
        "histogram",
        "s",
        {"gen_ai.tool.name", "gen_ai.tool.type", AGENT, "error.type"},
        STEPS,
    ),
    "openai_compat.turn.time_to_first_event": ("histogram", "s", {AGENT}, STEPS),
    "openai_compat.turn.queue.duration": ("histogram", "s", {AGENT}, STEPS),
    "openai_compat.turn.tokens": ("counter", "{token}", {AGENT, "type"}, ()),
    "openai_compat.turns.active": ("gauge", "{turn}", {AGENT}, ()),
    "openai_compat.turns.refused": ("counter", "{turn}", {"reason"}, ()),
    "openai_compat.webhook.deliveries": ("counter", "{delivery}", {"outcome"}, ()),
}


@requirement("telemetry.metrics")
def test_names_units_attributes_and_boundaries_are_those_of_the_conventions() -> None:
    found = {one.name: (one.kind, one.unit, set(one.attributes), one.boundaries) for one in INSTRUMENTS}
    assert found == TABLE


@requirement("telemetry.metrics")
async def test_every_instrument_has_its_figures(told: Told) -> None:
    hook = told.hook()
    server = Server(shopper, hooks=[hook], keys={"sk-ann": "ann"}, rates=Rates(0.01))
    await send(server, (b"authorization", b"Bearer sk-ann"))
    await send(server, (b"authorization", b"Bearer sk-ann"))
    await send(server)
    for outcome in ("retry", "delivered", "retry"):
        hook.webhook_sent(webhook_attempt(outcome))
    duration = {
        attributes["http.response.status_code"]: point
        for attributes, point in told.metric("http.server.request.duration")
    }
    assert {status: point.count for status, point in duration.items()} == {"200": 1, "401": 1, "429": 1}
    [(attributes, run)] = told.metric("gen_ai.invoke_agent.duration")
    assert attributes == {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "agent"}
    assert (run.count, run.explicit_bounds[0], run.explicit_bounds[-1]) == (1, 0.1, 409.6)
    [(_, calls)] = told.metric("gen_ai.invoke_agent.tool_calls")
    assert (calls.sum, calls.explicit_bounds) == (3, (1, 2, 4, 8, 16, 32, 64, 128))
    tools = {(a["gen_ai.tool.name"], a.get("error.type")) for a, _ in told.metric("gen_ai.execute_tool.duration")}
    assert tools == {("find", None), ("pay", "tool_error"), ("steal", "denied")}
    tokens = {attributes["type"]: point.value for attributes, point in told.metric("openai_compat.turn.tokens")}
    assert tokens == {"input": 10, "output": 5, "cached": 4, "reasoning": 2}
    [(_, active)] = told.metric("openai_compat.turns.active")
    assert active.value == 0
    refused = [(attributes, point.value) for attributes, point in told.metric("openai_compat.turns.refused")]
    assert refused == [({"reason": "rate_limit"}, 1), ({"reason": "auth"}, 1)]
    sent = [(attributes, point.value) for attributes, point in told.metric("openai_compat.webhook.deliveries")]
    assert sent == [({"outcome": "retry"}, 2), ({"outcome": "delivered"}, 1)]
    assert {one.name for one in INSTRUMENTS if not told.metric(one.name)} == set()


@requirement("telemetry.metrics")
async def test_no_value_of_a_client_becomes_an_attribute_of_a_metric(told: Told) -> None:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        yield ToolCallReady("call_1", prompt, "{}", "agent")
        yield ToolResult("call_1", "")
        raise AgentError("No.", code=f"code_{prompt}")

    server = Server(agent, hooks=[told.hook()], unknown_model="default", keys={"sk-ann": "ann"})
    for number in range(MOST_TOOLS + 3):
        message = [{"role": "user", "content": f"tool_{number}"}]
        await send(server, (b"authorization", b"Bearer sk-ann"), model=f"model-{number}", messages=message)
    await answer(server, request("/v1/nowhere/1", method="BREW"))
    names = {attributes["gen_ai.tool.name"] for attributes, _ in told.metric("gen_ai.execute_tool.duration")}
    assert len(names) == MOST_TOOLS + 1
    assert OTHER in names
    codes = {attributes.get("error.type") for attributes, _ in told.metric("gen_ai.invoke_agent.duration")}
    assert len(codes) == MOST_ERRORS + 1
    assert OTHER in codes
    shown = str([[attributes for attributes, _ in told.metric(one.name)] for one in INSTRUMENTS])
    assert not any([word in shown for word in ("model-", "ann", "BREW", "nowhere")])


@requirement("telemetry.metrics")
async def test_a_failing_exporter_changes_no_byte(told: Told) -> None:
    class Broken(OpenTelemetry):
        def record(self, instrument: Any, value: float, attributes: tuple[str, ...]) -> None:
            raise OSError("no network")

    broken = Broken(tracer_provider=told.tracer_provider, meter_provider=told.meter_provider)
    whole = await ask(hooked_server(EndsAs(), broken), "chat", "ok", stream=False)
    assert whole.status == 200
    assert "one two" in whole.bodies[0].data.decode()


class Stuck(SpanExporter):
    """An exporter whose network does not answer."""

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        self.asked.set()
        self.answers.wait(60)
        return SpanExportResult.FAILURE


@requirement("telemetry.export")
@pytest.mark.parametrize("stream", [True, False])
async def test_an_exporter_that_is_stuck_and_has_no_room_left_holds_up_no_answer(told: Told, stream: bool) -> None:
    exporter, provider = Stuck(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, 1, 1, 1))
    hook = OpenTelemetry(tracer_provider=provider, meter_provider=told.meter_provider)
    try:
        for _ in range(4):
            whole = await ask(hooked_server(EndsAs(), hook), "chat", "ok", stream=stream)
            assert whole.status == 200
            assert b"two" in whole.data
        assert exporter.asked.wait(10)
        assert not exporter.answers.is_set()
    finally:
        exporter.answers.set()
        provider.shutdown()


@requirement("telemetry.metrics")
async def test_without_an_sdk_nothing_is_told_and_nothing_breaks() -> None:
    whole = await ask(hooked_server(EndsAs(), OpenTelemetry()), "chat", "ok", stream=True)
    assert whole.status == 200


@requirement("telemetry.metrics")
async def test_what_exporters_hold_is_sent_when_the_server_ends(told: Told) -> None:
    flushed: list[int] = []
    provider = TracerProvider(shutdown_on_exit=False)
    provider.force_flush = lambda timeout_millis=30_000: flushed.append(timeout_millis) or True
    server = Server(shopper, hooks=[OpenTelemetry(tracer_provider=provider, meter_provider=told.meter_provider)])
    async with server.lifespan():
        await send(server)
    assert flushed == [2000]


class Later(Hooks):
    """Records the current span when the request ends."""

    def __init__(self) -> None:
        self.current: list[bool] = []

    def request_ended(self, request: RequestInfo, outcome: RequestOutcome) -> None:
        self.current.append(trace.get_current_span().get_span_context().is_valid)


async def test_the_requests_span_is_current_for_hooks_that_come_after_it(told: Told) -> None:
    later = Later()
    await send(Server(shopper, hooks=[told.hook(), later]))
    assert later.current == [True]
