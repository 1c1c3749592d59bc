"""Makes the parts of a server from its settings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from ..agents.adapt import Agent, as_backend
from ..agents.compaction import CompactingBackend, Compaction
from ..agents.decider import DecideFunction, Decider
from ..agents.embedder import Embedder, EmbedFunction
from ..backend import AgentBackend, offer_methods_of
from ..policies.auth import ApiKeys
from ..policies.authenticate import Auth, Authenticate, CallerCheck, OpenAccess
from ..policies.authenticators import first_of
from ..policies.budgets import BudgetsOf
from ..policies.chat_websocket import ChatWebSocket
from ..policies.conversations import Conversations
from ..policies.cors import Cors
from ..policies.hooks import Wrap
from ..policies.hosts import Hosts
from ..policies.keys import Keys, KeySource
from ..policies.rates import RatesOf
from ..policies.replay_failures import ReplayFailures
from ..policies.resource_metadata import ResourceMetadata
from ..state.approvals import GrantsByAsker
from ..state.conversation_locks import ConversationLocks
from ..state.degraded import LateWork
from ..state.event_log import EventLogs
from ..state.forgetting import Forgetting
from ..state.leases import Leases
from ..state.maintenance import StoreMaintenance
from ..state.outbox import Outbox
from ..state.rate_limiter import RateLimiter
from ..state.spending import Spending
from ..state.webhooks import Webhooks
from ..stores.memory import MemoryStore
from ..stores.open import open_store
from ..stores.port import Store
from ..turns.hooked_run import HookSet
from ..turns.parked_runs import ParkedRuns
from ..turns.run import TurnRunner
from ..turns.shared_slots import SharedSlots
from ..turns.slots import Admission, Slots
from .idempotency import Idempotency
from .responses.websocket.local_responses import shares_of
from .routing import Route
from .services import Live, Models, Services, Settings, State, now

if TYPE_CHECKING:  # rooms that are not entered by servers that have no use for them
    from ..providers.port import ProviderControl
    from .chat_websocket.threads import ChatThreads
    from .stored_providers import StoredProviders


def build_auth(
    keys: Keys | KeySource,
    authenticate: Authenticate | None,
    *,
    seconds: float,
    hosts: Hosts,
    cors: Cors | None,
    resource: ResourceMetadata | None,
) -> Auth:
    """What tells who may call: by which key or login, under which name, from which pages."""
    if authenticate is not None:
        asked = authenticate if keys is None else first_of(ApiKeys(keys), authenticate)
        return CallerCheck(asked, seconds, hosts, cors, None if resource is None else resource.metadata_url)
    return OpenAccess() if keys is None else ApiKeys(keys)


def build_models(
    agents: Agent | Mapping[str, Agent],
    functions: tuple[Mapping[str, EmbedFunction] | None, Mapping[str, DecideFunction] | None],
    compaction: Compaction | None,
    wrap: Sequence[Wrap],
    *,
    unknown_model: Literal["reject", "default"],
    owned_by: str,
    providers: ProviderControl | None,
) -> Models:
    """The agents as backends, by model name, and the functions beside them, which embed and decide.

    Raises TypeError for something that is no agent, or no such function.
    """
    embeddings, decisions = functions
    named = cast("Mapping[str, Agent]", agents) if isinstance(agents, Mapping) else {"agent": agents}
    if not named:
        raise ValueError("a server needs at least one agent")
    return Models(
        agents={str(name): _backend(agent, str(name), compaction, wrap) for name, agent in named.items()},
        embedders={name: Embedder(function) for name, function in (embeddings or {}).items()},
        deciders={name: Decider(function) for name, function in (decisions or {}).items()},
        unknown_model=unknown_model,
        owned_by=owned_by,
        started=now(),
        providers=providers,
    )


def _backend(agent: Agent, name: str, compaction: Compaction | None, wrap: Sequence[Wrap]) -> AgentBackend:
    backend = as_backend(agent)
    if compaction is not None and backend.capabilities.context_window is not None:
        backend = CompactingBackend(backend, compaction)
    for wrapper in reversed(wrap):
        wrapped = wrapper(backend, name)
        if not isinstance(cast("object", wrapped), AgentBackend):
            raise TypeError(f"each of wrap has to return a backend, not {wrapped!r:.100}")
        if wrapped is not backend:
            offer_methods_of(backend, wrapped)
        backend = wrapped
    return backend


def build_state(
    store: Store | str | None,
    settings: Settings,
    models: Models,
    *,
    retention: float,
    webhooks: Webhooks | Iterable[Webhooks],
    replay_failures: ReplayFailures | None,
    hooks: HookSet,
) -> State:
    """Open the store and build all that keeps state in it. Raises ValueError for the URL of no store."""
    opened = open_store(store) if isinstance(store, str) else store or MemoryStore()
    leases, late = Leases(opened, settings.deadlines.lease), LateWork()
    forgetting = Forgetting(opened, models.agents)
    conversations = settings.conversations
    # the headers that have a say in an answer: those that name its conversation, and those that agents are given
    telling = [*(conversations.headers if conversations is not None else ()), *settings.agent_headers]
    return State(
        store=opened,
        locks=_locks(conversations or Conversations(), opened, leases, late),
        leases=leases,
        late=late,
        logs=EventLogs(opened, leases.seconds),
        idempotency=Idempotency(opened, settings.deadlines.request, leases, late, telling, failures=replay_failures),
        maintenance=StoreMaintenance(opened, retention, forgetting=forgetting),
        forgetting=forgetting,
        outbox=Outbox(opened, webhooks, hooks.webhook_sent),
        providers=_stored_providers(opened, models),
    )


def _stored_providers(store: Store, models: Models) -> StoredProviders | None:
    if models.providers is None:
        return None
    from .stored_providers import StoredProviders  # noqa: PLC0415  (few servers have providers that can be changed)

    return StoredProviders(store, models.providers, models.choice, models.owned_by)


def build_live(
    settings: Settings,
    state: State,
    admission: Admission,
    rates: RatesOf | None,
    *,
    hooks: HookSet,
    budgets: BudgetsOf | None,
) -> Live:
    """Build the slots, the runner and the rate limiter."""
    limits, deadlines, shared = settings.limits, settings.deadlines, None
    if limits.shared_slots is not None:
        # Only a store with other processes has to know when one of them has died.
        shared = SharedSlots(state.store, limits.shared_slots, state.leases if state.store.shared else None)
    slots = Slots(limits, admission, shared)
    # What a caller has used is counted only where something is bounded by it: it costs a write to the store.
    counts = budgets is not None or callable(rates) or (rates is not None and rates.tokens is not None)
    return Live(
        slots=slots,
        runner=TurnRunner(
            slots,
            limits,
            deadlines,
            state.store,
            GrantsByAsker(state.store),
            ParkedRuns(limits.parked, deadlines.parked),
            hooks=hooks,
            spending=Spending(state.store, budgets, rates) if counts else None,
        ),
        rates=None if rates is None else RateLimiter(state.store, rates),
        connection_responses=shares_of(limits.body),
    )


def build_chat_websocket(
    services: Services, settings: ChatWebSocket | None, compaction: Compaction | None, wrap: Sequence[Wrap]
) -> tuple[ChatThreads | None, list[Route]]:
    """The chat WebSocket's threads: conversations of the server's store, with a rule of their own for a second turn."""
    if settings is None:
        return None, []
    from .chat_websocket.asked_turn import asker_name  # noqa: PLC0415
    from .chat_websocket.endpoint import route  # noqa: PLC0415  (APIs are imported when they are served)
    from .chat_websocket.shared_threads import SharedThreads  # noqa: PLC0415
    from .chat_websocket.threads import ChatThreads  # noqa: PLC0415

    busy, state = Conversations(busy=settings.busy, queue=settings.queue), services.state
    workflows = {name: _backend(agent, name, compaction, wrap) for name, agent in settings.workflows.items()}
    state.forgetting.agents |= {asker_name("", name): workflow for name, workflow in workflows.items()}
    threads = ChatThreads(settings, workflows, _locks(busy, state.store, state.leases, state.late), time.monotonic)
    if state.store.shared:
        threads.shared = SharedThreads(state.store, state.leases.seconds, state.late, threads)
    return threads, [route(threads)]


def _locks(settings: Conversations, store: Store, leases: Leases, late: LateWork) -> ConversationLocks:
    return ConversationLocks(settings, store, leases if store.shared else None, late)
