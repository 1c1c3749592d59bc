"""Anthropic's Messages API: lets Claude Code and Anthropic's SDKs talk to any agent.

Server(agent, apis=[AnthropicMessages()])
"""

from .routes import AnthropicMessages

__all__ = ("AnthropicMessages",)
