"""The providers that a server may use: their settings, changed while it runs, and what is known of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import anyio

from ..backend import AgentBackend, AgentRequest, Capabilities, RunContext
from ..callables import close
from ..errors import NotFound
from ..events import AgentEvent
from ..provider import Health, Settings
from .connection import ProviderConnection
from .table import PROVIDERS


class Providers:
    """Providers by type.

    Args:
        settings: those that are configured from the start. All others can be used once their key is in the
            environment, or they are configured.
        default: the provider of models that are named without one.
        aliases: other names of models, as `provider/model`.
    """

    def __init__(
        self,
        settings: Mapping[str, Settings] | None = None,
        *,
        default: str | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._connections = {name: ProviderConnection(kind, Settings()) for name, kind in PROVIDERS.items()}
        for name, given in (settings or {}).items():
            self.configure(name, given)
        self.aliases = dict(aliases or {})
        self._default = default
        if default is not None:
            self.connection(default)

    @property
    def default(self) -> str | None:
        """The default provider: the one that was chosen, or the first that can be used."""
        usable = [name for name, connection in self._connections.items() if connection.usable]
        return self._default or next(iter(usable), None)

    def set_default(self, name: str) -> None:
        """Choose the default provider. Raises NotFound."""
        self.connection(name)
        self._default = name

    def connection(self, name: str) -> ProviderConnection:
        """A provider with its settings. Raises NotFound (404 `provider_not_found`)."""
        found = self._connections.get(name)
        if found is None:
            raise NotFound(f"There is no provider '{name[:64]}'.", code="provider_not_found", param="provider")
        return found

    def configure(self, name: str, settings: Settings) -> None:
        """Give a provider other settings; agents that use it see them with their next turn. Raises NotFound."""
        self._connections[name] = ProviderConnection(self.connection(name).provider, settings)

    @property
    def configured(self) -> Sequence[str]:
        """The types of those that can be used."""
        return [name for name, connection in self._connections.items() if connection.usable]

    def resolve(self, model: str) -> tuple[str, str | None]:
        """Provider and model of `provider/model`, an alias, or a model of the default provider. Raises NotFound."""
        model = self.aliases.get(model, model)
        name, slash, rest = model.partition("/")
        if slash and name in self._connections:
            return name, rest or None
        if model in self._connections:
            return model, None
        if self.default is None:
            raise NotFound("No provider is configured.", code="provider_not_found", param="provider")
        return self.default, model

    def settings(self, name: str) -> Settings:
        """A provider's settings. Raises NotFound."""
        return self.connection(name).settings

    async def health_of(self, name: str, *, fresh: bool = False) -> Health:
        """Whether a provider answers. Raises NotFound."""
        return await self.connection(name).health(fresh=fresh)

    async def models(self, name: str) -> Sequence[str]:
        """The models of a provider. Raises NotFound, and OpenAICompatError if it cannot say."""
        return await self.connection(name).models()

    def backend(self, model: str, *, system: str = "", extra: Mapping[str, Any] | None = None) -> AgentBackend:
        """An agent of a model, such as "anthropic/claude-opus-5" or an alias."""
        return ProviderModel(self, model, system, extra)

    async def health(self, *, fresh: bool = False) -> Mapping[str, Health]:
        """Whether the providers that can be used answer, asked all at once."""
        found: dict[str, Health] = {}

        async def ask(name: str) -> None:
            found[name] = await self._connections[name].health(fresh=fresh)

        async with anyio.create_task_group() as group:
            for name in self.configured:
                group.start_soon(ask, name)
        return {name: found[name] for name in self.configured if name in found}


class ProviderModel:
    """A model by name. Which client speaks to it is looked up for every turn, so that settings may change."""

    def __init__(self, providers: Providers, model: str, system: str, extra: Mapping[str, Any] | None) -> None:
        self._providers = providers
        self._model = model
        self._system = system
        self._extra = extra
        self._made: tuple[ProviderConnection, AgentBackend] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Those of the backend that it has now."""
        return self._backend().capabilities

    def _backend(self) -> AgentBackend:
        name, model = self._providers.resolve(self._model)
        connection = self._providers.connection(name)
        if self._made is None or self._made[0] is not connection:
            self._made = connection, connection.backend(model, system=self._system, extra=self._extra)
        return self._made[1]

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Ask the model."""
        items = self._backend().run(request, context)
        try:
            async for item in items:
                yield item
        finally:
            await close(items)

    async def aclose(self) -> None:
        """Close its connections."""
        aclose: Any = getattr(self._made[1], "aclose", None) if self._made is not None else None
        if aclose is not None:
            await aclose()
