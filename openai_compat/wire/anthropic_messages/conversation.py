"""Converts a request's messages, which consist of blocks, to the typed messages that agents receive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from ...errors import InvalidRequest
from ...messages import (
    AssistantMessage,
    FilePart,
    ImagePart,
    InputPart,
    Message,
    SystemMessage,
    TextPart,
    Thought,
    ToolCall,
    ToolMessage,
    UserMessage,
    text_of,
)
from ..json import dumps, validate
from .request_types import (
    Base64Source,
    Block,
    ContentSource,
    ConversationMessageParam,
    DocumentBlockParam,
    FileSource,
    ImageBlockParam,
    PlainTextSource,
    RedactedThinkingBlockParam,
    SearchResultBlockParam,
    SentByClient,
    TextBlockParam,
    ThinkingBlockParam,
    ToolResultBlockParam,
    ToolUseBlockParam,
    UrlSource,
)
from .signatures import open_seal

EMPTY_ANSWER_TEXT = "(The agent said nothing.)"
"""The text of an answer that would be empty: Claude Code resends a request whose answer shows nothing."""

BILLING = "x-anthropic-billing-header:"
"""Prefix of a block that Claude Code puts before its instructions, meant for Anthropic only."""

REMINDER, REMINDER_END = "<system-reminder>", "</system-reminder>"
"""Delimiters of Claude Code's own text within a message of the user."""

MAX_DEPTH = 3
"""Maximum nesting of documents made of blocks, which may contain documents."""

Param = TypeVar("Param", bound=SentByClient)


@dataclass(slots=True)
class ConversationReader:
    """Reads the messages of one request, in order.

    Attributes:
        model: the requested model, which gets back its own signed reasoning.
        messages: the messages read so far.
        media: the path of each image or document, with its type.
        files: maps ids of uploaded files to their paths.
    """

    model: str
    messages: list[Message] = field(default_factory=list[Message])
    media: list[tuple[str, type[ImagePart | FilePart]]] = field(
        default_factory=list[tuple[str, type[ImagePart | FilePart]]]
    )
    files: dict[str, str] = field(default_factory=dict[str, str])
    _names: dict[str, str] = field(default_factory=dict[str, str])
    _places: list[str] = field(default_factory=list[str])

    def add_history(self, before: Sequence[Message]) -> None:
        """Add the stored history, which precedes the request."""
        for message in before:
            self._add(message, "thread.previous_message_id")
            if isinstance(message, AssistantMessage):
                self._names |= {call.call_id: call.name for call in message.tool_calls}

    def add_system(self, system: str | Sequence[Block] | None) -> None:
        """Add the instructions before the conversation."""
        if system is not None:
            self._add_instructions(system, "system")

    def read(self, params: Sequence[ConversationMessageParam]) -> None:
        """Read the messages. Raises InvalidRequest for malformed blocks, and for blocks that agents cannot receive."""
        last = len(params) - 1
        while last > 0 and params[last].role != "user":
            last -= 1
        for index, param in enumerate(params):
            where = f"messages[{index}]"
            if param.role == "system":
                self._add_instructions(param.content, f"{where}.content")
                continue
            blocks = [{"type": "text", "text": param.content}] if isinstance(param.content, str) else param.content
            if param.role == "user":
                self._add_user(blocks, where, last=index == last)
            else:
                self._add_assistant(blocks, where)

    def check_complete(self) -> None:
        """Raise InvalidRequest unless each call has one result, in the next message, and the assistant is not last."""
        waiting: dict[str, str] = {}
        for message, where in zip(self.messages, self._places, strict=True):
            if isinstance(message, ToolMessage):
                if waiting.pop(message.call_id, None) is None:
                    text = "Each 'tool_result' must answer a 'tool_use' of the assistant's message before it, once."
                    raise InvalidRequest(text, param=where, code="invalid_value")
            elif not isinstance(message, SystemMessage):
                _expect_answered(waiting)
            if isinstance(message, AssistantMessage):
                waiting = {call.call_id: where for call in message.tool_calls}
        _expect_answered(waiting)
        self.check_end()

    def check_end(self) -> None:
        """Raise InvalidRequest if the conversation ends with the assistant: agents cannot continue a text."""
        said = [
            (m, where) for m, where in zip(self.messages, self._places, strict=True) if not isinstance(m, SystemMessage)
        ]
        if not said:
            raise InvalidRequest("No user message found in 'messages'.", param="messages")
        if isinstance(said[-1][0], AssistantMessage):
            text = "The conversation must end with a user message: this server takes no prefilled answers."
            raise InvalidRequest(text, param=said[-1][1], code="prefill_not_supported")

    def _add(self, message: Message, where: str) -> None:
        self.messages.append(message)
        self._places.append(where)

    def _add_instructions(self, content: str | Sequence[Block], where: str) -> None:
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts = [part.text for part in self._parse_parts(blocks, where) if isinstance(part, TextPart)]
        text = "\n\n".join([text for text in texts if not text.startswith(BILLING)])
        if text.strip():
            self._add(SystemMessage(text), where)

    # user messages

    def _add_user(self, blocks: Sequence[Block], where: str, *, last: bool) -> None:
        """Add tool results, then the user's text. Text that the client has inserted becomes instructions.

        If the `last` message has nothing else, that text stays a user message: an agent needs a question.
        """
        results = [
            self._parse_result(block, f"{where}.content[{index}]")
            for index, block in enumerate(blocks)
            if block.get("type") == "tool_result"
        ]
        parts = self._parse_parts(blocks, f"{where}.content", passed_over=("tool_result",))
        texts = [part for part in parts if isinstance(part, TextPart) and part.text.startswith(REMINDER)]
        reminders = [part for part in texts if part.text.rstrip().endswith(REMINDER_END)]
        said = tuple([part for part in parts if part not in reminders])
        if results and reminders:
            # No message may come between a call and its result; after the result, an agent that resumes with results only
            # would take the reminder for a user message.
            text = "\n\n".join([results[-1][0].text, *[part.text for part in reminders]])
            results[-1] = (replace(results[-1][0], text=text), results[-1][1])
        elif reminders and (said or not last):
            self._add(SystemMessage("\n\n".join([part.text for part in reminders])), where)
            if not said:
                return
        elif reminders:
            said = tuple(reminders)
        for result, place in results:
            self._add(result, place)
        if said or not results:
            self._add(UserMessage(said or (TextPart(""),)), where)

    def _parse_result(self, block: Block, where: str) -> tuple[ToolMessage, str]:
        param = validate(ToolResultBlockParam, block, where)
        content = param.content or ""
        if isinstance(content, str):
            parts: Sequence[InputPart] = (TextPart(content),)
        else:
            parts = self._parse_parts(content, f"{where}.content")
        media = tuple([part for part in parts if not isinstance(part, TextPart)])
        name = self._names.get(param.tool_use_id, "")
        message = ToolMessage(param.tool_use_id, text_of(parts), name, media, param.is_error is True)
        return message, f"{where}.tool_use_id"

    def _parse_parts(
        self, blocks: Sequence[Block], where: str, passed_over: Sequence[str] = (), depth: int = 0
    ) -> list[InputPart]:
        if depth > MAX_DEPTH:
            raise InvalidRequest("Blocks are nested too deeply.", param=where, code="invalid_value")
        return [
            part
            for index, block in enumerate(blocks)
            if block.get("type") not in passed_over
            for part in self._parse_part(block, f"{where}[{index}]", depth)
        ]

    def _parse_part(self, block: Block, where: str, depth: int) -> Sequence[InputPart]:
        match block.get("type"):
            case "text":
                return (TextPart(validate(TextBlockParam, block, where).text),)
            case "image":
                return (self._parse_image(validate(ImageBlockParam, block, where), where),)
            case "document":
                return self._parse_document(validate(DocumentBlockParam, block, where), where, depth)
            case "search_result":
                found = validate(SearchResultBlockParam, block, where)
                text = "\n".join([part.text for part in found.content])
                return (TextPart(f"{found.title} ({found.source})\n{text}"),)
            case "tool_reference":
                return (TextPart(str(block.get("tool_name", ""))),)
            case kind:
                return (TextPart(_text_of_unknown(kind, block, where)),)

    def _parse_image(self, block: ImageBlockParam, where: str) -> InputPart:
        source = block.source
        if isinstance(source, FileSource):
            return self._file_part(source, where, None)
        self.media.append((where, ImagePart))
        return ImagePart(
            source.url if isinstance(source, UrlSource) else f"data:{source.media_type};base64,{source.data}"
        )

    def _parse_document(self, block: DocumentBlockParam, where: str, depth: int) -> Sequence[InputPart]:
        source = block.source
        match source:
            case PlainTextSource():  # every agent can read text
                return (TextPart(f"{block.title}\n\n{source.data}" if block.title else source.data),)
            case ContentSource():
                titled = (TextPart(block.title),) if block.title else ()
                if isinstance(source.content, str):
                    return (*titled, TextPart(source.content))
                return (*titled, *self._parse_parts(source.content, f"{where}.source.content", depth=depth + 1))
            case FileSource():
                return (self._file_part(source, where, block.title),)
            case UrlSource():
                self.media.append((where, FilePart))
                return (FilePart(file_url=source.url, filename=block.title),)
            case Base64Source():
                self.media.append((where, FilePart))
                data = f"data:{source.media_type};base64,{source.data}"
                return (FilePart(file_data=data, filename=block.title),)

    def _file_part(self, source: FileSource, where: str, title: str | None) -> FilePart:
        self.files.setdefault(source.file_id, where)
        return FilePart(file_id=source.file_id, filename=title)

    # assistant messages

    def _add_assistant(self, blocks: Sequence[Block], where: str) -> None:
        """Add the assistant's text, reasoning and calls. Other blocks, such as the agent's own calls, are skipped."""
        parts: list[TextPart] = []
        calls: dict[str, ToolCall] = {}
        thinking: list[str] = []
        thoughts: list[Thought] = []
        for index, block in enumerate(blocks):
            place = f"{where}.content[{index}]"
            match block.get("type"):
                case "text":
                    text = validate(TextBlockParam, block, place).text
                    parts += [TextPart(text)] if text and text != EMPTY_ANSWER_TEXT else []
                case "thinking":
                    param = validate(ThinkingBlockParam, block, place)
                    thinking += [param.thinking] if param.thinking else []
                    thoughts += self._signed_thoughts(param.thinking, param.signature)
                case "redacted_thinking":
                    data = validate(RedactedThinkingBlockParam, block, place).data
                    thoughts += self._signed_thoughts("", data, redacted=True)
                case "tool_use":
                    called = validate(ToolUseBlockParam, block, place)
                    if called.id in calls:
                        text = "Each 'tool_use' needs an id of its own."
                        raise InvalidRequest(text, param=f"{place}.id", code="invalid_value")
                    calls[called.id] = ToolCall(called.id, called.name, dumps(called.input).decode())
                    self._names[called.id] = called.name
                case _:
                    pass
        if parts or calls or thinking or thoughts:
            reasoning = "\n\n".join(thinking) or None
            said = AssistantMessage(tuple(parts), tuple(calls.values()), reasoning, thoughts=tuple(thoughts))
            self._add(said, where)

    def _signed_thoughts(self, text: str, seal: str | None, *, redacted: bool = False) -> list[Thought]:
        signature = None if seal is None else open_seal(self.model, seal)
        return [] if signature is None else [Thought(text, signature, redacted)]


def _expect_answered(waiting: dict[str, str]) -> None:
    for where in waiting.values():
        text = "Each 'tool_use' must have its 'tool_result' in the message after it."
        raise InvalidRequest(text, param=where, code="invalid_value")


def _text_of_unknown(kind: Any, block: Block, where: str) -> str:
    """Return the text of a block of unknown type. Raises InvalidRequest if it has none."""
    for name in ("text", "content"):
        if isinstance(block.get(name), str):
            return cast("str", block[name])
    shown = str(kind)[:40] if isinstance(kind, str) else "none"
    text = f"Agents cannot be given blocks of this type: '{where}.type' is '{shown}'."
    raise InvalidRequest(text, param=f"{where}.type", code="invalid_value")
