"""A model of a provider, by name, as an agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..agents.adapt import close
from ..backend import AgentBackend, AgentRequest, Capabilities, RunContext
from ..errors import OpenAICompatError
from ..events import AgentEvent
from .connection import ProviderConnection

if TYPE_CHECKING:
    from .registry import Providers


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
