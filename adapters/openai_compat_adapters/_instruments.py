"""The metrics, for any backend: the table of instruments, and the hook that measures requests and turns.

Names that begin with `gen_ai` and `http` are from OpenTelemetry's semantic conventions (GenAI v0.1.0, HTTP 1.45).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from openai_compat import (
    AgentEvent,
    Hooks,
    RefusalInfo,
    RequestInfo,
    RequestOutcome,
    TurnInfo,
    TurnOutcome,
    WebhookAttempt,
)
from openai_compat.errors import OpenAICompatError
from openai_compat.events import ToolCallReady, ToolResult

OTHER = "_OTHER"
"""Replaces every value of an attribute that is not allowed, or one too many."""

# Each name that an agent invents is a new series, and a metrics store holds a limited number.
MOST_TOOLS = 200
MOST_ERRORS = 64

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
"""The methods in the conventions. A client can send any method, and each would be a new series."""

CANCELLED = {"client": "cancelled", "superseded": "superseded", "deadline": "timeout", "shutdown": "shutting_down"}
"""The `error.type` of a cancelled run, by the cause of its cancellation."""


def _doubling_boundaries(first: float, number: int) -> tuple[float, ...]:
    return tuple([round(first * 2**index, 2) for index in range(number)])


# The conventions' boundaries, so that their dashboards fit. Agents run longer, so their boundaries reach further.
HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
RUN_SECONDS = _doubling_boundaries(0.1, 13)
STEP_SECONDS = _doubling_boundaries(0.01, 14)
CALLS = _doubling_boundaries(1, 8)


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """A metric: its name, kind, unit, description, and the attributes that distinguish its series.

    `boundaries` are the bucket boundaries of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    description: str
    attributes: tuple[str, ...]
    boundaries: tuple[float, ...] = ()


AGENT, ERROR = "gen_ai.agent.name", "error.type"

REQUEST_DURATION = Instrument(
    "http.server.request.duration",
    "histogram",
    "s",
    "Duration of HTTP requests.",
    ("http.request.method", "http.route", "http.response.status_code", "url.scheme", ERROR),
    HTTP_SECONDS,
)
RUN_DURATION = Instrument(
    "gen_ai.invoke_agent.duration",
    "histogram",
    "s",
    "Duration of the runs of agents.",
    ("gen_ai.operation.name", AGENT, ERROR),
    RUN_SECONDS,
)
TOOL_CALLS = Instrument(
    "gen_ai.invoke_agent.tool_calls", "histogram", "{tool_call}", "Calls of tools in one run.", (AGENT,), CALLS
)
TOOL_DURATION = Instrument(
    "gen_ai.execute_tool.duration",
    "histogram",
    "s",
    "Duration of the calls of agents' own tools.",
    ("gen_ai.tool.name", "gen_ai.tool.type", AGENT, ERROR),
    STEP_SECONDS,
)
FIRST_EVENT = Instrument(
    "openai_compat.turn.time_to_first_event",
    "histogram",
    "s",
    "Time until an agent said something.",
    (AGENT,),
    STEP_SECONDS,
)
QUEUED = Instrument(
    "openai_compat.turn.queue.duration", "histogram", "s", "Time that turns waited for a slot.", (AGENT,), STEP_SECONDS
)
TOKENS = Instrument(
    "openai_compat.turn.tokens",
    "counter",
    "{token}",
    "Tokens that agents have reported; cached ones are input too, reasoning is output too.",
    (AGENT, "type"),
)
ACTIVE = Instrument("openai_compat.turns.active", "gauge", "{turn}", "Runs of agents at the moment.", (AGENT,))
REFUSED = Instrument(
    "openai_compat.turns.refused",
    "counter",
    "{turn}",
    "Requests, and turns on WebSockets, that were refused before an agent was started.",
    ("reason",),
)
WEBHOOKS = Instrument(
    "openai_compat.webhook.deliveries",
    "counter",
    "{delivery}",
    "Webhooks that were sent, each attempt by itself.",
    ("outcome",),
)
INSTRUMENTS = (
    REQUEST_DURATION,
    RUN_DURATION,
    TOOL_CALLS,
    TOOL_DURATION,
    FIRST_EVENT,
    QUEUED,
    TOKENS,
    ACTIVE,
    REFUSED,
    WEBHOOKS,
)

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder in which the processes of a server combine their metrics."""


class Bounded:
    """Limits an attribute to the first `most` values; all others become `OTHER`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """Return the value, or `OTHER`."""
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value


@dataclass(slots=True, eq=False)
class ToolRun:
    """A running call of an agent's own tool: `began` is from `time.perf_counter`, `started_ns` in nanoseconds since the epoch."""

    name: str
    arguments: str
    began: float
    started_ns: int


@dataclass(slots=True, eq=False)
class MeasuredRun:
    """The state of a run: its open tool calls by id, and the names of the tools that the client runs."""

    client_tools: frozenset[str]
    tools: dict[str, ToolRun]


class TurnMetrics(Hooks):
    """Hook that measures requests and turns, and passes the values to `record`."""

    def __init__(self) -> None:
        self._error = Bounded(MOST_ERRORS)
        self._tool = Bounded(MOST_TOOLS)
        self._runs: dict[TurnInfo, MeasuredRun] = {}

    def record(self, instrument: Instrument, value: float, attributes: tuple[str, ...]) -> None:
        """Record a value. `attributes` are the attribute values in the instrument's order; "" for a missing one."""
        raise NotImplementedError

    def request_ended(self, request: RequestInfo, outcome: RequestOutcome) -> None:
        """Record how long a request took, by route and status."""
        method = request.request.method if request.request.method in METHODS else OTHER
        failed = self._error(outcome.note or str(outcome.status)) if outcome.status >= 500 else ""
        status = str(outcome.status) if outcome.status else ""
        where = (method, outcome.route or "", status, scheme_of(request), failed)
        self.record(REQUEST_DURATION, outcome.seconds, where)

    def refused(self, refusal: RefusalInfo) -> None:
        """Count a request that was refused before an agent started, by the reason."""
        self.record(REFUSED, 1, (refusal.reason,))

    def webhook_sent(self, attempt: WebhookAttempt) -> None:
        """Count an attempt to deliver a webhook, by its outcome."""
        self.record(WEBHOOKS, 1, (attempt.outcome,))

    def started(self, turn: TurnInfo) -> None:
        """Count the run as active, and record how long it waited for its slot."""
        self._runs[turn] = MeasuredRun(frozenset([tool.name for tool in turn.request.tools]), {})
        self.record(ACTIVE, 1, (turn.agent,))
        # Of the runs of one turn, only the first has waited for a slot.
        if turn.run == 0:
            self.record(QUEUED, turn.queued, (turn.agent,))

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        """Measure the agent's own tools."""
        # Fast path: this runs for each piece of output, and nearly all are text.
        if type(item) is str:
            return
        if isinstance(item, ToolCallReady):
            run = self._runs.get(turn)
            if run is not None and item.executor != "client" and item.name not in run.client_tools:
                run.tools[item.call_id] = ToolRun(item.name, item.arguments, time.perf_counter(), time.time_ns())
        elif isinstance(item, ToolResult):
            run = self._runs.get(turn)
            tool = None if run is None else run.tools.pop(item.call_id, None)
            if tool is not None:
                failed = "denied" if item.denied else "tool_error" if item.is_error else ""
                self.tool_ended(turn, item.call_id, tool, item.output, failed)

    def tool_ended(self, turn: TurnInfo, call_id: str, tool: ToolRun, output: str | None, failed: str) -> None:
        """Measure a call of the agent's own tool; an `output` of None means that the call was abandoned."""
        name = self._tool(tool.name)
        self.record(TOOL_DURATION, time.perf_counter() - tool.began, (name, "function", turn.agent, failed))

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """Record the duration and usage of the run, and stop counting it as active."""
        run = self._runs.pop(turn, None)
        if run is None:
            return
        for call_id, tool in run.tools.items():
            # A call that waits for a decision has not been run.
            if outcome.finish != "paused":
                self.tool_ended(turn, call_id, tool, None, "abandoned")
        self.record(ACTIVE, -1, (turn.agent,))
        self.record(RUN_DURATION, outcome.seconds, ("invoke_agent", turn.agent, self._error(error_type(outcome))))
        self.record(TOOL_CALLS, outcome.tool_calls, (turn.agent,))
        if outcome.first_event is not None:
            self.record(FIRST_EVENT, outcome.first_event, (turn.agent,))
        used = outcome.usage
        if used is not None:
            counts = {
                "input": used.input_tokens,
                "output": used.output_tokens,
                "cached": used.cached_tokens,
                "reasoning": used.reasoning_tokens,
            }
            # None is unknown, and 0 would create an empty series.
            for kind, count in counts.items():
                if count:
                    self.record(TOKENS, count, (turn.agent, kind))


def scheme_of(request: RequestInfo) -> str:
    """Return `http` or `https`, as reported by the transport."""
    scope = request.request.scope
    return str(scope.get("wsgi.url_scheme") or scope.get("scheme") or "http").replace("ws", "http")


def error_type(outcome: TurnOutcome) -> str:
    """The `error.type` of a run; "" if it has none."""
    if outcome.cancelled is not None:
        return CANCELLED[outcome.cancelled]
    error: OpenAICompatError | None = outcome.error
    return "" if error is None else error.code or error.type
