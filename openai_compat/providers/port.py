"""The provider port: what a server can tell, and change, of the model providers behind its agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Settings of a provider. What is None comes from the table or the environment; the key is never shown.

    Attributes:
        base_url: where its API is.
        default_model: the model of requests that name only the provider.
        resource_name: Azure's: the name in `https://NAME.openai.azure.com`.
        deployment_name: Azure's: the deployment that answers, whatever the model is called.
        api_version: Azure's.
        enabled: whether it is used at all.
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
    """Model providers by type ("anthropic", "groq" …). What names one that is not there raises NotFound."""

    @property
    def default(self) -> str | None:
        """The provider of models that are named without one."""
        ...

    @property
    def configured(self) -> Sequence[str]:
        """Those that can be used: they are switched on and have their key."""
        ...

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other names of models, each for a `provider/model`."""
        ...

    def set_default(self, name: str) -> None:
        """Choose the provider of models that are named without one."""
        ...

    def settings(self, name: str) -> ProviderSettings:
        """The settings that a provider has now."""
        ...

    def configure(self, name: str, settings: ProviderSettings) -> None:
        """Give a provider other settings; agents that use it see them with their next turn."""
        ...

    async def health(self, *, fresh: bool = False) -> Mapping[str, Health]:
        """Check the configured ones, all at once; a recent outcome counts unless `fresh`."""
        ...

    async def health_of(self, name: str, *, fresh: bool = False) -> Health:
        """Check one of them; a recent outcome counts unless `fresh`."""
        ...

    async def models(self, name: str) -> Sequence[str]:
        """The models of one of them. Raises OpenAICompatError if it cannot say."""
        ...
