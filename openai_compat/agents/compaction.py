"""Shortens conversations before they overflow the context window of their agent."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ..agent_request import AgentRequest, ToolChoice
from ..backend import CHARACTERS_PER_TOKEN, AgentBackend, Capabilities, RunContext, offer_methods_of
from ..events import AgentEvent, Compacted, MessageBreak, TextDelta, ToolResult, UsageReported
from ..messages import AssistantMessage, Message, SystemMessage, TextPart, ToolMessage, UserMessage
from ..wire.items.parse import SUMMARY
from ..wire.reducer import BETWEEN_MESSAGES
from ..wire.serialize_messages import chat_message
from .adapt import close
from .setting_types import check_fields

TOKENS_PER_MESSAGE = 10
TOKENS_PER_PART = 1000
"""Estimated tokens of a picture or a file."""

CUT_NOTICE = "\n[The rest of this result was left out to make room.]"

Parts: TypeAlias = tuple[list[Message], list[Message], list[Message]]


@dataclass(frozen=True, slots=True)
class Compaction:
    """When and how to shorten a conversation, for agents that declare a `context_window`.

    First, long tool results before the user's last message are cut. If that is not enough, a summary replaces all
    messages before the user's last one; the summary is stored with the conversation and sent to the client.

    Attributes:
        at: the fraction of the context window that a conversation may fill.
        results: tokens that remain of a long tool result.
        summarise: makes the summary instead of the agent.
    """

    at: float = 0.7
    results: int = 500
    summarise: Callable[[AgentRequest], Awaitable[str] | str] | None = None

    def __post_init__(self) -> None:
        check_fields(self)


class CompactingBackend:
    """Wraps an agent and shortens its conversations in time. Offers the optional methods of the wrapped agent."""

    def __init__(self, agent: AgentBackend, policy: Compaction) -> None:
        self._agent = agent
        self._policy = policy
        window = agent.capabilities.context_window
        self._max_tokens = int(window * policy.at) if window is not None else sys.maxsize
        offer_methods_of(agent, self)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the wrapped agent: compaction removes none."""
        return self._agent.capabilities

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent, after a summary if needed. The conversation of a resumed turn is never shortened."""
        # A paused turn continues with call ids that only its full history has.
        if request.resume is None and conversation_tokens(request) > self._max_tokens:
            # Cutting costs nothing, while a summary is another run of the agent.
            request = _cut_results(request, self._policy.results)
            instructions, earlier, since = _split_messages(request)
            if conversation_tokens(request) > self._max_tokens and earlier:
                chunks: list[str] = []
                async for event in self._summarise(_with_messages(request, [*instructions, *earlier]), context, chunks):
                    yield event
                summary = "".join(chunks).strip()
                # Without a summary the agent gets the conversation as it is, and may refuse it.
                if summary:
                    yield Compacted(summary)
                    answer = AssistantMessage((TextPart(SUMMARY + summary),))
                    request = _with_messages(request, [*instructions, answer, *since])
        items = self._agent.run(request, context)
        try:
            async for item in items:
                yield item
        finally:
            await close(items)

    async def _summarise(
        self, request: AgentRequest, context: RunContext, chunks: list[str]
    ) -> AsyncGenerator[UsageReported]:
        """Append the summary to `chunks`; yields the token usage."""
        if self._policy.summarise is not None:
            summary = self._policy.summarise(request)
            chunks.append(await summary if inspect.isawaitable(summary) else summary)
            return
        items = self._agent.run(summary_request(request), context)
        try:
            async for item in items:
                if isinstance(item, str | TextDelta):
                    chunks.append(item if isinstance(item, str) else item.text)
                elif isinstance(item, MessageBreak | ToolResult):
                    chunks.append(BETWEEN_MESSAGES)
                # The tokens of the summary count for the turn.
                elif isinstance(item, UsageReported):
                    yield item
        finally:
            await close(items)


def conversation_tokens(request: AgentRequest) -> int:
    """Estimate the tokens of the conversation."""
    return sum([TOKENS_PER_MESSAGE + _message_tokens(message) for message in request.messages])


def _message_tokens(message: Message) -> int:
    characters, parts = len(message.text), 0
    if isinstance(message, AssistantMessage):
        characters += sum([len(call.name) + len(call.arguments) for call in message.tool_calls])
    elif isinstance(message, UserMessage):
        parts = sum([not isinstance(part, TextPart) for part in message.parts])
    elif isinstance(message, ToolMessage):
        parts = len(message.media)
    return characters // CHARACTERS_PER_TOKEN + parts * TOKENS_PER_PART


def _cut_results(request: AgentRequest, tokens: int) -> AgentRequest:
    """The request with long tool results before the user's last message cut."""
    max_characters = tokens * CHARACTERS_PER_TOKEN
    instructions, earlier, since = _split_messages(request)
    short = [
        replace(m, text=m.text[:max_characters] + CUT_NOTICE)
        if isinstance(m, ToolMessage) and len(m.text) > max_characters
        else m
        for m in earlier
    ]
    return request if short == earlier else _with_messages(request, [*instructions, *short, *since])


def _split_messages(request: AgentRequest) -> Parts:
    """Instructions, the messages before the user's last message, and the messages from there on."""
    instructions: list[Message] = [message for message in request.messages if isinstance(message, SystemMessage)]
    dialogue: list[Message] = [message for message in request.messages if not isinstance(message, SystemMessage)]
    users = [index for index, message in enumerate(dialogue) if isinstance(message, UserMessage)]
    start = users[-1] if users else len(dialogue)
    return instructions, dialogue[:start], dialogue[start:]


def _with_messages(request: AgentRequest, messages: Sequence[Message]) -> AgentRequest:
    raw = [chat_message(message) for message in messages]
    return replace(request, messages=tuple(messages), raw_messages=raw, raw_items=None)


SUMMARY_PROMPT = (
    "Summarise the conversation so far, so that it can go on from your summary alone. Keep what the user wants, what "
    "was decided, names, numbers, results of tools, and what is still to be done. Answer with the summary and nothing "
    "else."
)


def summary_request(request: AgentRequest) -> AgentRequest:
    """The request for a summary of the conversation in `request`, without tools."""
    message = UserMessage((TextPart(SUMMARY_PROMPT),))
    return replace(
        request,
        messages=(*request.messages, message),
        raw_messages=[*request.raw_messages, chat_message(message)],
        raw_items=None,
        tools=(),
        # A call made during a summary would be run, or would stay open in the conversation.
        tool_choice=ToolChoice(frozenset()),
        response_format=None,
        is_kept=False,
        state=None,
        resume=None,
        purpose="summary",
        stream=False,
    )


def drop_oldest_half(request: AgentRequest) -> AgentRequest | None:
    """The request without the older half of its messages; None if that cannot shorten the conversation.

    Instructions stay. The remaining messages begin with a user message, so that every tool result has its call.
    """
    dialogue = [message for message in request.messages if not isinstance(message, SystemMessage)]
    # Cut only before a user message: APIs refuse a tool result without its call.
    users = [index for index, message in enumerate(dialogue) if isinstance(message, UserMessage)]
    later = [index for index in users if index >= len(dialogue) / 2]
    start = later[0] if later else users[-1] if users else 0
    if start == 0:
        return None
    dropped = {id(message) for message in dialogue[:start]}
    messages: tuple[Message, ...] = tuple([message for message in request.messages if id(message) not in dropped])
    return replace(request, messages=messages, raw_messages=[chat_message(message) for message in messages])
