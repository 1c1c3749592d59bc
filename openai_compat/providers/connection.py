"""One configured provider: makes backends for its models, says which it has, and whether it answers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import anyio

from ..backend import AgentBackend
from ..failures import public_error
from ..provider import Health, Settings
from .table import ProviderType

CHECKED_FOR = 30.0
"""Seconds for which what a provider has said about itself is taken for true."""

PATIENCE = 5.0
"""Seconds in which a provider has to say that it is there."""


class ProviderConnection:
    """A provider with its settings."""

    def __init__(self, provider: ProviderType, settings: Settings) -> None:
        self.provider = provider
        self.settings = settings
        self._clients: dict[str, Any] = {}
        self._health: tuple[float, Health] | None = None
        self._models: tuple[float, Sequence[str]] | None = None

    @property
    def key(self) -> str | None:
        """Its key: the one of the settings, or the environment's."""
        found = [os.environ[name] for name in self.provider.key_env if os.environ.get(name)]
        return self.settings.api_key or next(iter(found), None)

    @property
    def usable(self) -> bool:
        """Whether it is switched on and has what it needs."""
        return self.settings.enabled and (self.key is not None or not self.provider.needs_key)

    def backend(self, model: str | None, *, system: str = "", extra: Mapping[str, Any] | None = None) -> AgentBackend:
        """An agent of one of its models. Raises ImportError if the SDK is not installed."""
        model = model or self.settings.default_model
        options: dict[str, Any] = {**self._options(), "max_retries": 0}  # who falls back, or answers 429, must not wait for retries
        if self.provider.sdk == "anthropic":
            from ..backends.anthropic import AnthropicBackend  # noqa: PLC0415  (needs its SDK)

            return AnthropicBackend(model, system=system, extra=extra, **options)
        from ..backends.openai import OpenAIBackend  # noqa: PLC0415

        if self.provider.sdk == "azure":
            return OpenAIBackend(
                model, client=self._client(), system=system, limit_name=self.provider.limit_name, extra=extra
            )
        return OpenAIBackend(model, system=system, limit_name=self.provider.limit_name, extra=extra, **options)

    def _options(self) -> dict[str, Any]:
        url = self.settings.base_url or self.provider.base_url
        return {"api_key": self.key or "none", **({} if url is None else {"base_url": url})}

    def _client(self) -> Any:
        """A client of the SDK."""
        if self.provider.sdk == "anthropic":
            from anthropic import AsyncAnthropic  # noqa: PLC0415

            return AsyncAnthropic(**self._options(), max_retries=0)
        from openai import AsyncAzureOpenAI, AsyncOpenAI  # noqa: PLC0415

        if self.provider.sdk == "azure":
            settings = self.settings
            return AsyncAzureOpenAI(
                api_key=self.key or "none",
                azure_endpoint=settings.base_url or f"https://{settings.resource_name}.openai.azure.com",
                azure_deployment=settings.deployment_name,
                api_version=settings.api_version or "2024-10-21",
                max_retries=0,
            )
        return AsyncOpenAI(**self._options(), max_retries=0)

    async def models(self) -> Sequence[str]:
        """The models that it has, asked for now and then. Raises OpenAICompatError if it cannot say."""
        if self._models is not None and time.monotonic() - self._models[0] < CHECKED_FOR:
            return self._models[1]
        if not self.provider.lists_models:
            return [self.settings.default_model] if self.settings.default_model else []
        try:
            with anyio.fail_after(PATIENCE):
                found = await self._listed()
        except Exception as error:
            raise public_error(error) from error
        self._models = time.monotonic(), found
        return found

    async def _listed(self) -> Sequence[str]:
        async with self._client() as client:
            page = await client.models.list()
            return [cast("str", model.id) for model in page.data]

    async def health(self, *, fresh: bool = False) -> Health:
        """Whether it answers: by a real call, whose outcome counts for a while unless `fresh` is wanted."""
        if not fresh and self._health is not None and time.monotonic() - self._health[0] < CHECKED_FOR:
            return self._health[1]
        health = await self._checked() if self.usable else Health(healthy=False, message=self._why_not())
        self._health = time.monotonic(), health
        return health

    def _why_not(self) -> str:
        return "It has no API key." if self.settings.enabled else "It is switched off."

    async def _checked(self) -> Health:
        if not self.provider.lists_models:
            return Health(healthy=True, message="It is configured; it has no call for asking how it is.")
        began, self._models = time.monotonic(), None
        try:
            await self.models()
        except Exception as error:
            return Health(healthy=False, message=public_error(error).message)
        return Health(healthy=True, message="It answers.", latency_ms=int((time.monotonic() - began) * 1000))
