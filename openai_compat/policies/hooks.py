"""Hooks that observe requests and turns of every API: to count, log, or refuse them."""

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
"""The cause that ended a run before its agent did: the client disconnected or cancelled it, a newer message superseded it,
its deadline passed, or the server shut down."""

Wrap: TypeAlias = Callable[[AgentBackend, str], AgentBackend]
"""Wraps a backend, given the agent's name, to change its turns."""

RefusalReason: TypeAlias = Literal["auth", "rate_limit", "budget", "slots", "store", "hook", "shutting_down"]
"""The reason why no agent was started: the caller is unknown or not permitted; has exceeded its rate limit; has used up
its budget; no slot is free; the store does not answer; a hook failed; the server is shutting down. More may be added."""

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
ASYNC_METHODS = ("admit", "settled")
"""The methods of `Hooks` that are async."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TurnInfo:
    """One run of an agent. Each run has its own object, which can be a dict key.

    Attributes:
        id: the turn's id, equal to `RunContext.turn_id`; each choice of `n` has its own.
        index: index of the choice.
        choices: number of choices.
        run: 0 for the first run; 1 and up if the turn runs its agent again: to repair JSON, with a conversation shortened
            after it was too long, or with results of a chat WebSocket client's tools.
        request_id: the `x-request-id` of the response.
        api: "chat", "completions", "responses", "chat_rest", "chat_websocket", "anthropic_messages", "ollama", or the name
            of an API of your own.
        agent: the agent's name, which may differ from `request.model`.
        request: the request that the agent gets.
        principal: the caller.
        response_id: the id of the answer, as the client sees it.
        background: True if no client waits for it.
        queued: seconds that the turn waited for a slot.
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
    """The outcome of a run: of the agent in `ended`, of the whole turn in `settled`.

    Attributes:
        finish: the chat API's finish reason; "paused" if a person is asked; None if the agent did not finish.
        error: the error sent to the client; None without a failure, and if the client has disconnected.
        usage: tokens that the agent reported; None if it reported none.
        first_event: seconds until the first output; None without output.
        seconds: duration of the run.
        tool_calls: number of tool calls, both the agent's and the client's.
        cancelled: the cause that ended the run early, if one did.
        committed: True if the turn's results are stored; False also if there is nothing to store. None in `ended`, when
            this is not known yet.
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
    """One request, with or without a turn; for a WebSocket, its handshake. Each has its own object, which can be a dict key.

    Attributes:
        id: the `x-request-id` of the response. The turns of a WebSocket have other ids.
        request: method, path and headers as sent. Do not read its body.
        websocket: True if it opens a WebSocket.
    """

    id: str
    request: HttpRequest
    websocket: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutcome:
    """The outcome of a request.

    Attributes:
        route: the path template, for instance "/v1/responses/{response_id}"; None for an unknown path.
        status: status of the response; 101 for an accepted WebSocket, 0 if nothing was sent.
        note: code of the error sent to the client, even late in a stream; "client left"; or "".
        principal: id of the caller; "" if it was not authenticated.
        agent_started: True if an agent was started.
        seconds: from the request's headers to the end of the response.
    """

    route: str | None
    status: int
    note: str
    principal: str
    agent_started: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalInfo:
    """A request, a WebSocket, or a message on one that was refused before an agent was started.

    Attributes:
        request_id: the `x-request-id` of the response, or the id in the frame.
        principal: id of the caller; "" if it was not authenticated.
        reason: the category of the error.
        code: code of the error sent to the client.
    """

    request_id: str
    principal: str
    reason: RefusalReason
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAttempt:
    """One attempt to deliver a webhook.

    Attributes:
        id: id of the event, the same in each attempt.
        target: the receiver: the `Webhooks`' name, the host, and a hash of the URL. Contains no secret.
        attempt: from 1.
        outcome: "delivered" for a 2xx; "retry" if another attempt follows; "failed" if it was the last one.
        error: the response status, or the exception's type; "" if delivered.
        seconds: duration of the attempt.
    """

    id: str
    target: str
    attempt: int
    outcome: Literal["delivered", "retry", "failed"]
    error: str
    seconds: float


class Hooks:
    """Observes the turns of a server: override the methods you need. Methods that are not overridden cost nothing.

    `started`, `event` and `ended` run in the agent's task: they must be fast and cannot await. Their exceptions are logged
    once per hook and run, and otherwise ignored. The same holds for `request_started`, `request_ended` and `refused`, which
    run in the request's task, and for `webhook_sent`. A hook with data to flush may have an `async def aclose(self)`, which
    is called as the last step of the server's shutdown.
    """

    def request_started(self, request: RequestInfo) -> None:
        """Called for each request before any check. Context variables set here also apply to its turns."""

    def request_ended(self, request: RequestInfo, outcome: RequestOutcome) -> None:
        """Called when the request was answered or its client disconnected. A turn that continues without it may end later."""

    def refused(self, refusal: RefusalInfo) -> None:
        """Called when no agent was started, for a `RefusalReason`. Before `request_ended`, and for each turn on a WebSocket."""

    async def admit(self, turn: TurnInfo) -> None:
        """Called before a turn gets its slot, after authentication and rate limit. Once per request, with its first choice.

        Raise an `OpenAICompatError` to refuse the turn: the client gets that error, and no agent is started. Any other
        exception is logged and answered with 503 `hook_failed`.
        """

    def started(self, turn: TurnInfo) -> None:
        """Called when the agent starts. Context variables set here also apply to the agent."""

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        """Called for each event of the agent, in order, after `stop`, `max_tokens` and similar limits were applied."""

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """Called when the agent has ended or paused. Exactly once for each `started`; the hooks are called in reverse order."""

    async def settled(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """Called when the turn is over and stored. Runs in its own task for at most 10 s; a shutdown waits for it.

        Not durable: if the process dies first, the call is lost.
        """

    def webhook_sent(self, attempt: WebhookAttempt) -> None:
        """Called for each attempt to deliver a webhook, in the process that made it."""


def check_hooks(hooks: Iterable[Any]) -> None:
    """Raise TypeError for an object that is not a hook, and for a method that is wrongly async or wrongly plain."""
    for hook in hooks:
        if not isinstance(hook, Hooks):
            what = "an instance of it" if isinstance(hook, type) and issubclass(hook, Hooks) else "a Hooks"
            raise TypeError(f"each of hooks has to be {what}, not {hook!r:.100}")
        for name in METHODS:
            if inspect.iscoroutinefunction(getattr(hook, name)) != (name in ASYNC_METHODS):
                how = "async def" if name in ASYNC_METHODS else "def"
                raise TypeError(f"{type(hook).__name__}.{name} has to be written with `{how}`")
