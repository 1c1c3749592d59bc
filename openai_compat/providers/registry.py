"""The registry of providers that a server may use: settings (changeable at run time), models and health."""

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
from .connection import ProviderConnection, not_configured_error
from .port import Health, ProviderSettings
from .table import PROVIDERS


class Providers:
    """Providers by type.

    Args:
        settings: settings of the providers configured at start. Any other provider can be used once its key is in the
            environment, or once it is configured.
        default: the provider for model names without a provider.
        aliases: alternative model names, each for a `provider/model`.

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
        for name, provider_settings in (settings or {}).items():
            self.configure(name, provider_settings)
        self.aliases = dict(aliases or {})
        self._default: str | None = None
        if default is not None:
            self.set_default(default)

    @property
    def default(self) -> str | None:
        """The default provider: the chosen one, else the first with a key, else the first that needs no key."""
        # Local servers need no key, so they look usable even if none runs: they come last.
        with_key = [name for name in self.configured if self._connections[name].key is not None]
        return self._default or next(iter([*with_key, *self.configured]), None)

    def set_default(self, name: str) -> None:
        """Choose the default provider. Raises NotFound."""
        self.connection(name)
        self._default = name

    def connection(self, name: str) -> ProviderConnection:
        """The connection of a provider. Raises NotFound (404 `provider_not_found`)."""
        found = self._connections.get(name)
        if found is None:
            # Cut off: input of a client is not echoed at length.
            raise NotFound(f"There is no provider '{name[:64]}'.", code="provider_not_found", param="provider")
        return found

    def configure(self, name: str, settings: ProviderSettings) -> None:
        """Replace a provider's settings, from the next turn of its agents on. Raises NotFound.

        Running turns keep the old settings. The old client is closed after the last of them, or at the next use of any
        provider.
        """
        # A new connection, not a changed one: running turns keep the key and the URL they began with.
        self._connections[name] = ProviderConnection(self.connection(name).provider, settings, self._clients)

    @property
    def configured(self) -> Sequence[str]:
        """The types of the providers that can be used."""
        return [name for name, connection in self._connections.items() if connection.usable]

    def resolve(self, model: str) -> tuple[str, str | None]:
        """Split `provider/model`, an alias, or a model of the default provider into provider and model. Raises AgentError."""
        model = self.aliases.get(model, model)
        name, slash, rest = model.partition("/")
        # Only a known provider counts as a prefix: model names contain slashes (`meta-llama/llama-3`).
        if slash and name in self._connections:
            return name, rest or None
        if model in self._connections:
            return model, None
        if self.default is None:
            raise not_configured_error("default")
        return self.default, model

    def settings(self, name: str) -> ProviderSettings:
        """A provider's settings. Raises NotFound."""
        return self.connection(name).settings

    def backend(self, model: str, *, system: str = "", extra: Mapping[str, Any] | None = None) -> AgentBackend:
        """Make an agent of a model: "anthropic/claude-opus-5", an alias, or a provider (for its default model).

        `system` are instructions before the client's messages, `extra` are further arguments for the SDK. Raises
        ImportError if the provider can be used but its SDK is not installed.
        """
        return ProviderModel(self, model, system, extra)

    async def models(self, name: str) -> Sequence[str]:
        """Return the models of a provider. Raises NotFound, and OpenAICompatError if the provider does not list them."""
        return await self.connection(name).models()

    async def health_of(self, name: str, *, fresh: bool = False) -> Health:
        """Check a provider. Raises NotFound."""
        return await self.connection(name).health(fresh=fresh)

    async def health(self, *, fresh: bool = False) -> Mapping[str, Health]:
        """Check the providers that can be used, all concurrently."""
        names, found = list(self.configured), dict[str, Health]()

        async def check(name: str) -> None:
            found[name] = await self.connection(name).health(fresh=fresh)

        # Concurrently: otherwise the timeouts of hanging providers would add up.
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(check, name)
        return {name: found[name] for name in names}

    async def aclose(self) -> None:
        """Close the clients of this event loop; a client in use is closed after its last turn."""
        await self._clients.aclose()


class ProviderModel:
    """A model that is resolved for every turn, so that settings, aliases and the default may change."""

    def __init__(self, providers: Providers, model: str, system: str, extra: Mapping[str, Any] | None) -> None:
        self._providers = providers
        self._model = model
        self._system = system
        self._extra = extra
        self._current: tuple[ProviderConnection, str | None, AgentBackend] | None = None
        _ = self.capabilities  # fail now if the SDK is not installed

    @property
    def capabilities(self) -> Capabilities:
        """The current backend's capabilities, or the defaults. `security_modes` is True, since a model has no own tools."""
        try:
            connection, backend = self._backend()
            return replace(backend.capabilities, security_modes=True, upstream=self._upstream_name(connection))
        except OpenAICompatError:
            # An agent stays listed while its provider is not set up; its turns fail with a 503.
            return Capabilities(security_modes=True, upstream=self._upstream_name(None))

    def _upstream_name(self, connection: ProviderConnection | None) -> str | None:
        try:
            name, model = self._providers.resolve(self._model)
        except OpenAICompatError:
            return None
        model = model or (None if connection is None else connection.settings.default_model)
        return f"{name}/{model}" if model else name

    def _backend(self) -> tuple[ProviderConnection, AgentBackend]:
        """The backend, reused while connection and model stay the same: some backends remember earlier answers."""
        name, model = self._providers.resolve(self._model)
        connection = self._providers.connection(name)
        current = self._current
        if current is None or current[:2] != (connection, model):
            current = connection, model, connection.backend(model, system=self._system, extra=self._extra)
            self._current = current
        return current[0], current[2]

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Ask the model. Raises AgentError if no provider is set up for the model."""
        connection, backend = self._backend()
        # The settings may change during the turn; `in_use` keeps its client open until the end.
        async with connection.in_use():
            items = backend.run(request, context)
            try:
                async for item in items:
                    yield item
            finally:
                await close(items)

    async def aclose(self) -> None:
        """Close the unused clients of this event loop."""
        await self._providers.aclose()
