"""The services of a server that endpoints use, in four parts: settings, models, state, and live.

Also the checks of an agent's own tools that all APIs share: a client cannot offer a tool with the same name.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import anyio

from ..agent_request import AgentRequest, Caller, Principal
from ..agents.compaction import Compaction
from ..agents.decider import Decider
from ..agents.embedder import Embedder
from ..agents.error_mapping import to_public_error
from ..backend import AgentBackend, SupportsToolNames
from ..errors import InvalidRequest, NotFound, Unavailable
from ..http import HttpRequest
from ..policies.budgets import BudgetsOf
from ..policies.chat_rest import ChatRest
from ..policies.chat_websocket import ChatWebSocket
from ..policies.conversations import Conversations
from ..policies.cors import Cors
from ..policies.disconnect import Disconnect
from ..policies.hooks import Hooks, Wrap
from ..policies.housekeeping import Housekeeping
from ..policies.limits import Deadlines, Limits
from ..policies.messages import MessagePolicy
from ..policies.rates import RatesOf
from ..policies.replay_failures import ReplayFailures
from ..policies.resource_metadata import ResourceMetadata
from ..state.conversation_locks import ConversationLocks
from ..state.degraded import LateWork
from ..state.event_log import EventLogs
from ..state.leases import Leases
from ..state.maintenance import StoreMaintenance
from ..state.outbox import Outbox
from ..state.rate_limiter import RateLimiter
from ..state.state_cleanup import StateCleanup
from ..state.webhooks import Webhooks
from ..stores.bounded_tables import Shares
from ..stores.port import Key, Store
from ..turns.plan import Interruptible
from ..turns.run import TurnRunner
from ..turns.slots import Admission, Busy, Slots
from ..wire.presentation import Visibility
from ..wire.responses.serialize.stream import ResponseVisibility
from .exchange import Exchange
from .idempotency import KEY_HEADER, Idempotency

if TYPE_CHECKING:  # servers without providers never import the package
    from ..providers.port import ProviderControl
    from .stored_providers import StoredProviders

logger = logging.getLogger("openai_compat")

LONGEST_QUOTED = 64
"""Longest name in characters that an error quotes."""

Offered = TypeVar("Offered", Embedder, Decider)


class LiveResponse(Interruptible, Protocol):
    """A response that is made in this process."""

    def snapshot(self) -> dict[str, Any]:
        """The Response object as it stands."""
        ...


class LiveResponses(dict[Key, LiveResponse]):
    """The responses that are being made in this process, by principal and id."""

    def __init__(self) -> None:
        super().__init__()
        self._empty: anyio.Event | None = None

    def remove(self, key: Key) -> None:
        """Remove a response that is finished or given up, and wake those who wait for the last one."""
        self.pop(key, None)
        if not self and self._empty is not None:
            self._empty.set()
            self._empty = None

    async def wait_empty(self) -> None:
        """Return once no response is being made any more."""
        while self:
            self._empty = self._empty or anyio.Event()
            await self._empty.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a server. `Server` describes each of them.

    Attributes:
        agent_headers: names (lower case) of the request headers that agents receive.
    """

    hosts: Sequence[str]
    public: Sequence[str]
    cors: Cors | None
    resource: ResourceMetadata | None
    limits: Limits
    budgets: BudgetsOf | None
    rates: RatesOf | None
    deadlines: Deadlines
    admission: Admission
    disconnect: Disconnect
    replay_failures: ReplayFailures | None
    messages: MessagePolicy
    compaction: Compaction | None
    unknown_model: Literal["reject", "default"]
    visibility: Visibility
    response_visibility: ResponseVisibility
    housekeeping: Housekeeping | None
    conversations: Conversations | None
    retention: float
    webhooks: Sequence[Webhooks]
    chat_rest: ChatRest | None
    chat_websocket: ChatWebSocket | None
    hooks: Sequence[Hooks]
    wrap: Sequence[Wrap]
    agent_headers: frozenset[str]
    page: bool
    bare_paths: bool
    owned_by: str

    @property
    def busy(self) -> Busy | None:
        """The text of the assistant message when no slot is free; None answers 429."""
        return self.admission.busy

    def caller(self, principal: Principal, request: HttpRequest) -> Caller:
        """The caller of `request`, with the headers that agents receive."""
        if not self.agent_headers:
            return Caller(principal, {})
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        return Caller(principal, {name: value for name, value in pairs if name in self.agent_headers})

    async def busy_text(self, request: AgentRequest) -> str:
        """The text of the assistant message that is sent when no slot is free."""
        if self.busy is None or isinstance(self.busy, str):
            return self.busy or ""
        text = self.busy(request)
        return await text if inspect.isawaitable(text) else text


@dataclass(slots=True)
class ChosenProvider:
    """The provider whose agents answer requests that name no model, once one was chosen at runtime."""

    provider: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models that requests can name.

    Attributes:
        agents: the backends by model name, in the order they are listed.
        embedders: the embedders by model name; an agent may have the same name.
        deciders: the deciders, likewise.
        unknown_model: the answer to a request for any other model: a 404, or the first agent.
        owned_by: the owner of the agents that name no provider.
        started: when the server was made, in Unix seconds.
        providers: the model providers behind the agents, if they can be inspected and changed.
        choice: the provider that was chosen at runtime.
    """

    agents: Mapping[str, AgentBackend]
    embedders: Mapping[str, Embedder]
    deciders: Mapping[str, Decider]
    unknown_model: Literal["reject", "default"]
    owned_by: str
    started: int
    providers: ProviderControl | None
    choice: ChosenProvider = field(default_factory=ChosenProvider)

    @property
    def names(self) -> list[str]:
        """The names of all models: the agents in the order they were given, then the embedders and deciders."""
        return list(dict.fromkeys([*self.agents, *self.embedders, *self.deciders]))

    def check(self, model: str, principal: Principal) -> None:
        """Raise NotFound (404 `model_not_found`) if a request for this model would get that error."""
        self._find_name(model, self.agents, principal)

    def agent(self, model: str, principal: Principal) -> tuple[str, AgentBackend]:
        """The agent that serves `model`, and its own name.

        Raises NotFound (404 `model_not_found`), or InvalidRequest for a model that only makes embeddings or decisions.
        """
        name = self._find_name(model, self.agents, principal)
        if name not in self.agents:
            text = f"This model only makes {'embeddings' if name in self.embedders else 'decisions'}."
            raise InvalidRequest(text, param="model", code="unsupported_value")
        return name, self.agents[name]

    def provider_names(self) -> list[str]:
        """The names of all providers: those that are configured, those of the agents, and the server itself."""
        return list(dict.fromkeys([*self._configured_names(), *map(self.provider_of, self.agents), self.owned_by]))

    def _configured_names(self) -> Sequence[str]:
        return () if self.providers is None else self.providers.configured

    def provider_of(self, agent: str) -> str:
        """The provider of an agent: the one that it declares, else the one that its name begins with, else the server."""
        declared = self.agents[agent].capabilities.upstream
        if declared is not None:
            return declared.partition("/")[0]
        model = agent if self.providers is None else self.providers.aliases.get(agent, agent)
        name, slash, _ = model.partition("/")
        return name if slash and name in self._configured_names() else self.owned_by

    def default_model(self, principal: Principal, provider: str | None = None) -> str | None:
        """The agent for requests that name none: the first of the provider that was chosen, or of all.

        If `provider` is given, only its agents count. None if the caller may use none.
        """
        allowed = [name for name in self.agents if principal.may_use(name)]
        wanted = provider or self.choice.provider
        preferred = [name for name in allowed if wanted is not None and self.provider_of(name) == wanted]
        return next(iter(preferred if provider is not None else [*preferred, *allowed]), None)

    def embedder(self, model: str, principal: Principal) -> tuple[str, Embedder]:
        """The embedder for `model`, and its own name.

        Raises NotFound (404 `model_not_found`), or InvalidRequest for an agent that makes no embeddings.
        """
        return self._find_offered(self.embedders, model, principal, "This model makes no embeddings.")

    def decider(self, model: str, principal: Principal) -> tuple[str, Decider]:
        """The decider for `model`, and its own name.

        Raises NotFound (404 `model_not_found`), or InvalidRequest for an agent that makes no decisions.
        """
        return self._find_offered(self.deciders, model, principal, "This model makes no decisions.")

    def _find_offered(
        self, offered: Mapping[str, Offered], model: str, principal: Principal, otherwise: str
    ) -> tuple[str, Offered]:
        name = self._find_name(model, offered, principal)
        if name not in offered:
            raise InvalidRequest(otherwise, param="model", code="unsupported_value")
        return name, offered[name]

    def _find_name(self, model: str, offered: Mapping[str, object], principal: Principal) -> str:
        known = model in self.agents or model in self.embedders or model in self.deciders
        default = self.unknown_model == "default" and offered and not known
        name = next(iter(offered)) if default else model
        if not (known or default) or (principal.models is not None and not principal.may_use(name)):
            shown = model if len(model) <= LONGEST_QUOTED else model[:LONGEST_QUOTED] + "…"
            # In OpenAI's words, which clients' tests look for. The same error for a model that the caller may not use: nobody
            # needs to learn that it exists.
            raise NotFound(f"The model '{shown}' does not exist", code="model_not_found", param="model")
        return name


async def check_tool_names(
    backend: AgentBackend, request: AgentRequest, names: AbstractSet[str], place: Callable[[str], str]
) -> None:
    """Raise InvalidRequest if a tool of the client has the name of one of the agent's own tools.

    The client's tool would replace the agent's, and the client would write its results. `place` returns where a name was sent.
    """
    taken = sorted(names & await own_tool_names(backend, request)) if names else []
    if taken:
        text = f"This agent has a tool called '{taken[0][:LONGEST_QUOTED]}' itself: give yours another name."
        raise InvalidRequest(text, param=place(taken[0]), code="tool_name_taken")


async def own_tool_names(backend: AgentBackend, request: AgentRequest) -> frozenset[str]:
    """The tool names that the agent declares, and those of its `tool_names(request)`, if it has that method."""
    declared = backend.capabilities.own_tools
    if not isinstance(backend, SupportsToolNames):
        return declared
    try:
        named = backend.tool_names(request)
        return declared | frozenset(await named if inspect.isawaitable(named) else named)
    except Exception as error:
        raise to_public_error(error) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The parts of a server that outlive a request.

    Attributes:
        locks: locks conversations, even if none are stored for chat.
        leases: the leases of running turns in the store.
        late: work in the store that goes on although its client has its answer.
        logs: the event logs of the answers that are being made.
        maintenance: checks and sweeps the store.
        cleanup: tells agents which states they can drop.
        providers: stores the settings of providers that are changed at runtime, if any can be.
        outbox: sends webhooks about the outcome of responses.
    """

    store: Store
    locks: ConversationLocks
    leases: Leases
    late: LateWork
    logs: EventLogs
    idempotency: Idempotency
    maintenance: StoreMaintenance
    cleanup: StateCleanup
    outbox: Outbox
    providers: StoredProviders | None

    async def check_available(self) -> None:
        """Raise Unavailable (503 `store_unavailable`) if the result of an agent could not be stored."""
        if time.monotonic() > self.maintenance.answers_until and not await self.maintenance.is_available():
            raise Unavailable("The store cannot be used now.", code="store_unavailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The parts of a server that hold what is running.

    Attributes:
        runner: runs the turns of every API.
        rates: counts requests, if they are limited.
        responses: the responses that are being made.
        connection_responses: the size limits of responses that only one connection knows.
    """

    slots: Slots
    runner: TurnRunner
    rates: RateLimiter | None
    connection_responses: Shares
    responses: LiveResponses = field(default_factory=LiveResponses)


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one server. None of them belongs to a single request."""

    settings: Settings
    models: Models
    state: State
    live: Live

    def needs_run_once(self, exchange: Exchange) -> bool:
        """True if `run_once` does more than the work: replay an answer, enforce a deadline, or go on without the client."""
        return self.is_keyed(exchange) or self.state.store.shared or self.settings.disconnect.then != "cancel"

    def is_keyed(self, exchange: Exchange) -> bool:
        """True if the request may have been answered before: it has a key, or failures are replayed."""
        return self.state.idempotency.applies_to_all or KEY_HEADER in exchange.request.first

    async def check_rate(self, exchange: Exchange) -> None:
        """Count the request against its caller's rate limit. Raises RateLimited (429).

        Must be called before the agent, its conversation and its slot are looked up; a repeated answer is not counted.
        """
        if self.live.rates is not None:
            exchange.headers += await self.live.rates.count(exchange.principal)


def now() -> int:
    """Unix time in whole seconds, the unit of the wire."""
    return int(time.time())
