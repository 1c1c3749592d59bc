"""The server: turns agents and policies into answered requests. Knows no transport; adapters bring theirs."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal

import anyio

from .agents.adapt import Agent
from .agents.compaction import Compaction
from .agents.decider import DecideFunction
from .agents.embedder import EmbedFunction
from .aio.background import drop_tracebacks
from .aio.off_loop import run_off_loop
from .aio.timers import call_soon
from .api.access_log import log_request
from .api.exchange import Exchange
from .api.request_hooks import report_refused, request_outcome
from .api.routing import Api, Public, Route
from .api.server_settings import read_settings
from .api.services import Services, logger
from .api.websocket import WebSocketConnection
from .backend import AgentBackend, SupportsClose
from .errors import NotFound, OpenAICompatError, Unavailable, UpgradeRequired
from .http import Channel, ClientDisconnected, ClientTooSlow, HasRoom, HttpRequest, Send
from .policies.auth import with_key_of_headers, with_key_of_query
from .policies.authenticate import LOOPBACK, Authenticate, Hosts, OpenAccess
from .policies.budgets import BudgetsOf
from .policies.chat_rest import ChatRest
from .policies.chat_websocket import ChatWebSocket
from .policies.conversations import Conversations
from .policies.cookies import CookieKey
from .policies.cors import Cors, check_origin, exposed_headers, is_preflight
from .policies.disconnect import Disconnect
from .policies.hooks import Hooks, RequestInfo, Wrap
from .policies.housekeeping import Housekeeping
from .policies.keys import Keys, KeySource
from .policies.limits import Deadlines, Limits
from .policies.messages import MessagePolicy
from .policies.rates import RatesOf
from .policies.replay_failures import ReplayFailures
from .policies.resource_metadata import ResourceMetadata
from .state.webhooks import Webhooks
from .stores.port import RETENTION, Store
from .turns.slots import Admission
from .wire.presentation import Visibility
from .wire.responses.serialize.stream import ResponseVisibility

if TYPE_CHECKING:  # servers without providers do not import their package
    from .providers.port import ProviderControl
    from .turns.hooked_run import HookSet

HOUSEKEEPING = Housekeeping()
COMPACTION = Compaction()

WEBHOOKS_TIMEOUT = 3.0
"""Seconds at shutdown for webhooks that are not delivered yet."""

STORE_TIMEOUT = 3.0
"""Seconds at shutdown for a slow store to release what requests hold in it."""


class Server:
    """Serves agents as models.

    Args:
        agents: one agent, served as the model "agent", or several by model name; anything that `as_backend` accepts.
        embeddings: embedding functions by model name: `def` or `async def embed(texts)`, which returns one vector per text.
        decisions: functions that answer questions about an input, by model name: `def` or `async def decide(text,
            questions)`, which returns one answer per question.
        keys: an API key, several, a mapping from keys to principals, or a source of these (`key_from_env`,
            `key_from_file`, any function). Without `keys` and `authenticate`, access is open, but only under one of `hosts`.
        authenticate: a function, plain or async, that returns the principal of a request; called after `keys`, if both are
            given.
        resource: tells clients where to get tokens, when `authenticate` refuses them.
        hosts: accepted host names while access is open; loopback names by default, "*" for all.
        public: routes that need no key: "models", and "metrics", if it exists.
        cors: web pages that may call the server; none by default.
        limits: bounds on size and number.
        budgets: token budget of each caller: `Budget`, several, or a function that returns them for a principal.
        rates: requests and tokens per minute of each caller: `Rates`, or a function that returns them for a principal.
        deadlines: bounds on time.
        admission: handling of requests when no slot is free.
        disconnect: handling of a turn whose client has disconnected.
        replay_failures: answers an identical request right after a failure with the same failure; None runs it again.
        messages: the policy of which client messages reach the agent.
        compaction: shortens conversations for agents that declare a `context_window`; None turns it off.
        unknown_model: the answer for an unknown model: "reject" is a 404, "default" is the first agent.
        visibility: display of the agents' own tool calls in chat.
        response_visibility: display of the agents' own tool calls in the Responses API.
        housekeeping: answers the requests that chat programs make for their own use; None passes them to the agent.
        conversations: stores conversations on the server; None stores none.
        store: storage of all data that outlives a request, including conversations; in memory by default. A store, or
            the URL of one (`sqlite:///state.db`), which the server opens on first use and closes.
        retention: seconds that stored data is kept after its last use.
        providers: the model providers behind the agents, for the chat API to show and change.
        webhooks: receivers of the outcomes of background responses.
        chat_rest: also serves the chat REST API; None turns it off.
        chat_websocket: also serves chat over a WebSocket, in JSON or MessagePack; None turns it off.
        hooks: hooks that are called before and after each turn, in this order.
        wrap: functions that wrap a backend, given the backend and its name, to change its turns; the first is outermost.
        apis: further APIs, each with its own routes and its own format of errors, streams and keys.
        agent_headers: names of request headers that agents get in `AgentRequest.headers`; none by default.
        page: serves a web page at `/ui/` to talk to the agents; browsers are redirected there from `/`.
        bare_paths: also answers `/chat/completions` and so on without `/v1`.
        owned_by: `owned_by` of the models.

    Raises TypeError for an unsupported agent, ValueError for contradictory settings.
    """

    def __init__(
        self,
        agents: Agent | Mapping[str, Agent],
        *,
        keys: Keys | KeySource = None,
        authenticate: Authenticate | None = None,
        resource: ResourceMetadata | None = None,
        embeddings: Mapping[str, EmbedFunction] | None = None,
        decisions: Mapping[str, DecideFunction] | None = None,
        hosts: Iterable[str] = LOOPBACK,
        public: Iterable[Public] = (),
        cors: Cors | None = None,
        limits: Limits = Limits(),
        budgets: BudgetsOf | None = None,
        rates: RatesOf | None = None,
        deadlines: Deadlines = Deadlines(),
        admission: Admission = Admission(),
        disconnect: Disconnect = Disconnect(),
        replay_failures: ReplayFailures | None = None,
        messages: MessagePolicy = MessagePolicy(),
        compaction: Compaction | None = COMPACTION,
        unknown_model: Literal["reject", "default"] = "reject",
        visibility: Visibility = "status",
        response_visibility: ResponseVisibility = "items",
        housekeeping: Housekeeping | None = HOUSEKEEPING,
        conversations: Conversations | None = None,
        store: Store | str | None = None,
        retention: float = RETENTION,
        providers: ProviderControl | None = None,
        webhooks: Webhooks | Iterable[Webhooks] = (),
        chat_rest: ChatRest | None = None,
        chat_websocket: ChatWebSocket | None = None,
        hooks: Iterable[Hooks] = (),
        wrap: Iterable[Wrap] = (),
        apis: Iterable[Api] = (),
        agent_headers: Iterable[str] = (),
        page: bool = False,
        bare_paths: bool = False,
        owned_by: str = "openai-compat",
    ) -> None:
        settings = read_settings(locals())
        # Importing the APIs at the top would double the import time of the library.
        from .api.build import build_auth, build_chat_websocket, build_live, build_models, build_state  # noqa: PLC0415
        from .api.routes import routes  # noqa: PLC0415
        from .turns.hooked_run import HookSet  # noqa: PLC0415

        self.auth = build_auth(keys, authenticate, settings)
        # A server with keys needs no host check: a page that comes by DNS rebinding has no key to send.
        self._hosts = Hosts(settings.hosts) if isinstance(self.auth, OpenAccess) else None
        self._cors = cors
        self._cookie = CookieKey(chat_rest.cookie, cors) if chat_rest is not None and chat_rest.cookie else None
        self._exposed = exposed_headers(conversations, rates, budgets)
        # A store is closed by the side that opened it.
        self.opens_store = isinstance(store, str)
        models = build_models(agents, embeddings, decisions, providers, settings)
        hook_set = HookSet(settings.hooks)
        state = build_state(store, models, hook_set, settings)
        self.services = Services(settings, models, state, build_live(state, hook_set, settings))
        self._threads, sockets = build_chat_websocket(self.services)
        self._routes = routes(settings, apis, sockets, needs_key=not isinstance(self.auth, OpenAccess))
        self.has_page = page
        self._connections: set[WebSocketConnection] = set()
        self._drained = False

    def handle(self, request: HttpRequest, send: Send, has_room: HasRoom | None = None) -> Coroutine[Any, Any, None]:
        """Answer one request. If the client disconnects (`HttpRequest.left`, or this call is cancelled), the agent is stopped.

        While `has_room` returns True no write timer is set, which makes streams cheaper.

        Raises ClientTooSlow and ClientDisconnected, upon which the adapter closes the connection; nothing else.
        """
        exchange = Exchange(request, send, f"req_{token_hex(16)}", self.services.settings.deadlines.write, has_room)
        if self._cors is not None:
            exchange.headers += self._cors.headers(request, self._exposed, cookies=self._accepts_cookie(request))
        hooks = self.services.live.runner.hooks
        return self._handle_watched(exchange, hooks) if hooks.watches_requests else self._handle(exchange)

    async def _handle_watched(self, exchange: Exchange, hooks: HookSet) -> None:
        info = RequestInfo(id=exchange.request_id, request=exchange.request)
        hooks.request_started(info)
        try:
            await self._handle(exchange)
        finally:
            hooks.request_ended(info, request_outcome(exchange, agent_started=exchange.agent_started))

    async def _handle(self, exchange: Exchange) -> None:
        first_wait = call_soon(exchange.loop, exchange.waits)  # most requests are answered before it runs
        try:
            with exchange.scope:
                try:
                    await self._answer(exchange)
                except OpenAICompatError as error:
                    await exchange.fail(error)
                except (ClientTooSlow, ClientDisconnected):
                    raise
                except Exception as error:  # a bug; an escaping exception would cost the client its connection
                    await exchange.fail(_internal_error(error, exchange.request_id))
            if exchange.scope.cancel_called:
                await exchange.cut()
        except (ClientTooSlow, ClientDisconnected) as gone:
            exchange.note = "client left" if isinstance(gone, ClientDisconnected) else type(gone).__name__
            raise
        except anyio.get_cancelled_exc_class():
            if not exchange.complete:
                exchange.note = "client left"
            raise
        finally:
            first_wait.cancel()
            exchange.close()
            self._report_end(exchange)

    def _report_end(self, exchange: Exchange) -> None:
        if exchange.refused is not None:
            report_refused(self.services.live.runner.hooks, exchange)
        if exchange.goes_on:  # the outcome of the turn is known when it ends
            exchange.on_over = log_request
        elif logger.isEnabledFor(logging.INFO):
            log_request(exchange)

    def _accepts_cookie(self, request: HttpRequest) -> bool:
        route, _ = self._routes.find(request.path)
        return self._cookie is not None and route is not None and route.cookie

    async def connect(self, request: HttpRequest, channel: Channel) -> None:
        """Serve a WebSocket until either side closes it, or refuse it. Cancel this call when the client disconnects.

        Raises ClientTooSlow, upon which the adapter closes the connection; nothing else.
        """
        route, _ = self._routes.find(request.path, request)
        if route is not None and route.query_key:
            request = with_key_of_query(request)
        connection = WebSocketConnection(
            request, channel, f"req_{token_hex(16)}", self.services.settings.deadlines.write, self.auth
        )
        if route is not None:
            connection.route = route.path
            if route.api is not None:
                connection.errors = route.api.errors
        hooks = self.services.live.runner.hooks
        if hooks.watches_requests:
            info = RequestInfo(id=connection.request_id, request=request, websocket=True)
            connection.on_answered = lambda: hooks.request_ended(info, request_outcome(connection, agent_started=False))
            hooks.request_started(info)
        self._connections.add(connection)
        try:
            with connection.scope:
                await self._serve_or_fail(connection, route)
            if connection.scope.cancel_called:
                raise ClientTooSlow
        except ClientTooSlow as gone:
            connection.note = type(gone).__name__
            raise
        except ClientDisconnected:
            pass
        finally:
            self._connections.discard(connection)
            report_refused(hooks, connection)
            connection.end()
            log_request(connection)

    async def _serve_or_fail(self, connection: WebSocketConnection, route: Route | None) -> None:
        try:
            await self._serve(connection, route)
        except OpenAICompatError as error:
            await connection.fail(error)
        except ClientDisconnected:
            raise
        except Exception as error:
            await connection.fail(_internal_error(error, connection.request_id))

    async def _serve(self, connection: WebSocketConnection, route: Route | None) -> None:
        request = connection.request
        if self._hosts is not None:
            self._hosts.check(request)
        check_origin(request, self._cors)
        await connection.authenticate()
        if route is None:
            raise self._routes.unknown_path(request.path, request.root)
        if route.socket is None:
            raise NotFound(f"There is no WebSocket at {route.shown_path}.", code="unknown_url")
        self.services.live.slots.refuse_when_closed()
        await route.socket(self.services, connection)

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        if self._cors is not None and is_preflight(request):
            # Before authentication: browsers send no key with a preflight.
            await exchange.answer(200, b"", *self._cors.preflight_headers(request))
            return
        route, arguments = self._routes.find(request.path, request)
        if route is not None:
            exchange.route = route.path
        api = self._routes.find_api(request.path) if route is None else route.api
        if api is not None:
            exchange.errors, exchange.framing = api.errors, api.framing
            if api.id_header is not None:
                exchange.headers.append((api.id_header, exchange.request_id))
        if self._hosts is not None:
            self._hosts.check(request)
        if route is None or not route.open:
            further = () if api is None else api.key_headers
            keyed = with_key_of_headers(request, further) if further else request
            cookie = self._cookie if route is not None and route.cookie else None
            keyed = keyed if cookie is None else cookie.as_header(keyed)
            exchange.principal = await self.auth.principal(keyed, exchange.request_id)
        # After authentication: a caller without a key must not learn which paths exist.
        if route is None:
            raise self._routes.unknown_path(request.path, request.root)
        if route.socket is not None and (request.header(b"upgrade") or "").lower() == "websocket":
            raise UpgradeRequired("This path speaks WebSocket, but this server, or a proxy before it, does not.")
        operation = route.operations.get(request.method) or route.operation(request.method)
        await operation.endpoint(self.services, exchange, *arguments)

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Wrap the time of serving: on exit, drain the server and close the backends that support it.

        Raises UnusableStore for a database that can never be used.
        """
        from .api.background_work import background_work  # noqa: PLC0415
        from .api.openapi import build_request_models  # noqa: PLC0415

        services = self.services
        try:
            await run_off_loop(build_request_models)
            async with background_work(services):
                yield
        finally:
            # In this order: turns use the agents, webhooks report how turns ended, and all of them write to the store.
            await self.drain(0)
            await services.live.runner.hooks.wait_settled()
            await services.state.maintenance.end()  # uses the agents' `forget`
            workflows: Mapping[str, AgentBackend] = self._threads.workflows if self._threads is not None else {}
            for name, backend in (*services.models.agents.items(), *workflows.items()):
                await self._close(f"agent {name}", backend)
            await self._close("providers", services.models.providers)
            await services.state.outbox.aclose(WEBHOOKS_TIMEOUT)
            await services.state.late.close(STORE_TIMEOUT)
            await services.live.slots.wait_released()
            if self.opens_store:
                await services.state.store.aclose()
            for hook in services.live.runner.hooks.all:
                await self._close(type(hook).__name__, hook)

    async def _close(self, name: str, closable: object) -> None:
        try:
            if isinstance(closable, SupportsClose):
                await closable.aclose()  # a failure must not keep the others open
        except Exception as error:
            logger.warning("the %s could not be closed", name, exc_info=error)

    def draining(self) -> None:
        """Accept no new turns (503 `shutting_down`, also reported by `/readyz`); running turns continue. Cannot be undone.

        For hosts that know of their shutdown before the lifespan ends: call it in the event loop, from a handler set with
        `loop.add_signal_handler` or from a route of your own. Further calls do nothing.
        """
        self.services.live.slots.close()
        for connection in self._connections:
            connection.draining.set()

    async def drain(self, seconds: float) -> None:
        """Accept no new turns, give the running ones `seconds` to end, then interrupt them."""
        if self._drained:  # an earlier call has waited already
            return
        self.draining()
        slots = self.services.live.slots
        await self.services.live.runner.parked.close()  # no later request can resume them
        with anyio.move_on_after(seconds):
            await slots.wait_unused()
        # A copy: each turn removes itself when it ends.
        for running in list(self.services.live.runner.running):
            running.interrupt(Unavailable("The server is shutting down.", code="shutting_down", should_retry=False))
        with anyio.move_on_after(self.services.settings.deadlines.grace):
            await slots.wait_unused()
            await self.services.live.responses.wait_empty()  # outcomes are stored after the agents have ended
            if self._threads is not None:
                await self._threads.wait_idle()
        self._drained = True


def _internal_error(error: Exception, request_id: str) -> OpenAICompatError:
    """Log an unexpected exception; returns the generic 500 for the client."""
    logger.error("%s: unexpected error", request_id, exc_info=error, extra={"request_id": request_id})
    drop_tracebacks(error)
    return OpenAICompatError("The server failed.", code="internal_error", should_retry=False)
