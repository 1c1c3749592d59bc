"""The backend port: how the server drives an agent, the agent's capabilities, and the context of a run."""

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
"""Parameters that the server enforces or rejects itself, whatever the agent does with them."""

CHARACTERS_PER_TOKEN = 4
"""Estimated length of a token, for agents that do not count tokens themselves."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Declares what an agent supports. A request that needs more gets a 400 that names the parameter.

    Attributes:
        history: "full" if the agent reads the whole conversation, "last_user" if only the newest user message.
        client_tools: calls tools that the client runs. If False, `tools` are still accepted, since many clients send theirs
            with every request; a `tool_choice` that requires a call is rejected.
        vision: accepts images.
        audio_input: accepts speech.
        files: accepts documents.
        structured_output: follows `response_format`.
        audio_output: can speak (`modalities: ["audio"]`).
        logprobs: reports token probabilities.
        web_search: follows `web_search_options`.
        prediction: makes use of `prediction`.
        repairs_output: can be asked once more if its answer was not the requested JSON.
        context_window: context window of the model, in tokens; longer conversations are compacted. None if unknown.
        counts_tokens: obeys `max_tokens` on its own, so that the server does not cut the answer by its own estimate.
        own_tools: names of the tools that the agent runs itself. A client cannot offer a tool of the same name.
        approvals: a person's options for a call that the agent asks about: "edit" if they may change its arguments,
            "yes_no" if they can only approve or deny it, "none" if the agent never asks.
        parameters: the fields of `Sampling` that the agent passes on to its model. Other fields that a client sends are
            named in the response header `X-Ignored-Parameters`. None if undeclared.
        security_modes: obeys `security_mode`, with which a request restricts the agent's own tools.
        keeps_state: leaves a `state` when it pauses for the client's tools. Its calls then get ids made by the server, which
            find the state again without a conversation; the agent sees its own ids.
        state_version: version of the state format. A state of another version is not passed to the agent: a new turn starts
            without it, and a paused turn cannot be resumed (409 `state_unreadable`).
        upstream: the model behind the agent, as `provider/model`, or only its provider. None if undeclared.
        description: the agent's purpose in one line, for people who choose an agent; for a function, defaults to the first
            line of its docstring. None if undeclared.
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
    upstream: str | None = field(default=None, compare=False)  # identity, not ability
    description: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.approvals not in ("none", "yes_no", "edit"):
            raise ValueError("an agent's approvals are 'none', 'yes_no' or 'edit'")
        if self.parameters is not None:
            known = {each.name for each in fields(Sampling)}
            unknown = [name for name in self.parameters if name not in known]
            # A string would be read as a set of single letters.
            if isinstance(cast("Any", self.parameters), str) or unknown:
                raise ValueError(f"an agent's parameters are some of {', '.join(sorted(known))}")

    def ignored(self, sampling: Sampling) -> frozenset[str]:
        """Return the sent parameters that no one will use; empty if the agent declares no `parameters`."""
        if self.parameters is None:
            return frozenset()
        return frozenset(sampling.given()) - self.parameters - HONOURED


_EVENT_LOCK = threading.Lock()
"""Held while a context creates its event, since two threads may call at once."""


class Asker(Protocol):
    """Ends a turn with a question and waits for the answer."""

    async def ask(self, call: PendingCall, state: Mapping[str, Any] | None) -> Decision | ToolMessage:
        """End the turn with this call, and return the answer that a later request brings. The call id may be empty."""
        ...


class ToolGrants(Protocol):
    """Storage for always-allow grants, each as JSON text in the tool loop's format."""

    async def find(self, principal: str, tool: str) -> Sequence[str]:
        """Return the principal's grants for a tool."""
        ...

    async def add(self, principal: str, tool: str, grant: str) -> None:
        """Store a grant, so that the person is not asked about matching calls again."""
        ...


@dataclass(slots=True, eq=False, repr=False)
class RunContext:
    """The server's side of a run, for the agent to use while it runs.

    Attributes:
        turn_id: id of this run; equals the answer's id if there is a single choice.
        request_id: the `x-request-id` of the HTTP response, to find the log lines.
        deadline: time at which the server stops the turn (`time.monotonic`); see `remaining`.
        base_logger: the server's logger; `logger` adds the request id.
        cancelled: True once the turn should stop. Long loops in plain functions should check it, from any thread.
        asker: ends the turn with a question; None if no one can be asked. Set by the server.
        grants: the server's storage of always-allow grants; None outside a server.
    """

    turn_id: str
    request_id: str
    deadline: float
    base_logger: logging.Logger
    cancelled: bool = field(default=False, init=False)
    asker: Asker | None = field(default=None, init=False)
    grants: ToolGrants | None = field(default=None, init=False)
    _wakes: threading.Event | None = field(default=None, init=False)  # made on the first wait, which is rare

    async def approve(self, tool: str, arguments: str = "{}", *, state: Mapping[str, Any] | None = None) -> Decision:
        """Ask a person to approve a call, and wait for the decision. Works over every API.

        The turn ends with the question. The agent waits in this process until a later request brings the decision, at most
        `Deadlines.parked` seconds; after that it gets a denial and is stopped.

        With `state`, nothing waits: the agent ends here and is run again, by any process, once the decision arrives.
        `request.resume` then holds the state and the decision, and asking about the same call returns the decision at once.

        Args:
            tool: name of the agent's tool.
            arguments: its arguments, as JSON text.
            state: JSON data that the agent needs when it is run again.
        """
        answer = await self._ask(PendingCall("", tool, arguments, "approval"), state)
        if not isinstance(answer, Decision):
            raise TypeError(f"a result came for the question about {tool!r}")
        return answer

    async def call_client_tool(
        self, tool: str, arguments: str = "{}", *, state: Mapping[str, Any] | None = None
    ) -> ToolMessage:
        """Call one of the client's tools (`request.tools`), and wait for its result. Everything else is as in `approve`."""
        answer = await self._ask(PendingCall("", tool, arguments, "result"), state)
        if not isinstance(answer, ToolMessage):
            raise TypeError(f"a decision came for the call of {tool!r}")
        return answer

    async def _ask(self, call: PendingCall, state: Mapping[str, Any] | None) -> Decision | ToolMessage:
        if self.asker is None:
            raise RuntimeError("Nobody can be asked: the turn is over, or no server runs it.")
        return await self.asker.ask(call, state)

    def move_to(self, later: RunContext) -> None:
        """Continue as the context of the later turn that brought the answer. Called by the server."""
        self.turn_id, self.request_id, self.deadline = later.turn_id, later.request_id, later.deadline

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that writes to the server's log with the request id."""
        return logging.LoggerAdapter(self.base_logger, {"request_id": self.request_id})

    @property
    def remaining(self) -> float:
        """Seconds left until the server stops the turn."""
        return max(0.0, self.deadline - time.monotonic())

    def wait_cancelled(self, seconds: float) -> bool:
        """Sleep up to `seconds` in a plain function; return True, at once, if the turn should stop."""
        with _EVENT_LOCK:
            self._wakes = wakes = self._wakes or threading.Event()
        # Checked after the event exists: a cancel from now on sets the event.
        return self.cancelled or wakes.wait(seconds)

    def cancel(self) -> None:
        """Tell the agent to stop. Called by the server."""
        self.cancelled = True
        if self._wakes is not None:
            self._wakes.set()


@runtime_checkable
class AgentBackend(Protocol):
    """Drives an agent: the one interface between the server and an agent of any kind.

    The server calls `run` once per turn and reads its events in a separate task. A backend may have optional methods,
    each with its own protocol: `SupportsCancel`, `SupportsClose`, `SupportsSteering`,
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
    """A backend whose agent can be told to stop."""

    def request_cancel(self, context: RunContext) -> None:
        """Tell the agent to stop. Called just before the task of its turn is cancelled."""
        ...


@runtime_checkable
class SupportsClose(Protocol):
    """A backend that holds resources: a client, a pool, processes."""

    async def aclose(self) -> None:
        """Close the resources. Called once, when the server shuts down."""
        ...


@runtime_checkable
class SupportsSteering(Protocol):
    """A backend whose agent can pick up further user input while it runs."""

    def steer(self, context: RunContext, items: list[dict[str, Any]]) -> bool:
        """Ask the agent to end the turn at a good point; another turn follows with the new messages.

        Returns True if the turn is cut short.
        """
        ...


@runtime_checkable
class SupportsTokenCount(Protocol):
    """A backend that counts a request's input tokens; without this method the server estimates them."""

    def count_tokens(self, request: AgentRequest) -> int | Awaitable[int]:
        """Return the number of input tokens of the request."""
        ...


@runtime_checkable
class SupportsToolNames(Protocol):
    """A backend whose tools are only known when a request arrives."""

    def tool_names(self, request: AgentRequest) -> Iterable[str] | Awaitable[Iterable[str]]:
        """Return the names of its own tools that are not in `capabilities.own_tools`."""
        ...


@runtime_checkable
class SupportsForget(Protocol):
    """A backend whose states refer to data stored elsewhere: a thread, a session, a checkpoint."""

    def forget(self, state: Mapping[str, Any]) -> Awaitable[object] | None:
        """Delete the data that the state refers to.

        Called once no stored object leads to this state any more, nor to another state from the same first turn. Called at
        least once, perhaps by several processes; after a failure it is called again for as long as things are stored.
        """
        ...


@runtime_checkable
class HasTools(Protocol):
    """A backend that exposes its tools as a `Toolbox`, from which the chat REST API reads how dangerous a tool is."""

    @property
    def tools(self) -> object:
        """The tools, as a `Toolbox`."""
        ...


OPTIONAL_METHODS = ("request_cancel", "aclose", "steer", "count_tokens", "tool_names", "forget", "tools")
"""Names of the methods of the optional protocols above."""


def offer_methods_of(inner: AgentBackend, wrapper: AgentBackend) -> None:
    """Give a wrapper the optional methods of the wrapped backend, except those it defines itself.

    `__getattr__` would not work: from Python 3.12 on, `isinstance` with a protocol does not call it.
    """
    for name in OPTIONAL_METHODS:
        if hasattr(inner, name) and not hasattr(wrapper, name):
            setattr(wrapper, name, getattr(inner, name))
