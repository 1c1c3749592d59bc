"""The policy of which client messages reach the agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import is_
from typing import Literal

from ..agent_request import AgentRequest
from ..agents.setting_types import check_fields
from ..errors import InvalidRequest
from ..messages import AssistantMessage, Message, SystemMessage, TextPart, UserMessage
from ..wire.presentation import ACTIVITY_MARK, remove_activity
from ..wire.serialize_messages import chat_message


@dataclass(frozen=True, slots=True)
class MessagePolicy:
    """Decides which of the client's messages reach the agent.

    Attributes:
        history: "full" passes on all messages, "last_user" only the newest user message.
        system: "accept" or "ignore" the client's instructions, or "reject" them with a 400.
        user: "optional" answers a conversation without user input, "required" refuses it with a 400.
    """

    history: Literal["full", "last_user"] = "full"
    system: Literal["accept", "ignore", "reject"] = "accept"
    user: Literal["optional", "required"] = "optional"

    def __post_init__(self) -> None:
        check_fields(self)

    def apply(self, request: AgentRequest) -> AgentRequest:
        """Return the request with the allowed messages. Raises InvalidRequest."""
        if request.plain and (self.history, self.system, self.user) == ("full", "accept", "optional"):
            said = [raw["content"] for raw in request.raw_messages if raw["role"] == "assistant" and raw["content"]]
            if not said or not _may_have_presentation("".join(said)):
                return request
        messages: list[Message] = list(request.messages)
        for index, message in enumerate(messages):
            if isinstance(message, AssistantMessage) and any(
                [isinstance(part, TextPart) and _may_have_presentation(part.text) for part in message.parts]
            ):
                # models would take text that we, or Open WebUI, added for their own words
                parts = [TextPart(remove_presentation(p.text)) if isinstance(p, TextPart) else p for p in message.parts]
                messages[index] = replace(message, parts=tuple(parts))
        if self.system == "reject":
            _refuse_instructions(messages)
        if self.system == "ignore":
            messages = [message for message in messages if not isinstance(message, SystemMessage)]
        # For agents that store the conversation themselves and would get earlier messages twice.
        if self.history == "last_user":
            users = [message for message in messages if isinstance(message, UserMessage)]
            messages = [*[m for m in messages if isinstance(m, SystemMessage)], *users[-1:]]
        user_parts = (
            part for message in reversed(messages) if isinstance(message, UserMessage) for part in message.parts
        )
        missing = not messages or (
            self.user == "required"
            and not any(not isinstance(part, TextPart) or part.text.strip() for part in user_parts)
        )
        if missing and request.messages:  # items that are not messages are for agents that know them
            where = "messages" if request.raw_items is None else "input"
            raise InvalidRequest(f"No user message found in '{where}'.", param=where)
        # Unchanged requests keep their raw messages as the client sent them, including unknown fields.
        if len(messages) == len(request.messages) and all(map(is_, messages, request.messages)):
            return request
        raw = [chat_message(message) for message in messages]
        return replace(request, messages=tuple(messages), raw_messages=raw)


def _refuse_instructions(messages: Sequence[Message]) -> None:
    for index, message in enumerate(messages):
        if isinstance(message, SystemMessage):
            text = "This server does not take instructions from clients."
            raise InvalidRequest(text, param=f"messages[{index}].role", code="unsupported_value")


_BLOCK, _BLOCK_END = "<details", "</details>"
_BLOCK_TYPES = ('type="tool_calls"', 'type="reasoning"', 'type="code_interpreter"')


def _may_have_presentation(text: str) -> bool:
    # The bracket first: finding one character is twenty times as fast as a word, and most histories have none.
    return ("<" in text and _BLOCK in text) or ACTIVITY_MARK in text


def remove_presentation(text: str) -> str:
    """Return assistant text without activity lines and folded blocks."""
    return remove_activity(_remove_blocks(text)) if _may_have_presentation(text) else text


def _remove_blocks(text: str) -> str:
    """Remove the blocks that Open WebUI folds, in linear time for any text."""
    kept: list[str] = []
    end = 0
    start = text.find(_BLOCK)
    while start >= 0:
        following = text.find(_BLOCK, start + len(_BLOCK))
        tag = text[start : text.find(">", start, following if following >= 0 else len(text)) + 1]
        if any([word.startswith(_BLOCK_TYPES) for word in tag.split()[1:]]):
            close = text.find(_BLOCK_END, start + len(tag))
            if close < 0:
                break
            kept.append(text[end:start])
            end = close + len(_BLOCK_END)
            while text.startswith("\n", end):
                end += 1
            following = following if following >= end else text.find(_BLOCK, end)
        start = following
    return "".join([*kept, text[end:]])
