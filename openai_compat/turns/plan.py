"""What an API says of one turn: what is run, how its answer is written, where to, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, cast

from ..agent_request import AgentRequest, Principal
from ..backend import AgentBackend
from ..errors import OpenAICompatError
from ..policies.hooks import TurnInfo
from ..state.agent_state import GivenState, LeftState, kept_states
from ..state.conversation_locks import Draft
from ..stores.port import AgentState, TurnCommit
from ..wire.reducer import Item, Usage
from .turn_log import TurnLog

if TYPE_CHECKING:
    from .run_group import RunGroup

Frames = TypeVar("Frames", bytes, list[dict[str, Any]])
"""The unit of an answer: bytes, or the frames of a WebSocket."""

Frames_contra = TypeVar("Frames_contra", contravariant=True)


Taken: TypeAlias = list[tuple[int, list[Item]]]
"""New items by choice: the index of each choice, with a batch of its items. Texts come as `Texts`, the rest by itself."""


class Interruptible(Protocol):
    """Running work that can be ended with an error."""

    def interrupt(self, error: OpenAICompatError) -> None:
        """End it with `error`, unless it has ended already."""
        ...


class Requester(Protocol):
    """Whose request it is, and where its log lines are."""

    @property
    def principal(self) -> Principal:
        """Whose request it is: limits and stored things are counted for it."""
        ...

    @property
    def request_id(self) -> str:
        """The `x-request-id` of the answer."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of asyncio; None on trio."""
        ...

    headers: list[tuple[str, str]]
    """Further headers of the answer, where it has any."""

    turn: TurnLog | None
    """What its access line tells of its turn; None where nobody reads that."""

    def note_ignored(self, parameters: Sequence[str]) -> None:
        """The agent does not pass these on: to be told where the answer has a place for it."""
        ...


class Delivery(Protocol[Frames_contra]):
    """Where an answer goes: to a client in a stream or as a whole, over a WebSocket, into a log, or nowhere."""

    @property
    def write_now(self) -> Callable[[Frames_contra], bool] | None:
        """Passes on the next part without waiting; False, and nothing is done, if that cannot be. None: it never can."""
        ...

    @property
    def due(self) -> float:
        """When `flush` has to be called, although nothing is to be written (the event loop's time)."""
        ...

    def started(self) -> None:
        """The agent is about to run: it must not be run for this request again in secret."""
        ...

    def write(self, frames: Frames_contra, /) -> Awaitable[None]:
        """Pass on the next part of the answer, in the order in which it was said."""
        ...

    async def flush(self) -> None:
        """Pass on what waits to be written elsewhere."""
        ...

    async def keep_alive(self) -> None:
        """There was nothing to write for a while."""
        ...

    def end(self, frames: Frames_contra, /) -> Awaitable[None]:
        """The last of the answer, or all of it. What it says has been stored."""
        ...


@dataclass(eq=False, repr=False)
class TurnPlan(Generic[Frames]):
    """One turn: which agent is asked what, how its answer is written, where to, and what is kept of it.

    An API has a subclass of its own, which writes (`feed`, `ending`) and knows what to keep.

    Attributes:
        api: the name of the API, as hooks are told.
        agent: the agent's own name; the turn is counted for it.
        asker: the name that what its agent leaves is kept under; empty for its own.
        draft: the conversation that the turn has for itself.
        background: whether nobody waits for it, so that it has more time.
        usage: the tokens that were reported.
        runs: the agent's run, once it is started; of several, the last one.
        single: no other run can follow, so the slot is free as soon as the agent has ended.
        cuts: an answer that is longer than `max_tokens` is cut, by an estimate where its agent does not count.
        bounded: the answer is kept in memory, so it may not be longer than `Limits.answer`.
        fails_at_once: a failure is told before the agent is stopped, since nothing has to be free by then.
        given: the state of what it continues.
        last_state: the state that its agent has ended with.
        kept: whether its outcome is in the store.
        counted: whether what it has used is in the store.
        stopped: what it was interrupted with.
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
    # What most turns leave as it is belongs to the class.
    runs: RunGroup | None = field(default=None, init=False)
    stopped: OpenAICompatError | None = field(default=None, init=False)
    last_state: LeftState | None = field(default=None, init=False)
    given = GivenState()
    kept = False
    counted = False

    api = "own"
    single = True
    cuts = True
    bounded = True
    fails_at_once = False

    @property
    def info(self) -> TurnInfo:
        """Its first run before it has a slot, as hooks are told of it."""
        return turn_info(self, self.requests)

    @property
    def response_id(self) -> str:
        """The id that the answer has for its client."""
        return self.id

    def interrupt(self, error: OpenAICompatError) -> None:
        """End it with `error`, as if its agent had raised it, unless the agent has said its last already."""
        self.stopped = error
        if self.runs is not None:
            self.runs.interrupt(error)

    def states(self, response: str | None = None) -> tuple[AgentState, ...]:
        """What is to be kept of the state that its agent has left: with the conversation; else with `response`, if given."""
        if self.last_state is None:
            return ()
        asker = self.asker or self.agent
        return kept_states(
            self.last_state, self.given, asker, self.backend, turn=self.id, draft=self.draft, response=response
        )

    async def before_start(self) -> None:
        """Called just before the agent is started, when nothing else can fail any more."""

    def feed(self, taken: Taken) -> Frames:
        """Serialize new items of the agents."""
        raise NotImplementedError

    def idle(self) -> Frames:
        """Frames that were held back for the first items, written once the agent is silent for too long."""
        raise NotImplementedError

    async def next_requests(self) -> Sequence[AgentRequest]:
        """The requests for another run in the same turn, once a run is over. Empty ends the turn."""
        return ()

    def retry(self, error: OpenAICompatError) -> Sequence[AgentRequest]:
        """The requests for another run after a failure. Empty lets the turn fail."""
        del error
        return ()

    async def ending(self) -> tuple[TurnCommit | None, Frames]:
        """The outcome to store, and the last frames or the whole answer. Raises AgentError for a bad answer."""
        raise NotImplementedError

    async def committed(self) -> None:
        """The outcome is in the store."""
        # With the same transaction, so that closing the draft has nothing to give back.
        if self.draft is not None:
            self.draft.committed()

    def not_committed(self) -> None:
        """The outcome could not be stored: the frames that were to follow are void."""

    async def fail(self, error: OpenAICompatError) -> None:
        """Tell what went wrong, or raise it for the caller to tell."""
        raise error


class _UnfrozenInfo:
    """The facts of a run, until all are there and it becomes a `TurnInfo`: an object may change to a class with its attributes.

    A frozen dataclass sets each of them by a call of `object.__setattr__`, which takes four times as long.
    """

    __slots__ = TurnInfo.__slots__


def turn_info(
    turn: TurnPlan[Any], requests: Sequence[AgentRequest], queued: float = 0.0, index: int = 0, run: int = 0
) -> TurnInfo:
    """One run of a turn, as hooks are told of it."""
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
    """The id of one of the choices of a turn after the first, which has the turn's own."""
    return f"{turn}-{index}"
