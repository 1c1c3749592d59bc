"""OpenTelemetry traces and metrics: a hook that needs only the API (extra `otel`). Without an SDK it does next to nothing.

    server = Server(agents, hooks=[OpenTelemetry()])

Names follow the GenAI semantic conventions, v0.1.0; additional names begin with `openai_compat`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import anyio

from openai_compat import AgentEvent, RequestInfo, RequestOutcome, TurnInfo, TurnOutcome
from openai_compat.events import Compacted, Paused
from openai_compat.package import __version__, needs

from ._genai_messages import input_messages, output_messages, system_instructions, tool_definitions
from ._instruments import INSTRUMENTS, Instrument, ToolRun, TurnMetrics, error_type, scheme_of

with needs("openai_compat_adapters.telemetry"):
    from opentelemetry import context, metrics, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode

__all__ = ("Content", "OpenTelemetry")

SCOPE_NAME = "openai_compat"
"""The instrumentation scope of all spans and metrics."""

Content: TypeAlias = Literal["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"]
"""Where prompts, answers and tool arguments are recorded: values of OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT."""

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

FLUSH_TIMEOUT = 2.0
"""Seconds that exporters get to flush at shutdown."""

_connection: ContextVar[SpanContext | None] = ContextVar("openai_compat_connection", default=None)
"""The span of the WebSocket's handshake, to which the turns on the connection link."""


@dataclass(slots=True, eq=False)
class _TracedRun:
    """The span of a run.

    Attributes:
        output: the agent's output, if content is recorded.
        traced: True if the agent traces its tools itself.
    """

    span: Span
    token: Any
    output: list[AgentEvent | str]
    traced: bool = False


_run: ContextVar[_TracedRun | None] = ContextVar("openai_compat_run", default=None)
"""The run that a task belongs to."""


class _ToolSpans:
    """A span processor of the SDK that detects the agents' own tool spans."""

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        """Do nothing: the kind of the span may be set later."""

    def on_end(self, span: Any) -> None:
        """Note a tool span. Runs in the task that ends the span; the event of the call's result comes later."""
        run = _run.get()
        if run is None or span.instrumentation_scope.name == SCOPE_NAME:
            return
        # OpenInference, which instruments LangChain and others, has its own attribute for it.
        is_tool = span.name.startswith("execute_tool") or span.attributes.get("openinference.span.kind") == "TOOL"
        run.traced = run.traced or is_tool

    def _on_ending(self, span: Any) -> None:
        pass

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class OpenTelemetry(TurnMetrics):
    """Traces requests, runs of agents and their tools, and measures them.

    Args:
        tracer_provider: replaces the process's own provider.
        meter_provider: likewise.
        principals: True adds `user.id` to spans.
        tools: spans for calls of an agent's own tools: "always", "never", or "auto", which makes them unless the agent does
            so itself. An agent's own tool spans are detected if the provider is the SDK's.
        remote: "parent" makes the client's span the parent of the request's span, "link" only links to it. A parent decides
            what is sampled: use "link" for servers that anybody may call.
        content: where prompts and answers are recorded; by default the value of the environment variable
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, or nowhere without it.

    Raises ValueError for any other value.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        principals: bool = True,
        tools: Literal["auto", "always", "never"] = "auto",
        remote: Literal["parent", "link"] = "parent",
        content: Content | None = None,
    ) -> None:
        super().__init__()
        content = cast("Content", content or os.environ.get(CAPTURE_VARIABLE, "").upper() or "NO_CONTENT")
        for name, value, allowed in (
            ("tools", tools, ("auto", "always", "never")),
            ("remote", remote, ("parent", "link")),
            ("content", content, get_args(Content)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {value!r}")
        self._providers = (
            tracer_provider or trace.get_tracer_provider(),
            meter_provider or metrics.get_meter_provider(),
        )
        self._tracer = trace.get_tracer(SCOPE_NAME, __version__, tracer_provider)
        meter = metrics.get_meter(SCOPE_NAME, __version__, meter_provider)
        self._meters = {one: _make_instrument(meter, one) for one in INSTRUMENTS}
        # One dict per series, of which there are few: making a dict takes as long as adding a value.
        self._series: dict[tuple[Instrument, tuple[str, ...]], dict[str, str]] = {}
        self._carrier_fields = [(name.lower().encode(), name) for name in propagate.get_global_textmap().fields]
        self._principals, self._tools, self._remote = principals, tools, remote
        self._in_spans = content in ("SPAN_ONLY", "SPAN_AND_EVENT")
        self._in_events = content in ("EVENT_ONLY", "SPAN_AND_EVENT")
        self._records_content = content != "NO_CONTENT"
        self._requests: dict[RequestInfo, tuple[Span, Any]] = {}
        self._parents: dict[str, Span] = {}
        self._traced: dict[TurnInfo, _TracedRun] = {}
        watch: Callable[[_ToolSpans], None] | None = getattr(self._providers[0], "add_span_processor", None)
        if tools == "auto" and watch is not None:
            watch(_ToolSpans())

    def record(self, instrument: Instrument, value: float, attributes: tuple[str, ...]) -> None:
        """Pass a value to the meter."""
        named = self._series.get((instrument, attributes))
        if named is None:
            named = {name: value for name, value in zip(instrument.attributes, attributes, strict=True) if value}
            self._series[instrument, attributes] = named
        self._meters[instrument](value, named)

    # requests

    def request_started(self, request: RequestInfo) -> None:
        """Start the request's span, unless an instrumentation in front of the server has already started one."""
        if trace.get_current_span().get_span_context().is_valid:
            return
        asked = request.request
        carrier = {name: value for field, name in self._carrier_fields if (value := asked.header(field)) is not None}
        caller = propagate.extract(carrier) if carrier else Context()
        links: list[Link] = []
        parent = caller
        remote = trace.get_current_span(caller).get_span_context()
        if self._remote == "link" and remote.is_valid:
            links, parent = [Link(remote)], Context()
        span = self._tracer.start_span(asked.method, parent, SpanKind.SERVER, links=links)
        if span is trace.INVALID_SPAN:  # no tracing here or upstream: there is nothing to propagate
            return
        if request.websocket:
            # A connection may live for days, so each turn has its own trace, with a link to this one.
            _connection.set(span.get_span_context())
            self._requests[request] = span, None
            return
        self._requests[request] = span, context.attach(trace.set_span_in_context(span, parent))
        self._parents[request.id] = span

    def request_ended(self, request: RequestInfo, outcome: RequestOutcome) -> None:
        """End the request's span, and measure the request."""
        self._parents.pop(request.id, None)
        span, token = self._requests.pop(request, (None, None))
        if span is None:  # an instrumentation in front made the request's span, and measures it
            return
        if span.is_recording():
            _describe_request(span, request, outcome)
        # While the span is still the current one: exemplars point to it.
        super().request_ended(request, outcome)
        if token is not None:
            context.detach(token)
        span.end()

    # runs

    def started(self, turn: TurnInfo) -> None:
        """Start the run's span, and make it the agent's current one."""
        request = self._parents.get(turn.request_id)
        parent = context.get_current() if request is None else trace.set_span_in_context(request)
        links: list[Link] = []
        connection = _connection.get()
        if connection is not None:
            links, parent = [Link(connection)], Context()
        span = self._tracer.start_span(f"invoke_agent {turn.agent}", parent, links=links)
        if span is not trace.INVALID_SPAN:
            self._attach_run(turn, span, parent)
        super().started(turn)

    def _attach_run(self, turn: TurnInfo, span: Span, parent: Context) -> None:
        token = context.attach(trace.set_span_in_context(span, parent))
        self._traced[turn] = run = _TracedRun(span, token, [])
        _run.set(run)
        if not span.is_recording():
            return
        span.set_attributes(self._run_attributes(turn))
        for call_id, decision in () if turn.request.resume is None else turn.request.resume.decisions.items():
            decided: dict[str, str | bool] = {
                "gen_ai.tool.call.id": call_id,
                "openai_compat.approved": decision.approved,
            }
            span.add_event("openai_compat.decided", decided)

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        """Record an event of the agent."""
        if type(item) is not str:
            super().event(turn, item)
        elif not self._records_content:
            return
        run = self._traced.get(turn)
        if run is None:
            return
        if self._records_content:
            run.output.append(item)
        if isinstance(item, Paused):
            for call in item.pending:
                waits = {"gen_ai.tool.name": call.name, "gen_ai.tool.call.id": call.call_id}
                waits["openai_compat.waits_for"] = call.waits_for
                run.span.add_event("openai_compat.paused", waits)
        elif isinstance(item, Compacted):
            run.span.add_event("openai_compat.compacted")

    def tool_ended(self, turn: TurnInfo, call_id: str, tool: ToolRun, output: str | None, failed: str) -> None:
        """Make the span of a tool call, unless the agent has made one."""
        super().tool_ended(turn, call_id, tool, output, failed)
        run = self._traced.get(turn)
        if run is None or self._tools == "never" or run.traced or not run.span.is_recording():
            return
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool.name,
            "gen_ai.tool.call.id": call_id,
            "gen_ai.tool.type": "function",
            "gen_ai.agent.name": turn.agent,
        }
        if self._in_spans:
            attributes["gen_ai.tool.call.arguments"] = tool.arguments
            attributes |= {} if output is None else {"gen_ai.tool.call.result": output}
        parent = trace.set_span_in_context(run.span)
        span = self._tracer.start_span(
            f"execute_tool {tool.name}", parent, attributes=attributes, start_time=tool.started_ns
        )
        if failed:
            span.set_attribute("error.type", failed)
            span.set_status(StatusCode.ERROR, failed)
        span.end()

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """End the run's span, with its usage and its error."""
        super().ended(turn, outcome)
        run = self._traced.pop(turn, None)
        if run is None:
            return
        if run.span.is_recording():
            run.span.set_attributes(_outcome_attributes(outcome))
            if outcome.error is not None and outcome.cancelled in (None, "deadline"):
                run.span.set_status(StatusCode.ERROR, error_type(outcome))
            if outcome.first_event is not None:
                at = time.time_ns() - int((outcome.seconds - outcome.first_event) * 1e9)
                run.span.add_event("openai_compat.first_event", timestamp=at)
            self._record_content(turn, outcome, run)
        _run.set(None)
        context.detach(run.token)
        run.span.end()

    async def aclose(self) -> None:
        """Flush the exporters, before a watchdog can end the process."""
        # The SDK's own timeout does not bound an exporter's retries. A daemon thread does not keep the process alive.
        flushing = threading.Thread(target=self._flush, name="openai-compat telemetry", daemon=True)
        flushing.start()
        await anyio.to_thread.run_sync(flushing.join, FLUSH_TIMEOUT)

    def _flush(self) -> None:
        for provider in self._providers:
            flush: Callable[[int], object] | None = getattr(provider, "force_flush", None)
            if flush is not None:
                flush(int(FLUSH_TIMEOUT * 1000))

    def _run_attributes(self, turn: TurnInfo) -> dict[str, Any]:
        """The attributes that a run has from its start."""
        asked = turn.request
        sampling = asked.sampling
        output = "json" if asked.response_format is not None else "speech" if "audio" in asked.modalities else "text"
        found: dict[str, Any] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": turn.agent,
            "gen_ai.request.model": asked.model,
            "gen_ai.conversation.id": asked.conversation_id,
            "gen_ai.response.id": turn.response_id,
            "gen_ai.request.stream": asked.stream,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.request.stop_sequences": sampling.stop or None,
            "gen_ai.request.seed": sampling.seed,
            "gen_ai.request.choice.count": turn.choices if turn.choices != 1 else None,  # as the conventions require
            "gen_ai.request.reasoning.level": sampling.reasoning_effort,
            "gen_ai.output.type": output,
            "user.id": turn.principal.id if self._principals else None,
            "openai_compat.api": turn.api,
            "openai_compat.request_id": turn.request_id,
            "openai_compat.queue_seconds": turn.queued,
            "openai_compat.background": turn.background,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _record_content(self, turn: TurnInfo, outcome: TurnOutcome, run: _TracedRun) -> None:
        if not self._records_content:
            return
        told = {
            "gen_ai.system_instructions": system_instructions(turn.request),
            "gen_ai.input.messages": input_messages(turn.request),
            "gen_ai.output.messages": output_messages(run.output, outcome.finish),
            "gen_ai.tool.definitions": tool_definitions(turn.request),
        }
        said = {name: value for name, value in told.items() if value is not None}
        if self._in_spans:
            run.span.set_attributes(said)
        if self._in_events:
            run.span.add_event("openai_compat.turn.details", said)


def _make_instrument(meter: metrics.Meter, one: Instrument) -> Any:
    if one.kind == "histogram":
        return meter.create_histogram(
            one.name, one.unit, one.description, explicit_bucket_boundaries_advisory=one.boundaries
        ).record
    make = meter.create_counter if one.kind == "counter" else meter.create_up_down_counter
    return make(one.name, one.unit, one.description).add


def _describe_request(span: Span, request: RequestInfo, outcome: RequestOutcome) -> None:
    asked = request.request
    # Only digits after the last colon are a port: an IPv6 address in brackets has colons too.
    host, _, port = (asked.header(b"host") or "").rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) < 6):
        host, port = asked.header(b"host") or "", ""
    found: dict[str, Any] = {
        "http.request.method": asked.method,
        "http.route": outcome.route,
        "url.scheme": scheme_of(request),
        "url.path": f"{asked.root}{asked.path}"[:200],
        "http.response.status_code": outcome.status or None,
        "server.address": host or None,
        "server.port": int(port) if port and host else None,
        "network.protocol.version": asked.scope.get("http_version"),
        "error.type": (outcome.note or str(outcome.status)) if outcome.status >= 500 else None,
        "openai_compat.request_id": request.id,
    }
    span.set_attributes({name: value for name, value in found.items() if value is not None})
    if outcome.route is not None:
        span.update_name(f"{asked.method} {outcome.route}")
    if outcome.status >= 500:
        span.set_status(StatusCode.ERROR)


def _outcome_attributes(outcome: TurnOutcome) -> Mapping[str, Any]:
    used = outcome.usage
    found: dict[str, Any] = {
        "gen_ai.response.finish_reasons": None if outcome.finish is None else [outcome.finish],
        "gen_ai.usage.input_tokens": used and used.input_tokens,
        "gen_ai.usage.output_tokens": used and used.output_tokens,
        "gen_ai.usage.reasoning.output_tokens": used and used.reasoning_tokens,
        "openai_compat.usage.cached_tokens": used and used.cached_tokens,
        "gen_ai.response.time_to_first_chunk": outcome.first_event,
        "error.type": error_type(outcome) or None,
    }
    return {name: value for name, value in found.items() if value is not None}
