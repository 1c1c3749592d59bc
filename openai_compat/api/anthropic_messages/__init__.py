"""Anthropic's Messages API: Claude Code and Anthropic's SDKs as clients of any agent.

Server(agent, apis=[AnthropicMessages()])
"""

from .routes import AnthropicMessages

__all__ = ("AnthropicMessages",)
