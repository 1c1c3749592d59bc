"""The backend port: what drives an agent, what it declares, and what it has of the server while it runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, cast, runtime_checkable

from .agent_request import AgentRequest, Decision, Sampling
from .events import AgentEvent, PendingCall
from .messages import (
    ToolMessage,
)

HONOURED = frozenset({"stop", "max_tokens", "max_tool_calls", "top_logprobs"})
"""The parameters that the server itself sees to, whatever the agent does with them, or that it refuses."""

CHARACTERS_PER_TOKEN = 4
"""How long a token is taken to be where the agent does not count tokens itself."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Declares what an agent can take and does itself. A request that needs more is a 400 that names the parameter.

    Attributes:
        history: "full" if the agent reads the whole conversation, "last_user" if only the newest user message.
        client_tools: it can call tools that the client runs. Where it cannot, `tools` are no error, since many clients
            send theirs with every request; a `tool_choice` that requires a call is one.
        vision: it can take images.
        audio_input: it can take speech.
        files: it can take documents.
        structured_output: it follows `response_format`.
        audio_output: it can speak (`modalities: ["audio"]`).
        logprobs: it reports token probabilities.
        web_search: it follows `web_search_options`.
        prediction: it makes use of `prediction`.
        repairs_output: it can be asked once more where its answer was not the JSON that the request wants.
        context_window: tokens that its model can take; its conversations are made shorter in time. None: not known.
        counts_tokens: it obeys `max_tokens` by itself, so that the server does not cut by its own estimate.
        own_tools: the names of the tools that it runs itself. A client cannot offer a tool by one of them.
        approvals: what a person may do about a call that it asks about: "edit" if they may change its arguments, "yes_no"
            if they can only approve or deny it as it is, "none" if it never asks.
        parameters: the fields of `Sampling` that it passes on to its model. What a client sends of the others is named
            in the answer's header `X-Ignored-Parameters`. None: not told.
        security_modes: it obeys `security_mode`, by which a request tightens what its own tools may do.
        keeps_state: it leaves a `state` where it pauses for the client's tools. Its calls get ids of the server's then, by
            which the state is found again where there is no conversation; the agent sees its own.
        state_version: the form of its states. One that was left in another form is not given to it: a new turn begins without,
            and what has paused cannot be gone on with (409 `state_unreadable`).
        upstream: the model behind it, as `provider/model`, or its provider alone. None: not told.
        description: what it is for, in a line, for people who choose; of a function, the first line of its docstring
            unless it is given here. None: not told.
    """

    history: Literal["full", "last_user"] = "full"
    client_tools: bool = True
    vision: bool = True
    audio_input: bool = True
    files: bool = True
    structured_output: bool = True
    audio_output: bool = False
    logprobs: bool = False
    web_search: bool = False
    prediction: bool = False
    repairs_output: bool = False
    counts_tokens: bool = False
    context_window: int | None = None
    own_tools: frozenset[str] = frozenset()
    approvals: Literal["none", "yes_no", "edit"] = "edit"
    parameters: frozenset[str] | None = None
    security_modes: bool = False
    keeps_state: bool = False
    state_version: int = 0
    upstream: str | None = field(default=None, compare=False)  # who it is, not what it can
    description: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.approvals not in ("none", "yes_no", "edit"):
            raise ValueError("an agent's approvals are 'none', 'yes_no' or 'edit'")
        if self.parameters is not None:
            known = {each.name for each in fields(Sampling)}
            unknown = [name for name in self.parameters if name not in known]
            # A string would be taken for the names of its letters.
            if isinstance(cast("Any", self.parameters), str) or unknown:
                raise ValueError(f"an agent's parameters are some of {', '.join(sorted(known))}")

    def ignored(self, sampling: Sampling) -> frozenset[str]:
        """What a client has sent that nobody sees to; nothing, where it is not told what the agent passes on."""
        if self.parameters is None:
            return frozenset()
        return frozenset(sampling.given()) - self.parameters - HONOURED


_MAKING = threading.Lock()
"""Held while a context gets its event: two threads may ask at once."""


class Asker(Protocol):
    """Asks for what an agent waits for."""

    async def ask(self, call: PendingCall, state: Mapping[str, Any] | None) -> Decision | ToolMessage:
        """End the turn with this call, and return what a later request brings for it. Its id may be empty."""
        ...


class KeptGrants(Protocol):
    """Where a server keeps what people have allowed for always: each grant as the tool loop writes it, as JSON text."""

    async def given(self, principal: str, tool: str) -> Sequence[str]:
        """The grants of a principal for a tool."""
        ...

    async def give(self, principal: str, tool: str, grant: str) -> None:
        """Keep a grant, so that the caller is not asked again about such calls."""
        ...


@dataclass(slots=True, eq=False, repr=False)
class RunContext:
    """The server's side of a run, for the agent to use while it runs.

    Attributes:
        turn_id: this run's id; the answer's id for a single choice.
        request_id: the `x-request-id` of the HTTP answer, to find the log lines.
        deadline: when the server stops the turn (`time.monotonic`); see `remaining`.
        base_logger: the server's logger; `logger` adds the request's id to what is written.
        cancelled: True once the turn is to stop. Long loops in plain functions should look at it; any thread may.
        asker: what ends the turn for a question; None where nobody can be asked. Set by the server.
        grants: where the server keeps what people have allowed for always; None where no server runs it.
    """

    turn_id: str
    request_id: str
    deadline: float
    base_logger: logging.Logger
    cancelled: bool = field(default=False, init=False)
    asker: Asker | None = field(default=None, init=False)
    grants: KeptGrants | None = field(default=None, init=False)
    _wakes: threading.Event | None = field(default=None, init=False)  # made for who waits; most agents only look

    async def approve(self, tool: str, arguments: str = "{}", *, state: Mapping[str, Any] | None = None) -> Decision:
        """Ask a person whether a call may run, and wait for the decision, over whatever API the request came.

        The turn ends with the question. The agent waits where it is, in this process, until a later request brings
        the decision: for `Deadlines.parked` seconds, after which it gets a denial and is stopped.

        With `state`, nothing waits: the agent ends here, and is run anew when the decision is there, by any process.
        `request.resume` has the state and the decision then, and asking about the same call returns it at once.

        Args:
            tool: the name of the agent's tool.
            arguments: its arguments, as JSON text.
            state: what the agent needs to be run again, as JSON.
        """
        answer = await self._asked(PendingCall("", tool, arguments, "approval"), state)
        if not isinstance(answer, Decision):
            raise TypeError(f"a result came for the question about {tool!r}")
        return answer

    async def call_client_tool(
        self, tool: str, arguments: str = "{}", *, state: Mapping[str, Any] | None = None
    ) -> ToolMessage:
        """Call one of the client's tools (`request.tools`), and wait for its result. The rest is as for `approve`."""
        answer = await self._asked(PendingCall("", tool, arguments, "result"), state)
        if not isinstance(answer, ToolMessage):
            raise TypeError(f"a decision came for the call of {tool!r}")
        return answer

    async def _asked(self, call: PendingCall, state: Mapping[str, Any] | None) -> Decision | ToolMessage:
        if self.asker is None:
            raise RuntimeError("Nobody can be asked: the turn is over, or no server runs it.")
        return await self.asker.ask(call, state)

    def move_to(self, later: RunContext) -> None:
        """Go on as the context of a later turn, in which the agent got what it waited for. Called by the server."""
        self.turn_id, self.request_id, self.deadline = later.turn_id, later.request_id, later.deadline

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """Writes to the server's log, with the request id."""
        return logging.LoggerAdapter(self.base_logger, {"request_id": self.request_id})

    @property
    def remaining(self) -> float:
        """Seconds left until the server stops the turn."""
        return max(0.0, self.deadline - time.monotonic())

    def wait_cancelled(self, seconds: float) -> bool:
        """Sleep up to `seconds` in a plain function, less if the turn is to stop; tells whether it is."""
        with _MAKING:
            self._wakes = wakes = self._wakes or threading.Event()
        # Looked at once the event is there: whoever cancels from now on finds it.
        return self.cancelled or wakes.wait(seconds)

    def cancel(self) -> None:
        """Tell the agent to stop. Called by the server."""
        self.cancelled = True
        if self._wakes is not None:
            self._wakes.set()


@runtime_checkable
class AgentBackend(Protocol):
    """Drives an agent: the one interface between the server and whatever does the work.

    `run` is called once for each turn, and its events are read in a task of their own. A backend may have further
    methods, each with a protocol of its own: `SupportsCancel`, `SupportsClose`, `SupportsSteering`,
    `SupportsTokenCount`, `SupportsToolNames`, `SupportsForget`, `HasTools`.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The agent's capabilities; read before each run."""
        ...

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent for one request. Raise `AgentError` for a failure that the client may read about."""
        ...


@runtime_checkable
class SupportsCancel(Protocol):
    """A backend whose agent has a way of its own to stop."""

    def request_cancel(self, context: RunContext) -> None:
        """Ask the agent to stop. Called just before the task of its turn is cancelled."""
        ...


@runtime_checkable
class SupportsClose(Protocol):
    """A backend that holds something: a client, a pool, processes."""

    async def aclose(self) -> None:
        """Close it. Called once, when the server shuts down."""
        ...


@runtime_checkable
class SupportsSteering(Protocol):
    """A backend whose agent can take further input of the user into account while it runs."""

    def steer(self, context: RunContext, items: list[dict[str, Any]]) -> bool:
        """Bring the turn to an end at a good place; another turn follows, with the new messages.

        Returns True if the turn is cut short by that.
        """
        ...


@runtime_checkable
class SupportsTokenCount(Protocol):
    """A backend that counts a request's tokens itself; of others, they are estimated."""

    def count_tokens(self, request: AgentRequest) -> int | Awaitable[int]:
        """The number of tokens of the request's input."""
        ...


@runtime_checkable
class SupportsToolNames(Protocol):
    """A backend with tools that are only known at the time of a request."""

    def tool_names(self, request: AgentRequest) -> Iterable[str] | Awaitable[Iterable[str]]:
        """The names of its own tools, besides those in `capabilities.own_tools`."""
        ...


@runtime_checkable
class SupportsForget(Protocol):
    """A backend whose states name something that it keeps elsewhere: a thread, a session, a checkpoint."""

    def forget(self, state: Mapping[str, Any]) -> Awaitable[object] | None:
        """Drop what the state names.

        Called once nothing leads any more to this state, nor to another one that came of the same first turn. At least
        once, perhaps by several processes; where it fails, it is called again for as long as things are kept.
        """
        ...


@runtime_checkable
class HasTools(Protocol):
    """A backend that shows its own tools, as a `Toolbox`: the chat REST API tells how dangerous a tool is by it."""

    @property
    def tools(self) -> object:
        """The tools, as a `Toolbox`."""
        ...


OPTIONAL_METHODS = ("request_cancel", "aclose", "steer", "count_tokens", "tool_names", "forget", "tools")
"""What the protocols above ask for."""


def offer_methods_of(inner: AgentBackend, wrapper: AgentBackend) -> None:
    """Give a wrapper the optional methods of the backend that it wraps, but for those it has itself.

    A `__getattr__` would not do: from Python 3.12 on, `isinstance` with a protocol does not call it.
    """
    for name in OPTIONAL_METHODS:
        if hasattr(inner, name) and not hasattr(wrapper, name):
            setattr(wrapper, name, getattr(inner, name))
