"""The plan of one turn, made by an API: the requests to run, the format and target of the answer, and what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, cast

from ..agent_request import AgentRequest, Principal
from ..backend import AgentBackend
from ..errors import OpenAICompatError
from ..policies.hooks import TurnInfo
from ..state.agent_state import FinalState, InitialState, states_to_store
from ..state.conversation_locks import Draft
from ..stores.port import AgentState, TurnCommit
from ..wire.reducer import Item, Usage
from .turn_log import TurnLog

if TYPE_CHECKING:
    from .run_group import RunGroup

Frames = TypeVar("Frames", bytes, list[dict[str, Any]])
"""The unit of an answer: bytes, or a list of WebSocket frames."""

Frames_contra = TypeVar("Frames_contra", contravariant=True)


Taken: TypeAlias = list[tuple[int, list[Item]]]
"""New items by choice: the index of each choice, with a batch of its items. Texts are a `Texts` batch of their own."""


class Interruptible(Protocol):
    """Running work that can be ended with an error."""

    def interrupt(self, error: OpenAICompatError) -> None:
        """End the work with `error`, unless it has ended already."""
        ...


class Requester(Protocol):
    """The principal of a request, its log id, and its response headers."""

    @property
    def principal(self) -> Principal:
        """The principal to whom limits and stored data are attributed."""
        ...

    @property
    def request_id(self) -> str:
        """The `x-request-id` of the response."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The asyncio event loop; None on trio."""
        ...

    headers: list[tuple[str, str]]
    """Further headers of the response, if it has headers."""

    turn: TurnLog | None
    """The turn's data for the access log line; None if access logging is off."""

    def note_ignored(self, parameters: Sequence[str]) -> None:
        """Note parameters that the agent does not pass on, for answers that can report them."""
        ...


class Delivery(Protocol[Frames_contra]):
    """The target of an answer: a client, as a stream or whole, a WebSocket, a log, or nothing."""

    @property
    def write_now(self) -> Callable[[Frames_contra], bool] | None:
        """Writes the next part without waiting, or returns False and does nothing. None if that is never possible."""
        ...

    @property
    def due(self) -> float:
        """Time at which `flush` must be called even if nothing is written (on the event loop's clock)."""
        ...

    def started(self) -> None:
        """The agent is about to run: from now on the request must not be rerun silently."""
        ...

    def write(self, frames: Frames_contra, /) -> Awaitable[None]:
        """Write the next part of the answer, in order."""
        ...

    async def flush(self) -> None:
        """Write out data that is buffered for another place."""
        ...

    async def keep_alive(self) -> None:
        """Called when there was nothing to write for a while."""
        ...

    def end(self, frames: Frames_contra, /) -> Awaitable[None]:
        """Write the last part, or the whole answer. Its content has been stored before."""
        ...


@dataclass(eq=False, repr=False)
class TurnPlan(Generic[Frames]):
    """One turn: the agent and its requests, the format and target of the answer, and what is stored.

    Each API has a subclass, which serializes (`feed`, `ending`) and knows what to store.

    Attributes:
        api: name of the API for hooks.
        agent: the agent's own name, under which the turn is counted.
        asker: the name under which the agent's state is stored; empty for its own name.
        draft: the conversation that the turn has locked.
        background: True if no client waits, so that the turn gets more time.
        usage: the reported tokens.
        runs: the agent's runs, once started; the last ones if there were several rounds.
        single: True if no further run can follow, so that the slot is free as soon as the agent has ended.
        cuts: True if an answer longer than `max_tokens` is cut, by an estimate for agents that do not count tokens.
        bounded: True if the answer is held in memory, so that it must not exceed `Limits.answer`.
        fails_at_once: True if a failure is reported before the agent is stopped, because nothing must be released first.
        given: the states of the turn that this one continues.
        last_state: the state with which the agent ended.
        kept: True once its outcome is stored.
        counted: True once its usage is stored.
        stopped: the error that interrupted it.
    """

    delivery: Delivery[Frames]
    requester: Requester
    _: KW_ONLY
    id: str
    agent: str
    backend: AgentBackend
    requests: Sequence[AgentRequest]
    draft: Draft | None = None
    background: bool = False
    asker: str = ""
    usage: Usage = field(default_factory=Usage, init=False)
    # Defaults that most turns leave unchanged are class attributes.
    runs: RunGroup | None = field(default=None, init=False)
    stopped: OpenAICompatError | None = field(default=None, init=False)
    last_state: FinalState | None = field(default=None, init=False)
    given = InitialState()
    kept = False
    counted = False

    api = "own"
    single = True
    cuts = True
    bounded = True
    fails_at_once = False

    @property
    def info(self) -> TurnInfo:
        """The turn's first run, before it has a slot, as reported to hooks."""
        return turn_info(self, self.requests)

    @property
    def response_id(self) -> str:
        """The id of the answer, as the client sees it."""
        return self.id

    def interrupt(self, error: OpenAICompatError) -> None:
        """End the turn with `error`, as if its agent had raised it, unless the agent has finished."""
        self.stopped = error
        if self.runs is not None:
            self.runs.interrupt(error)

    def states(self, response: str | None = None) -> tuple[AgentState, ...]:
        """Return the records of the agent's state to store: with the conversation, or else with `response`, if given."""
        if self.last_state is None:
            return ()
        asker = self.asker or self.agent
        return states_to_store(
            self.last_state, self.given, asker, self.backend, turn=self.id, draft=self.draft, response=response
        )

    async def before_start(self) -> None:
        """Called just before the agent is started, when nothing else can fail any more."""

    def feed(self, taken: Taken) -> Frames:
        """Serialize new items of the agents."""
        raise NotImplementedError

    def idle(self) -> Frames:
        """Return the frames that were held back for the first items, to be written when the agent is silent for too long."""
        raise NotImplementedError

    async def next_requests(self) -> Sequence[AgentRequest]:
        """Return the requests for another run in the same turn, after a run is over. Empty ends the turn."""
        return ()

    def retry(self, error: OpenAICompatError) -> Sequence[AgentRequest]:
        """Return the requests for another run after a failure. Empty lets the turn fail."""
        del error
        return ()

    async def ending(self) -> tuple[TurnCommit | None, Frames]:
        """Return the outcome to store, and the last frames or the whole answer. Raises AgentError for a bad answer."""
        raise NotImplementedError

    async def committed(self) -> None:
        """Called after the outcome was stored."""
        # The same transaction has released the lock, so closing the draft has nothing to release.
        if self.draft is not None:
            self.draft.mark_committed()

    def not_committed(self) -> None:
        """Called if the outcome could not be stored: the frames that were to follow are void."""

    async def fail(self, error: OpenAICompatError) -> None:
        """Report the error to the client, or raise it for the caller to report."""
        raise error


class _UnfrozenInfo:
    """The facts of a run while they are collected, before it becomes a `TurnInfo` by an assignment to `__class__`.

    A frozen dataclass sets each attribute with a call of `object.__setattr__`, which takes four times as long.
    """

    __slots__ = TurnInfo.__slots__


def turn_info(
    turn: TurnPlan[Any], requests: Sequence[AgentRequest], queued: float = 0.0, index: int = 0, run: int = 0
) -> TurnInfo:
    """Create the `TurnInfo` of one run of a turn, for hooks."""
    made: Any = _UnfrozenInfo()
    made.id = turn.id if index == 0 else run_id(turn.id, index)
    made.index = index
    made.choices = len(requests)
    made.run = run
    made.request_id = turn.requester.request_id
    made.api = turn.api
    made.agent = turn.agent
    made.request = requests[index]
    made.principal = turn.requester.principal
    made.response_id = turn.response_id
    made.background = turn.background
    made.queued = queued
    made.__class__ = TurnInfo
    return cast("TurnInfo", made)


def run_id(turn: str, index: int) -> str:
    """Return the id of a choice after the first; the first has the turn's id."""
    return f"{turn}-{index}"
