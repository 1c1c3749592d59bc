"""The prompt of a command: the last message, or the whole conversation as text."""

from __future__ import annotations

from ...agent_request import AgentRequest
from ...messages import transcript


def last_message(request: AgentRequest) -> str:
    """The text of the last user message: the client's history and instructions never reach the command."""
    return request.prompt


def whole_conversation(request: AgentRequest) -> str:
    """The whole conversation, each message under the name of its role; a single message without the role."""
    return request.prompt if len(request.messages) == 1 else transcript(request.messages)
