"""Making a conversation shorter: what was said so far, as a summary that the agent itself writes."""

from __future__ import annotations

from dataclasses import replace

from ..backend import AgentRequest, ToolChoice
from ..messages import TextPart, UserMessage
from ..wire.chat_messages import chat_message

ASKED = (
    "Summarise the conversation so far, so that it can go on from your summary alone. Keep what the user wants, what "
    "was decided, names, numbers, results of tools, and what is still to be done. Answer with the summary and nothing "
    "else."
)


def asking_for_summary(request: AgentRequest) -> AgentRequest:
    """The request that makes an agent sum up what `request` would have gone on with; without tools."""
    message = UserMessage((TextPart(ASKED),))
    return replace(
        request,
        messages=(*request.messages, message),
        raw_messages=[*request.raw_messages, chat_message(message)],
        raw_items=None,
        tools=(),
        tool_choice=ToolChoice(frozenset()),
        response_format=None,
        resume=None,
        purpose="summary",
        stream=False,
    )
