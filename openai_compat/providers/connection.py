"""One configured provider: its client, its backends, its list of models and its health check."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from ..agents.error_mapping import to_public_error
from ..backend import AgentBackend
from ..errors import AgentError, OpenAICompatError
from ..package import needs
from .clients import Clients
from .listing import model_names, models_url
from .port import Health, ProviderSettings
from .table import ProviderType

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CACHE_SECONDS = 30.0
"""Seconds for which a health check and a list of models are cached."""

PATIENCE = 5.0
"""Timeout of a request for the list of models, in seconds."""

AZURE_API_VERSION = "2024-10-21"

UNHEALTHY_MESSAGES = {
    "upstream_timeout": f"It did not answer within {PATIENCE:g} seconds.",
    "upstream_unreachable": "It cannot be reached.",
    "upstream_unavailable": "It is overloaded or down.",
    "upstream_auth": "It refused the key.",
    "rate_limit_exceeded": "It has reached its rate limit.",
}
"""Messages for an unhealthy provider, by error code."""


class ProviderConnection:
    """A provider with its settings, which never change: new settings make a new connection."""

    def __init__(
        self, provider: ProviderType, settings: ProviderSettings, clients: Clients[ProviderConnection]
    ) -> None:
        self.provider = provider
        self.settings = settings
        self._clients = clients
        self._health: tuple[float, Health] | None = None
        self._models: tuple[float, Sequence[str]] | None = None

    @property
    def key(self) -> str | None:
        """The API key, from the settings or the environment."""
        return self.settings.api_key or next(filter(None, map(os.environ.get, self.provider.key_env)), None)

    @property
    def url(self) -> str | None:
        """The base URL, from the settings, the environment or the table; None for the SDK's default."""
        resource = self.settings.resource_name
        return (
            self.settings.base_url
            or (f"https://{resource}.openai.azure.com" if resource and self.provider.sdk == "azure" else None)
            or os.environ.get(self.provider.url_env)
            or self.provider.base_url
        )

    @property
    def unusable_reason(self) -> str | None:
        """The reason why the provider cannot be used; None if it can."""
        if not self.settings.enabled:
            return "It is switched off."
        if self.provider.needs_key and self.key is None:
            return f"It has no key: neither in its settings nor in {' or '.join(self.provider.key_env)}."
        if self.provider.sdk == "azure" and self.url is None:
            return f"It has no URL: neither resource_name nor base_url is set, nor {self.provider.url_env}."
        return None

    @property
    def usable(self) -> bool:
        """True if the provider is enabled and has its key and URL."""
        return self.unusable_reason is None

    def make_client(self) -> Any:
        """Make a client of the provider's SDK. Raises ImportError if the SDK is not installed."""
        return self._client_maker()()

    def _client_maker(self) -> Callable[[], Any]:
        """Import the SDK and return a factory of its client. Retries are off, since they would delay a fallback."""
        key = self.key or "none"  # without a key the SDK would use OPENAI_API_KEY, which is for OpenAI alone
        if self.provider.sdk == "anthropic":
            with needs(f"the provider {self.provider.type}"):
                from anthropic import AsyncAnthropic  # noqa: PLC0415  (nobody else's dependency)

            return lambda: AsyncAnthropic(api_key=key, base_url=self.url, max_retries=0)
        with needs(f"the provider {self.provider.type}", "openai"):
            from openai import AsyncAzureOpenAI, AsyncOpenAI  # noqa: PLC0415

        def make() -> AsyncOpenAI:
            if self.provider.sdk == "azure":
                version = self.settings.api_version or os.environ.get("OPENAI_API_VERSION") or AZURE_API_VERSION
                endpoint = self.url or ""
                client: AsyncOpenAI = AsyncAzureOpenAI(
                    api_key=key, azure_endpoint=endpoint, api_version=version, max_retries=0
                )
            else:
                client = AsyncOpenAI(api_key=key, base_url=self.url, max_retries=0)
            if self.provider.type != "openai":
                client.organization = client.project = None  # those in the environment are for OpenAI alone
            return client

        return make

    def backend(self, model: str | None, *, system: str = "", extra: Mapping[str, Any] | None = None) -> AgentBackend:
        """Make a backend for one of its models; run the backend within `in_use`. Raises ImportError, AgentError."""
        chosen = self._choose_model(model)
        self._client_maker()  # import now: the import takes a second, which the first turn would have to wait

        def client() -> Any:
            return self._clients.current_client(self)

        if self.provider.sdk == "anthropic":
            from ..backends.anthropic import AnthropicBackend  # noqa: PLC0415  (needs its SDK)

            return AnthropicBackend(chosen, client=client, system=system, extra=extra)
        from ..backends.openai import OpenAIBackend  # noqa: PLC0415

        return OpenAIBackend(
            chosen,
            client=client,
            system=system,
            limit_name=self.provider.limit_name,
            extra=self._create_arguments(extra),
        )

    def _choose_model(self, model: str | None) -> str:
        chosen = self.deployment or model or self.settings.default_model
        if chosen is None or not self.usable:
            raise not_configured_error(self.provider.type)
        return chosen

    @property
    def deployment(self) -> str | None:
        """Azure's deployment name, sent in place of the model name, as its API expects."""
        return self.settings.deployment_name if self.provider.sdk == "azure" else None

    def _create_arguments(self, extra: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if self.provider.stream_options:
            return extra
        from openai import omit  # noqa: PLC0415

        # Some providers refuse a request with an unknown parameter.
        return {"stream_options": omit, **(extra or {})}

    def in_use(self) -> Any:
        """A context manager that keeps the client open while a backend of this provider runs."""
        return self._clients.lend(self)

    async def models(self) -> Sequence[str]:
        """Return the names of the available models, cached. Raises OpenAICompatError if the provider does not list them."""
        if not self.provider.lists_models:
            return [name for name in [self.deployment or self.settings.default_model] if name]
        if self._models is None or time.monotonic() - self._models[0] >= CACHE_SECONDS:
            self._models = time.monotonic(), await self._request_models()
        return self._models[1]

    async def _request_models(self) -> Sequence[str]:
        """Request the list of models, even from a provider that has no such list."""
        if not self.usable:
            raise not_configured_error(self.provider.type)
        try:
            # The default timeout of the SDKs is ten minutes.
            with anyio.fail_after(PATIENCE):
                async with self.in_use() as client:
                    return model_names(await client.get(models_url(client, self.provider.models_at), cast_to=object))
        except TimeoutError as error:
            raise AgentError("The model provider timed out.", status=504, code="upstream_timeout") from error
        except Exception as error:
            raise to_public_error(error) from error

    async def health(self, *, fresh: bool = False) -> Health:
        """Check the provider by requesting its models. The result is cached; `fresh` skips the cache."""
        if self.unusable_reason is not None:
            return Health(healthy=False, message=self.unusable_reason)
        # Polling a health page must not cost a call to each provider each time.
        if fresh or self._health is None or time.monotonic() - self._health[0] >= CACHE_SECONDS:
            self._health = time.monotonic(), await self._check_health()
        return self._health[1]

    async def _check_health(self) -> Health:
        began = time.monotonic()
        try:
            self._models = began, await self._request_models()
        except OpenAICompatError as error:
            # a 404 from a provider without a list of models also shows that the provider is up
            answered = getattr(error.__cause__, "status_code", None) == 404
            if self.provider.lists_models or not answered:
                return Health(
                    healthy=False, message=UNHEALTHY_MESSAGES.get(error.code or "", "It did not answer as it should.")
                )
        return Health(healthy=True, message="It answers.", latency_ms=int((time.monotonic() - began) * 1000))


def not_configured_error(name: str) -> AgentError:
    """The error for a client if a provider is not set up. The reason is shown only to the operator."""
    text = f"The model provider '{name}' is not set up."
    return AgentError(text, status=503, code="provider_not_configured")
