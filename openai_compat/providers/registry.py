"""The providers that a server may use: their settings, changed while it runs, and what is known of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio

from ..agent_request import AgentRequest
from ..agents.adapt import close
from ..backend import AgentBackend, Capabilities, RunContext
from ..errors import NotFound, OpenAICompatError
from ..events import AgentEvent
from .clients import Clients
from .connection import ProviderConnection, not_configured
from .port import Health, ProviderSettings
from .table import PROVIDERS


class Providers:
    """Providers by type.

    Args:
        settings: those that are configured from the start. All others can be used once their key is in the
            environment, or they are configured.
        default: the provider of models that are named without one.
        aliases: other names of models, as `provider/model`.

    Raises NotFound for a provider that does not exist.
    """

    def __init__(
        self,
        settings: Mapping[str, ProviderSettings] | None = None,
        *,
        default: str | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._clients: Clients[ProviderConnection] = Clients(
            ProviderConnection.make_client,
            is_current=lambda connection: self._connections[connection.provider.type] is connection,
        )
        self._connections = {
            name: ProviderConnection(provider, ProviderSettings(), self._clients)
            for name, provider in PROVIDERS.items()
        }
        for name, given in (settings or {}).items():
            self.configure(name, given)
        self.aliases = dict(aliases or {})
        self._default: str | None = None
        if default is not None:
            self.set_default(default)

    @property
    def default(self) -> str | None:
        """The default provider: the one that was chosen, or the first that has a key, or else can do without."""
        # Servers on this machine need no key, so they look usable though nobody runs one: they come last.
        with_key = [name for name in self.configured if self._connections[name].key is not None]
        return self._default or next(iter([*with_key, *self.configured]), None)

    def set_default(self, name: str) -> None:
        """Choose the default provider. Raises NotFound."""
        self.connection(name)
        self._default = name

    def connection(self, name: str) -> ProviderConnection:
        """A provider with its settings. Raises NotFound (404 `provider_not_found`)."""
        found = self._connections.get(name)
        if found is None:
            # Cut off: what a client sends is not echoed at length.
            raise NotFound(f"There is no provider '{name[:64]}'.", code="provider_not_found", param="provider")
        return found

    def configure(self, name: str, settings: ProviderSettings) -> None:
        """Give a provider other settings; agents that use it see them with their next turn. Raises NotFound.

        Running turns keep the old ones, whose client is closed after them, when the provider is used next.
        """
        # A new connection, not a changed one: turns that run keep the key and the URL they began with.
        self._connections[name] = ProviderConnection(self.connection(name).provider, settings, self._clients)

    @property
    def configured(self) -> Sequence[str]:
        """The types of those that can be used."""
        return [name for name, connection in self._connections.items() if connection.usable]

    def resolve(self, model: str) -> tuple[str, str | None]:
        """Provider and model of `provider/model`, an alias, or a model of the default provider. Raises AgentError."""
        model = self.aliases.get(model, model)
        name, slash, rest = model.partition("/")
        # Only a known provider counts: models have slashes in their own names (`meta-llama/llama-3`).
        if slash and name in self._connections:
            return name, rest or None
        if model in self._connections:
            return model, None
        if self.default is None:
            raise not_configured("default")
        return self.default, model

    def settings(self, name: str) -> ProviderSettings:
        """A provider's settings. Raises NotFound."""
        return self.connection(name).settings

    def backend(self, model: str, *, system: str = "", extra: Mapping[str, Any] | None = None) -> AgentBackend:
        """An agent of a model: "anthropic/claude-opus-5", an alias, or a provider, whose default model it is then.

        `system` are instructions that go before the client's messages, `extra` further arguments for the SDK. Raises
        ImportError if the SDK of a provider that can be used is not installed.
        """
        return ProviderModel(self, model, system, extra)

    async def models(self, name: str) -> Sequence[str]:
        """The models of a provider. Raises NotFound, and OpenAICompatError if it cannot say."""
        return await self.connection(name).models()

    async def health_of(self, name: str, *, fresh: bool = False) -> Health:
        """Check a provider. Raises NotFound."""
        return await self.connection(name).health(fresh=fresh)

    async def health(self, *, fresh: bool = False) -> Mapping[str, Health]:
        """Check the providers that can be used, all at once."""
        names, found = list(self.configured), dict[str, Health]()

        async def ask(name: str) -> None:
            found[name] = await self.connection(name).health(fresh=fresh)

        # At once: one that hangs would add its patience to that of all others.
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(ask, name)
        return {name: found[name] for name in names}

    async def aclose(self) -> None:
        """Close the clients of this event loop, those in use after their last turn."""
        await self._clients.aclose()


class ProviderModel:
    """Who answers is looked up for every turn, so that settings, aliases and the default may change."""

    def __init__(self, providers: Providers, model: str, system: str, extra: Mapping[str, Any] | None) -> None:
        self._providers = providers
        self._model = model
        self._system = system
        self._extra = extra
        self._made: tuple[ProviderConnection, str | None, AgentBackend] | None = None
        _ = self.capabilities  # an SDK that is not there is to be found out now

    @property
    def capabilities(self) -> Capabilities:
        """Those of the backend that it has now; what any model may have while there is none. It has no own tools to bound."""
        try:
            connection, backend = self._backend()
            return replace(backend.capabilities, security_modes=True, upstream=self._upstream(connection))
        except OpenAICompatError:
            # Agents can be listed and asked while their provider is down; the turn then fails with a 503.
            return Capabilities(security_modes=True, upstream=self._upstream(None))

    def _upstream(self, connection: ProviderConnection | None) -> str | None:
        try:
            name, model = self._providers.resolve(self._model)
        except OpenAICompatError:
            return None
        model = model or (None if connection is None else connection.settings.default_model)
        return f"{name}/{model}" if model else name

    def _backend(self) -> tuple[ProviderConnection, AgentBackend]:
        """Kept as long as it is the same one: some remember what was said."""
        name, model = self._providers.resolve(self._model)
        connection = self._providers.connection(name)
        made = self._made
        if made is None or made[:2] != (connection, model):
            made = connection, model, connection.backend(model, system=self._system, extra=self._extra)
            self._made = made
        return made[0], made[2]

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Ask the model. Raises AgentError if there is none to ask."""
        connection, backend = self._backend()
        # The settings may change during the turn: the client that it has begun with stays open until its end.
        async with connection.in_use():
            items = backend.run(request, context)
            try:
                async for item in items:
                    yield item
            finally:
                await close(items)

    async def aclose(self) -> None:
        """Close the clients of this event loop that nobody uses."""
        await self._providers.aclose()
