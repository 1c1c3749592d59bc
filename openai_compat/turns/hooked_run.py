"""Calls a server's hooks for one run of an agent. A hook cannot change the turn, whatever it does."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ParamSpec

import anyio

from ..aio.background import Task, drop_tracebacks, spawn
from ..errors import DeadlineExceeded, OpenAICompatError, Unavailable
from ..events import Finished, Paused, ToolCallReady, UsageReported
from ..policies.hooks import (
    CancelledBy,
    Hooks,
    RefusalInfo,
    RefusalReason,
    RequestInfo,
    RequestOutcome,
    TurnInfo,
    TurnOutcome,
    WebhookAttempt,
)
from ..wire.reducer import Item, Usage
from .event_trace import EventTrace
from .turn_log import Finish, finish_of

logger = logging.getLogger("openai_compat")

SETTLED_TIMEOUT = 10.0
"""Timeout of each `settled`, in seconds."""

CANCELLED_BY: dict[str | None, CancelledBy] = {
    "superseded": "superseded",
    "shutting_down": "shutdown",
    "cancelled": "client",
    "stopped": "client",
    "abandoned": "client",
}
"""Causes by the code of the error that ended a run."""

Arguments = ParamSpec("Arguments")


def cancelled_by(error: OpenAICompatError | None) -> CancelledBy | None:
    """Return the cause of a run that ended with `error`; None for a failure. Without an error, the client has disconnected."""
    if error is None:
        return "client"
    return "deadline" if isinstance(error, DeadlineExceeded) else CANCELLED_BY.get(error.code)


class HookSet:
    """The hooks of one server, by overridden method, in call order.

    Attributes:
        all: all hooks, in order.
        admits: True if a hook must be asked before a turn.
        watches: True if a hook observes runs.
        watches_requests: True if a hook observes requests.
    """

    def __init__(self, hooks: Iterable[Hooks] = (), settling: dict[Task, int] | None = None) -> None:
        """`settling` holds the tasks of `settled`, with their threads, if another set shares them."""
        self.all = given = list(hooks)
        self._request_started = _hooks_overriding(given, "request_started")
        # In reverse order, like nested blocks: what a hook has opened is closed before what was opened around it.
        self._request_ended = _hooks_overriding(given, "request_ended")[::-1]
        self._refused = _hooks_overriding(given, "refused")
        self._webhook_sent = _hooks_overriding(given, "webhook_sent")
        self._admit = _hooks_overriding(given, "admit")
        self.started = _hooks_overriding(given, "started")
        self.event = _hooks_overriding(given, "event")
        self.ended = _hooks_overriding(given, "ended")[::-1]
        self.settled = _hooks_overriding(given, "settled")
        self.admits = bool(self._admit)
        self.watches = bool(self.started or self.event or self.ended or self.settled)
        self.watches_requests = bool(self._request_started or self._request_ended)
        self._settling = {} if settling is None else settling
        self._traced: HookSet | None = None

    @property
    def current(self) -> HookSet:
        """The hooks for the next turn: at DEBUG they include the event trace."""
        if not logger.isEnabledFor(logging.DEBUG):
            return self
        if self._traced is None:
            self._traced = HookSet([EventTrace(), *self.all], self._settling)
        return self._traced

    def request_started(self, request: RequestInfo) -> None:
        """Tell the hooks that a request has arrived; a failure is logged, and the request continues."""
        for hook in self._request_started:
            try:
                hook.request_started(request)
            except BaseException as error:  # as for a run: the request continues after any exception
                _log_failure(request.id, hook, "request_started", error)

    def request_ended(self, request: RequestInfo, outcome: RequestOutcome) -> None:
        """Tell the hooks how a request was answered."""
        for hook in self._request_ended:
            try:
                hook.request_ended(request, outcome)
            except BaseException as error:
                _log_failure(request.id, hook, "request_ended", error)

    def refused(self, request_id: str, principal: str, reason: RefusalReason | None, code: str) -> None:
        """Tell the hooks that no agent was started, unless the refusal has no `RefusalReason`."""
        if reason is None or not self._refused:
            return
        refusal = RefusalInfo(request_id=request_id, principal=principal, reason=reason, code=code)
        for hook in self._refused:
            try:
                hook.refused(refusal)
            except BaseException as error:
                _log_failure(request_id, hook, "refused", error)

    def webhook_sent(self, attempt: WebhookAttempt) -> None:
        """Tell the hooks of an attempt to send a webhook."""
        for hook in self._webhook_sent:
            try:
                hook.webhook_sent(attempt)
            except Exception as error:
                _log_failure(attempt.id, hook, "webhook_sent", error)

    async def admit(self, turn: TurnInfo) -> None:
        """Ask the hooks to admit the turn. Raises OpenAICompatError if one refuses, or 503 `hook_failed` if one fails."""
        for hook in self._admit:
            try:
                await hook.admit(turn)
            except OpenAICompatError:
                raise
            except Exception as error:
                _log_failure(turn.request_id, hook, "admit", error)
                # Fail closed: an operator who checks each turn does not want unchecked ones.
                raise Unavailable("The request could not be checked.", code="hook_failed") from None

    def settle(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """Call `settled` of each hook in a separate task, after a turn is over and stored."""
        for hook in self.settled:
            self._settle(hook, turn, outcome)

    def _settle(self, hook: Hooks, turn: TurnInfo, outcome: TurnOutcome) -> None:
        async def body() -> None:
            try:
                with anyio.fail_after(SETTLED_TIMEOUT):
                    await hook.settled(turn, outcome)
            except Exception as error:
                _log_failure(turn.request_id, hook, "settled", error)

        # By thread: servers on several event loops share their hooks, and each loop waits for its own tasks.
        task = spawn(body, f"settled {turn.id}", lambda: self._settling.pop(task))
        self._settling[task] = threading.get_ident()

    async def wait_settled(self) -> None:
        """Return once every `settled` on this event loop is done, or has timed out."""
        with anyio.move_on_after(SETTLED_TIMEOUT, shield=True):
            while tasks := [task for task, thread in self._settling.items() if thread == threading.get_ident()]:
                await tasks[0].wait()


def _hooks_overriding(hooks: list[Hooks], name: str) -> list[Hooks]:
    return [hook for hook in hooks if getattr(type(hook), name) is not getattr(Hooks, name)]


class _UnfrozenOutcome:
    """The outcome of a run while it is built, before it becomes a `TurnOutcome`; see `_UnfrozenInfo` in plan.py."""

    __slots__ = TurnOutcome.__slots__


class HookedRun:
    """One run of an agent, as reported to hooks.

    `started`, `event` and `ended` are called in the agent's task, `end_turn` by the turn; `settled` follows the last two.

    Attributes:
        context: the agent's context variables.
    """

    # Defaults that most runs leave unchanged are class attributes, which halves the time to create an object.
    _first: float | None = None
    _calls = 0
    _usage: Usage | None = None
    _finish: Finish | None = None
    _outcome: TurnOutcome | None = None
    _over: tuple[OpenAICompatError | None, CancelledBy | None, bool] | None = None
    _failed: set[Hooks] | None = None

    def __init__(self, hooks: HookSet, turn: TurnInfo, began: float) -> None:
        """`began` is the time just before the agent starts (`time.monotonic`)."""
        self.context = contextvars.copy_context()
        self._began = began
        self._hooks = hooks
        self._turn = turn

    def started(self) -> None:
        """Tell the hooks that the agent starts."""
        for hook in self._hooks.started:
            try:
                hook.started(self._turn)
            except BaseException as error:  # `sys.exit()` too: it was not the agent that called it
                self._log_once(hook, "started", error)

    def event(self, item: Item) -> None:
        """Tell the hooks of an event of the agent."""
        if self._first is None:
            self._first = time.monotonic()
        if type(item) is not str:
            self._note(item)
        for hook in self._hooks.event:
            try:
                hook.event(self._turn, item)
            except BaseException as error:
                self._log_once(hook, "event", error)

    def _note(self, item: Item) -> None:
        match item:
            case Finished() | Paused():  # first, since each run has one
                self._finish = finish_of(item)
            case UsageReported():
                self._usage = self._usage or Usage()
                self._usage.add(item)
            case ToolCallReady():
                self._calls += 1
            case _:
                pass

    def ended(self, error: OpenAICompatError | None, cancelled: CancelledBy | None) -> None:
        """Tell the hooks that the agent has ended or paused. No event follows."""
        began, now = self._began, time.monotonic()
        outcome: Any = _UnfrozenOutcome()
        outcome.finish = self._finish
        outcome.error = error
        outcome.usage = self._usage
        outcome.first_event = None if self._first is None else self._first - began
        outcome.seconds = now - began
        outcome.tool_calls = self._calls
        outcome.cancelled = cancelled
        outcome.committed = None
        outcome.__class__ = TurnOutcome
        for hook in self._hooks.ended:
            try:
                hook.ended(self._turn, outcome)
            except BaseException as failed:
                self._log_once(hook, "ended", failed)
        if self._hooks.settled:
            self._outcome = outcome
            self._settle()

    def end_turn(self, error: OpenAICompatError | None, cancelled: CancelledBy | None, *, committed: bool) -> None:
        """Record how the whole turn ended. Not needed if no hook overrides `settled`."""
        self._over = error, cancelled, committed
        self._settle()

    def _settle(self) -> None:
        # Agent and turn may end in either order: the second one has both outcomes.
        if self._outcome is None or self._over is None:
            return
        (error, cancelled, committed), run = self._over, self._outcome
        failed, by = run.error or error, run.cancelled or cancelled
        self._hooks.settle(self._turn, replace(run, error=failed, cancelled=by, committed=committed))

    def run_in_context(
        self, call: Callable[Arguments, None], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> None:
        """Call a function with the agent's context variables, from any task: the agent's own task is waiting."""
        try:
            self.context.run(int)  # raises RuntimeError if it is already the current context
        except RuntimeError:
            call(*arguments, **named)
        else:
            self.context.run(call, *arguments, **named)

    def _log_once(self, hook: Hooks, method: str, error: BaseException) -> None:
        self._failed = self._failed or set()
        if hook not in self._failed:
            self._failed.add(hook)
            _log_failure(self._turn.request_id, hook, method, error)


def _log_failure(request_id: str, hook: Hooks, method: str, error: BaseException) -> None:
    extra, name = {"request_id": request_id}, type(hook).__name__
    logger.error("%s: %s.%s failed", request_id, name, method, exc_info=error, extra=extra)
    drop_tracebacks(error)
