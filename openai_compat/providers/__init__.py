"""Models of fifteen providers as agents: one table, the two official SDKs and, if you like, a config file.

    providers = Providers({"groq": ProviderSettings(api_key="…"), "ollama": ProviderSettings()})
    Server({"fast": providers.backend("groq/llama-3.3-70b-versatile")}, providers=providers)

Needs the `openai` package, and `anthropic` for Anthropic's models.
"""

from .fallback import Fallback
from .port import Health, ProviderControl, ProviderSettings
from .registry import Providers
from .table import PROVIDERS, ProviderType
from .team import Team, load_team

__all__ = (
    "PROVIDERS",
    "Fallback",
    "Health",
    "ProviderControl",
    "ProviderSettings",
    "ProviderType",
    "Providers",
    "Team",
    "load_team",
)
