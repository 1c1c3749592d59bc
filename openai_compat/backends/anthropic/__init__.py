"""A Claude model, or any server that speaks the Anthropic Messages API, as an agent.

    AnthropicBackend("claude-sonnet-5")                      the key is taken from ANTHROPIC_API_KEY
    AnthropicBackend(base_url="http://localhost:8080")       the model is the one the client names

Needs the `anthropic` package, and imports it only when it is used.
"""

from .backend import AnthropicBackend

__all__ = ("AnthropicBackend",)
