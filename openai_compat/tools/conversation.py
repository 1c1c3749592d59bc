"""The conversation of a tool loop: typed messages and chat API messages, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter

from ..agent_request import AgentRequest
from ..messages import AssistantMessage, Message, TextPart, ToolCall, ToolMessage, UserMessage
from ..wire.chat.request_types import MessageParam
from ..wire.conversation_rules import parse_messages
from ..wire.serialize_messages import chat_message, raw_call

_MESSAGES = TypeAdapter(list[MessageParam], config=ConfigDict(defer_build=True))

RawMessage = dict[str, Any]
T = TypeVar("T")


class LoopConversation:
    """The request's messages, and the messages that the turn adds.

    Attributes:
        typed: the messages.
        raw: the same messages as plain dicts.
        grown: True once a message was added.
    """

    def __init__(self, request: AgentRequest) -> None:
        self.typed: list[Message] = list(request.messages)
        self.raw: list[RawMessage] = list(request.raw_messages)
        self.grown = False
        self._later_typed: list[Message] = []
        self._later_raw: list[RawMessage] = []

    @property
    def users(self) -> int:
        """The number of the user's messages."""
        return sum([isinstance(message, UserMessage) for message in self.typed])

    @property
    def call_ids(self) -> set[str]:
        """The ids of all calls."""
        answers = [message for message in self.typed if isinstance(message, AssistantMessage)]
        return {call.call_id for message in answers for call in message.tool_calls}

    def add(self, message: AssistantMessage | ToolMessage) -> None:
        """Append an answer of the model, or a tool result."""
        self.grown = True
        self.typed.append(message)
        self.raw.append(chat_message(message) if isinstance(message, ToolMessage) else _raw_answer(message))

    def messages_since_user(self) -> list[RawMessage]:
        """Return the messages after the last user message, as plain dicts."""
        return self.raw[_turn_start(self._roles, self.users) :]

    def splice(self, messages: Sequence[RawMessage], typed: Sequence[Message], users: int) -> None:
        """Replace the client's version of a turn, which follows user message number `users`, with stored messages.

        Later user messages, and the messages after them, are held back until `add_later_messages`.
        """
        roles = ["user" if isinstance(message, UserMessage) else "" for message in self.typed]
        self.raw, self._later_raw = _splice(self.raw, self._roles, messages, users)
        self.typed, self._later_typed = _splice(self.typed, roles, typed, users)
        self.grown = True

    def add_later_messages(self) -> None:
        """Append the messages that `splice` held back."""
        self.typed += self._later_typed
        self.raw += self._later_raw
        self._later_typed, self._later_raw = [], []

    @property
    def _roles(self) -> list[str]:
        return [str(message.get("role")) for message in self.raw]


def typed_messages(messages: Sequence[RawMessage]) -> tuple[Message, ...]:
    """Parse plain dicts into messages. Raises ValidationError and InvalidRequest for invalid ones."""
    return parse_messages(_MESSAGES.validate_python(messages))


def _splice(messages: list[T], roles: list[str], new: Iterable[T], users: int) -> tuple[list[T], list[T]]:
    end = _turn_start(roles, users)
    later = next((index for index in range(end, len(roles)) if roles[index] == "user"), len(roles))
    return [*messages[:end], *new], messages[later:]


def _turn_start(roles: Sequence[str], users: int) -> int:
    """Return the start index of the turn after user message number `users`, or after the last one if there are fewer."""
    positions = [index for index, role in enumerate(roles) if role == "user"][:users]
    return positions[-1] + 1 if positions else 0


def _raw_answer(message: AssistantMessage) -> RawMessage:
    # Beside calls an empty text is null, as in OpenAI's API.
    raw: RawMessage = {"role": "assistant", "content": message.text or None}
    if message.tool_calls:
        raw["tool_calls"] = [raw_call(call) for call in message.tool_calls]
    return raw


def answer_message(text: str, calls: Sequence[ToolCall], reasoning: str) -> AssistantMessage:
    """Build a message from the model's answer of one step."""
    return AssistantMessage((TextPart(text),) if text else (), tuple(calls), reasoning or None)
