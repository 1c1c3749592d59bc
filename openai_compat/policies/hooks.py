"""Hooks: what a server tells of every turn, whatever API it came by, to those who count, log, or refuse."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..agent_request import AgentRequest, Principal
from ..backend import AgentBackend
from ..errors import OpenAICompatError
from ..events import AgentEvent, FinishReason
from ..http import HttpRequest
from ..wire.reducer import Usage

CancelledBy: TypeAlias = Literal["client", "superseded", "deadline", "shutdown"]
"""Who has ended a run before its agent did: its client has left or cancelled it, a newer message has taken its place, it
took too long, or the server shuts down."""

Wrap: TypeAlias = Callable[[AgentBackend, str], AgentBackend]
"""Makes another backend of one, given the agent's name: for what changes a turn."""

RefusalReason: TypeAlias = Literal["auth", "rate_limit", "budget", "slots", "store", "hook", "shutting_down"]
"""Why no agent was started: who asks is not known, or may not; has asked for, or used, too much in a minute; has used up a
budget; there is no slot; the store does not answer; a hook has failed; the server shuts down. Others may be added."""

METHODS = (
    "request_started",
    "request_ended",
    "refused",
    "admit",
    "started",
    "event",
    "ended",
    "settled",
    "webhook_sent",
)
ASYNC = ("admit", "settled")
"""The methods of `Hooks` that may wait."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TurnInfo:
    """One run of an agent. Each has one of its own, so that it can be the key of a dict.

    Attributes:
        id: the turn's, as its agent has it in `RunContext.turn_id`; each choice of `n` has another one.
        index: which of several choices it is.
        choices: how many there are.
        run: 0; 1 and up where one turn runs its agent again: to repair JSON, without the beginning of what was too long, or
            with the results of a chat WebSocket client's tools.
        request_id: the `x-request-id` of the answer.
        api: "chat", "completions", "responses", "chat_rest", "chat_websocket", "anthropic_messages", "ollama", or the name of an API of your own.
        agent: the agent's own name, which `request.model` need not be.
        request: what the agent is asked.
        principal: who asks.
        response_id: the id that the answer has for its client.
        background: whether no client waits for it.
        queued: seconds that it has waited for a slot.
    """

    id: str
    index: int = 0
    choices: int = 1
    run: int = 0
    request_id: str
    api: str
    agent: str
    request: AgentRequest
    principal: Principal
    response_id: str
    background: bool = False
    queued: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOutcome:
    """How a run has ended: its agent's end in `ended`, the end of the whole turn in `settled`.

    Attributes:
        finish: how the agent has ended, as clients of chat are told; "paused" where a person is asked; None if it did not
            come to an end.
        error: what the client was told of its failure; None if it did not fail, and for a client that has left.
        usage: the tokens that the agent has reported; None if it has reported none.
        first_event: seconds until it said something; None if it has said nothing.
        seconds: how long it ran.
        tool_calls: how many calls of tools it has made, its own and the client's.
        cancelled: who has ended it before its end, if somebody has.
        committed: whether what it leaves behind is in the store; False too where there is nothing to keep. None in `ended`,
            when that is not known yet.
    """

    finish: FinishReason | Literal["paused"] | None
    error: OpenAICompatError | None
    usage: Usage | None
    first_event: float | None
    seconds: float
    tool_calls: int
    cancelled: CancelledBy | None
    committed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestInfo:
    """One request, turn or not; of a WebSocket its handshake. Each has one of its own, so that it can be the key of a dict.

    Attributes:
        id: the `x-request-id` of the answer. The turns of a WebSocket have others.
        request: method, path and headers as they were sent. Its body is not to be read.
        websocket: whether it begins a WebSocket.
    """

    id: str
    request: HttpRequest
    websocket: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutcome:
    """How a request was answered.

    Attributes:
        route: the template of its path, as "/v1/responses/{response_id}"; None for a path that there is not.
        status: of the answer; 101 for a WebSocket that was accepted, 0 where nothing was sent.
        note: the code of the error that the client was told, also late in a stream; "client left"; or "".
        principal: who has asked; "" where that was not found out.
        agent_started: whether an agent was started for it.
        seconds: from its head to the end of its answer.
    """

    route: str | None
    status: int
    note: str
    principal: str
    agent_started: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalInfo:
    """Something that was refused before an agent was started: a request, a WebSocket, or what was asked on one.

    Attributes:
        request_id: the `x-request-id` of the answer, or the id in the frame.
        principal: who has asked; "" where that was not found out.
        reason: of all errors that come to the same.
        code: of the error that the client was told.
    """

    request_id: str
    principal: str
    reason: RefusalReason
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAttempt:
    """A webhook that was sent, or could not be.

    Attributes:
        id: the event's, the same in each attempt.
        target: whom it is for: the `Webhooks`' name, the host, and a hash of the URL. It has no secret in it.
        attempt: from 1.
        outcome: "delivered" with a 2xx; "retry" if it will be sent again; "failed" if it is given up.
        error: the status of the answer, or the exception's type; "" where it was delivered.
        seconds: how long it took.
    """

    id: str
    target: str
    attempt: int
    outcome: Literal["delivered", "retry", "failed"]
    error: str
    seconds: float


class Hooks:
    """Watches the turns of a server: override what you need. What is not overridden is never called, and costs nothing.

    `started`, `event` and `ended` run in the agent's task: they have to be quick, and cannot wait. What they raise is
    logged once for each hook and run, and changes nothing. So it is with `request_started`, `request_ended` and `refused`, which
    run in the request's task, and with `webhook_sent`. One that has something to write out at the end may have an `async def aclose(self)`: it is called as
    the last thing when the server ends.
    """

    def request_started(self, request: RequestInfo) -> None:
        """A request has come, before anything about it is checked. Context variables that are set here are its turns'."""

    def request_ended(self, request: RequestInfo, outcome: RequestOutcome) -> None:
        """It was answered, or its client has left. A turn that goes on without its client may end later."""

    def refused(self, refusal: RefusalInfo) -> None:
        """No agent was started, for one of a few reasons. Told before `request_ended`, and of each turn on a WebSocket too."""

    async def admit(self, turn: TurnInfo) -> None:
        """A turn is asked for: after key and rate, before its slot. Once for a request, with the first of its choices.

        Raise an `OpenAICompatError` to refuse it: the client gets that, and no agent is started. Anything else is logged,
        and answered with 503 `hook_failed`.
        """

    def started(self, turn: TurnInfo) -> None:
        """The agent begins. Context variables that are set here are the agent's."""

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        """The agent has said something, in order: what is left of it once `stop`, `max_tokens` and the like were applied."""

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """The agent has ended, or waits for a later request. Exactly once for each `started`; the last hook is told first."""

    async def settled(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """The turn is over, and stored. Runs in a task of its own, for 10 s at most; a server that shuts down waits for it.

        Not durable: a process that dies before it takes it along.
        """

    def webhook_sent(self, attempt: WebhookAttempt) -> None:
        """A webhook was sent, or could not be: once for each attempt, in the process that has made it."""


def check_hooks(hooks: Iterable[Any]) -> None:
    """Raise TypeError for what is no hook, and for a method that would never be waited for, or cannot be."""
    for hook in hooks:
        if not isinstance(hook, Hooks):
            what = "an instance of it" if isinstance(hook, type) and issubclass(hook, Hooks) else "a Hooks"
            raise TypeError(f"each of hooks has to be {what}, not {hook!r:.100}")
        for name in METHODS:
            if inspect.iscoroutinefunction(getattr(hook, name)) != (name in ASYNC):
                how = "async def" if name in ASYNC else "def"
                raise TypeError(f"{type(hook).__name__}.{name} has to be written with `{how}`")
