"""A Claude model, or any server that speaks the Anthropic Messages API, as an agent.

    AnthropicBackend("claude-sonnet-5")                      the key is taken from ANTHROPIC_API_KEY
    AnthropicBackend(base_url="http://localhost:8080")       the model is the one the client names

Needs the `anthropic` package, which is imported when a backend without a ready client is made.
"""

from .backend import AnthropicBackend

__all__ = ("AnthropicBackend",)
