"""The prompt of a command: the last message, or the whole conversation as text."""

from __future__ import annotations

from ...backend import AgentRequest
from ...messages import AssistantMessage, Message, SystemMessage, ToolMessage, UserMessage


def last_message(request: AgentRequest) -> str:
    """The text of the last user message: the client's history and instructions never reach the command."""
    return request.prompt


def transcript(request: AgentRequest) -> str:
    """The whole conversation, each message under the name of who said it; a single user message as it is."""
    if len(request.messages) == 1:
        return request.prompt
    return "\n\n".join([f"{_speaker(message)}:\n{message.text}" for message in request.messages if message.text])


def _speaker(message: Message) -> str:
    match message:
        case SystemMessage():
            return "System"
        case UserMessage():
            return "User"
        case AssistantMessage():
            return "Assistant"
        case ToolMessage():
            return f"Result of {message.name}"
