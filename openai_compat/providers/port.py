"""The provider port: how a server reads and changes the model providers behind its agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Settings of a provider. None means the value of the table or the environment; the API key is never shown.

    Attributes:
        base_url: base URL of the API.
        default_model: the model for requests that name only the provider.
        resource_name: Azure only: the name in `https://NAME.openai.azure.com`.
        deployment_name: Azure only: the deployment that answers, for any model name.
        api_version: Azure only: the version of the API.
        enabled: False if the provider must not be used.
    """

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    default_model: str | None = None
    resource_name: str | None = None
    deployment_name: str | None = None
    api_version: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """The outcome of a provider's health check."""

    healthy: bool
    message: str
    latency_ms: int | None = None


class ProviderControl(Protocol):
    """Model providers by type ("anthropic", "groq" …). Methods raise NotFound for an unknown provider."""

    @property
    def default(self) -> str | None:
        """The provider for model names without a provider."""
        ...

    @property
    def configured(self) -> Sequence[str]:
        """The types of the providers that can be used: enabled, with their key."""
        ...

    @property
    def aliases(self) -> Mapping[str, str]:
        """Alternative model names, each for a `provider/model`."""
        ...

    def set_default(self, name: str) -> None:
        """Choose the provider for model names without a provider."""
        ...

    def settings(self, name: str) -> ProviderSettings:
        """The current settings of a provider."""
        ...

    def configure(self, name: str, settings: ProviderSettings) -> None:
        """Replace a provider's settings, from the next turn of its agents on."""
        ...

    async def health(self, *, fresh: bool = False) -> Mapping[str, Health]:
        """Check the configured providers, all concurrently; `fresh` skips the cached results."""
        ...

    async def health_of(self, name: str, *, fresh: bool = False) -> Health:
        """Check one provider; `fresh` skips the cached result."""
        ...

    async def models(self, name: str) -> Sequence[str]:
        """Return the models of a provider. Raises OpenAICompatError if the provider does not list them."""
        ...
