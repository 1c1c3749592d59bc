"""What an API says of one turn: what is run, how its answer is written, where to, and what is kept of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ..agent_request import AgentRequest
from ..backend import AgentBackend
from ..errors import OpenAICompatError
from ..policies.hooks import TurnInfo
from ..reducer import Usage
from ..state.agent_state import GivenState, LeftState, kept_states
from ..state.conversation_locks import Draft
from ..stores.port import AgentState, TurnCommit
from .run_group import Requester, RunGroup, Taken, turn_info

Frames = TypeVar("Frames", bytes, list[dict[str, Any]])
"""The unit of an answer: bytes, or the frames of a WebSocket."""

Frames_contra = TypeVar("Frames_contra", contravariant=True)


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
