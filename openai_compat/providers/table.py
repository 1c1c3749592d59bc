"""The table of providers: base URL, SDK, and the environment variables with their API keys.

All but Anthropic serve OpenAI's Chat Completions at their base URL; Azure has a separate client class in OpenAI's SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

Sdk: TypeAlias = Literal["openai", "azure", "anthropic"]


@dataclass(frozen=True, slots=True)
class ProviderType:
    """One kind of provider.

    Attributes:
        type: its name in configurations and model names (`groq/llama-3.3-70b`).
        sdk: the client that speaks its API.
        base_url: base URL of the API, None for the SDK's default.
        key_env: environment variables that may hold the key, in order of precedence.
        url_env: the environment variable that may hold another base URL; `{TYPE}_BASE_URL` by default.
        needs_key: True if the provider cannot be used without a key.
        limit_name: the request parameter that limits the length of an answer.
        stream_options: True if `stream_options` is accepted; other providers report the usage without it.
        lists_models: True if the provider can list its models.
        models_at: path of the list of models, relative to the base URL.
    """

    type: str
    sdk: Sdk = "openai"
    base_url: str | None = None
    key_env: tuple[str, ...] = ()
    url_env: str = ""
    needs_key: bool = True
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_options: bool = True
    lists_models: bool = True
    models_at: str = "models"

    def __post_init__(self) -> None:
        object.__setattr__(self, "url_env", self.url_env or f"{self.type.upper()}_BASE_URL")


_ALL = (
    # A page has twenty models by default.
    ProviderType("anthropic", "anthropic", None, ("ANTHROPIC_API_KEY",), models_at="v1/models?limit=1000"),
    # Its reasoning models refuse `max_tokens`.
    ProviderType("openai", "openai", None, ("OPENAI_API_KEY",), limit_name="max_completion_tokens"),
    ProviderType(
        "azure",
        "azure",
        None,
        ("AZURE_OPENAI_API_KEY",),
        url_env="AZURE_OPENAI_ENDPOINT",
        limit_name="max_completion_tokens",
        lists_models=False,  # requests name deployments, which its list of models does not have
    ),
    ProviderType(
        "google",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ),
    ProviderType("ollama", base_url="http://localhost:11434/v1", key_env=("OLLAMA_API_KEY",), needs_key=False),
    ProviderType("openrouter", base_url="https://openrouter.ai/api/v1", key_env=("OPENROUTER_API_KEY",)),
    ProviderType("groq", base_url="https://api.groq.com/openai/v1", key_env=("GROQ_API_KEY",)),
    ProviderType("xai", base_url="https://api.x.ai/v1", key_env=("XAI_API_KEY",)),
    ProviderType("mistral", base_url="https://api.mistral.ai/v1", key_env=("MISTRAL_API_KEY",), stream_options=False),
    ProviderType(
        "cohere",
        base_url="https://api.cohere.ai/compatibility/v1",
        key_env=("COHERE_API_KEY", "CO_API_KEY"),
        models_at="../../v1/models?endpoint=chat&page_size=1000",  # the list of Cohere's own API: the compatibility API has none
    ),
    ProviderType(
        "perplexity", base_url="https://api.perplexity.ai", key_env=("PERPLEXITY_API_KEY",), lists_models=False
    ),
    ProviderType("deepseek", base_url="https://api.deepseek.com", key_env=("DEEPSEEK_API_KEY",)),
    ProviderType("together", base_url="https://api.together.xyz/v1", key_env=("TOGETHER_API_KEY",)),
    ProviderType("cerebras", base_url="https://api.cerebras.ai/v1", key_env=("CEREBRAS_API_KEY",)),
    ProviderType("fireworks", base_url="https://api.fireworks.ai/inference/v1", key_env=("FIREWORKS_API_KEY",)),
)

PROVIDERS: Mapping[str, ProviderType] = MappingProxyType({provider.type: provider for provider in _ALL})
"""All providers by type, in the order in which they are listed."""
