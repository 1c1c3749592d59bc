"""Making a request fit: the oldest part of its conversation is left out (`truncation: "auto"`)."""

from __future__ import annotations

from dataclasses import replace

from ..backend import AgentRequest
from ..messages import Message, SystemMessage, UserMessage
from ..wire.chat_messages import chat_message


def shortened(request: AgentRequest) -> AgentRequest | None:
    """The request without the older half of what was said; None if only the user's last message would be left.

    Instructions stay. What stays of the rest begins with a message of the user, so that no result is without its call.
    """
    said = [message for message in request.messages if not isinstance(message, SystemMessage)]
    users = [index for index, message in enumerate(said) if isinstance(message, UserMessage)]
    later = [index for index in users if index >= len(said) / 2]
    start = later[0] if later else users[-1] if users else 0
    if start == 0:
        return None
    dropped = {id(message) for message in said[:start]}
    messages: tuple[Message, ...] = tuple([message for message in request.messages if id(message) not in dropped])
    return replace(request, messages=messages, raw_messages=[chat_message(message) for message in messages])
