"""Builds the parts of a server from its settings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from ..agents.adapt import Agent, as_backend
from ..agents.compaction import CompactingBackend
from ..agents.decider import DecideFunction, Decider
from ..agents.embedder import Embedder, EmbedFunction
from ..backend import AgentBackend, offer_methods_of
from ..policies.auth import ApiKeys
from ..policies.authenticate import Auth, Authenticate, CallerCheck, Hosts, OpenAccess
from ..policies.authenticators import first_of
from ..policies.conversations import Conversations
from ..policies.keys import Keys, KeySource
from ..state.approvals import GrantsByAgent
from ..state.conversation_locks import ConversationLocks
from ..state.degraded import LateWork
from ..state.event_log import EventLogs
from ..state.leases import Leases
from ..state.maintenance import StoreMaintenance
from ..state.outbox import Outbox
from ..state.rate_limiter import RateLimiter
from ..state.spending import Spending
from ..state.state_cleanup import StateCleanup
from ..stores.memory import MemoryStore
from ..stores.open import open_store
from ..stores.port import Store
from ..turns.hooked_run import HookSet
from ..turns.parked_runs import ParkedRuns
from ..turns.run import TurnRunner
from ..turns.shared_slots import SharedSlots
from ..turns.slots import Slots
from .idempotency import Idempotency
from .responses.websocket.local_responses import shares_of
from .routing import Route
from .services import Live, Models, Services, Settings, State, now

if TYPE_CHECKING:  # packages that most servers never import
    from ..providers.port import ProviderControl
    from .chat_websocket.threads import ChatThreads
    from .stored_providers import StoredProviders


def build_auth(keys: Keys | KeySource, authenticate: Authenticate | None, settings: Settings) -> Auth:
    """Build the check of callers: their keys or logins, their names, and the origins of web pages."""
    if authenticate is not None:
        asked = authenticate if keys is None else first_of(ApiKeys(keys), authenticate)
        metadata = None if settings.resource is None else settings.resource.metadata_url
        return CallerCheck(asked, settings.deadlines.auth, Hosts(settings.hosts), settings.cors, metadata)
    return OpenAccess() if keys is None else ApiKeys(keys)


def build_models(
    agents: Agent | Mapping[str, Agent],
    embeddings: Mapping[str, EmbedFunction] | None,
    decisions: Mapping[str, DecideFunction] | None,
    providers: ProviderControl | None,
    settings: Settings,
) -> Models:
    """The agents as backends, by model name, and the embed and decide functions.

    Raises TypeError for an object that is not an agent, or not a function of the right kind.
    """
    named = cast("Mapping[str, Agent]", agents) if isinstance(agents, Mapping) else {"agent": agents}
    if not named:
        raise ValueError("a server needs at least one agent")
    return Models(
        agents={str(name): _build_backend(agent, str(name), settings) for name, agent in named.items()},
        embedders={name: Embedder(function) for name, function in (embeddings or {}).items()},
        deciders={name: Decider(function) for name, function in (decisions or {}).items()},
        unknown_model=settings.unknown_model,
        owned_by=settings.owned_by,
        started=now(),
        providers=providers,
    )


def _build_backend(agent: Agent, name: str, settings: Settings) -> AgentBackend:
    backend = as_backend(agent)
    if settings.compaction is not None and backend.capabilities.context_window is not None:
        backend = CompactingBackend(backend, settings.compaction)
    for wrapper in reversed(settings.wrap):
        wrapped = wrapper(backend, name)
        if not isinstance(cast("object", wrapped), AgentBackend):
            raise TypeError(f"each of wrap has to return a backend, not {wrapped!r:.100}")
        if wrapped is not backend:
            offer_methods_of(backend, wrapped)
        backend = wrapped
    return backend


def build_state(store: Store | str | None, models: Models, hooks: HookSet, settings: Settings) -> State:
    """Open the store and build everything that keeps state in it. Raises ValueError if no store has this URL."""
    opened = open_store(store) if isinstance(store, str) else store or MemoryStore()
    leases, late = Leases(opened, settings.deadlines.lease), LateWork()
    cleanup = StateCleanup(opened, models.agents)
    conversations = settings.conversations
    # headers that influence an answer: those that name its conversation, and those that agents receive
    telling = [*(conversations.headers if conversations is not None else ()), *settings.agent_headers]
    return State(
        store=opened,
        locks=_build_locks(conversations or Conversations(), opened, leases, late),
        leases=leases,
        late=late,
        logs=EventLogs(opened, leases.seconds),
        idempotency=Idempotency(
            opened, settings.deadlines.request, leases, late, telling, failures=settings.replay_failures
        ),
        maintenance=StoreMaintenance(opened, settings.retention, cleanup=cleanup),
        cleanup=cleanup,
        outbox=Outbox(opened, settings.webhooks, hooks.webhook_sent),
        providers=_build_stored_providers(opened, models),
    )


def _build_stored_providers(store: Store, models: Models) -> StoredProviders | None:
    if models.providers is None:
        return None
    from .stored_providers import StoredProviders  # noqa: PLC0415  (few servers have providers that can be changed)

    return StoredProviders(store, models.providers, models.choice, models.owned_by)


def build_live(state: State, hooks: HookSet, settings: Settings) -> Live:
    """Build the slots, the runner and the rate limiter."""
    limits, deadlines, shared = settings.limits, settings.deadlines, None
    budgets, rates = settings.budgets, settings.rates
    if limits.shared_slots is not None:
        # Only in a store shared with other processes does it matter that one of them has died.
        shared = SharedSlots(state.store, limits.shared_slots, state.leases if state.store.shared else None)
    slots = Slots(limits, settings.admission, shared)
    # A caller's usage is counted only where a limit needs it: counting costs a write to the store.
    counts = budgets is not None or callable(rates) or (rates is not None and rates.tokens is not None)
    return Live(
        slots=slots,
        runner=TurnRunner(
            slots,
            limits,
            deadlines,
            state.store,
            GrantsByAgent(state.store),
            ParkedRuns(limits.parked, deadlines.parked),
            hooks=hooks,
            spending=Spending(state.store, budgets, rates) if counts else None,
        ),
        rates=None if rates is None else RateLimiter(state.store, rates),
        connection_responses=shares_of(limits.body),
    )


def build_chat_websocket(services: Services) -> tuple[ChatThreads | None, list[Route]]:
    """Build the chat WebSocket's threads: conversations in the server's store, with their own rule for a second turn."""
    settings, state = services.settings.chat_websocket, services.state
    if settings is None:
        return None, []
    from .chat_websocket.connection import serve  # noqa: PLC0415  (APIs are imported when they are served)
    from .chat_websocket.shared_threads import SharedThreads  # noqa: PLC0415
    from .chat_websocket.threads import ChatThreads  # noqa: PLC0415
    from .chat_websocket.turn import asker_name  # noqa: PLC0415

    busy = Conversations(busy=settings.busy, queue=settings.queue)
    workflows = {name: _build_backend(agent, name, services.settings) for name, agent in settings.workflows.items()}
    state.cleanup.agents |= {asker_name("", name): workflow for name, workflow in workflows.items()}
    threads = ChatThreads(
        settings, workflows, _build_locks(busy, state.store, state.leases, state.late), time.monotonic
    )
    if state.store.shared:
        threads.shared = SharedThreads(state.store, state.leases.seconds, state.late, threads)
    # Browsers send the key in the query, since they cannot set headers.
    served = Route(settings.path, {}, lambda services, socket: serve(threads, services, socket), query_key=True)
    return threads, [served]


def _build_locks(settings: Conversations, store: Store, leases: Leases, late: LateWork) -> ConversationLocks:
    return ConversationLocks(settings, store, leases if store.shared else None, late)
