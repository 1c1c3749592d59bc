"""The providers, as data: where their API is, which SDK speaks it, and where their key is looked for.

All but Anthropic offer OpenAI's Chat Completions at a base URL of theirs; Azure has a client of its own in OpenAI's SDK.
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
        base_url: where its API is, None for the SDK's own default.
        key_env: environment variables that may hold the key, in the order in which they are looked at.
        url_env: the environment variable that may hold another base URL; the name of its type by default.
        needs_key: whether it cannot be used without a key.
        limit_name: its name for the longest answer.
        stream_options: whether it takes `stream_options`; those that do not report the tokens used anyway.
        lists_models: whether it can say which models can be asked for.
        models_at: where it is asked that, as seen from the base URL.
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
    # Twenty at a time unless it is told otherwise.
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
        lists_models=False,  # deployments are asked for, by names that its list of models does not have
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
        models_at="../../v1/models?endpoint=chat&page_size=1000",  # its own API's: this one has none
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
"""By type, in the order in which they are listed."""
