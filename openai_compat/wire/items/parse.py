"""Normalizes items that clients send to the form that is stored and listed, and parses items to the agents' typed messages.

Parsing never fails on stored items.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from pydantic_core import to_json

from ...messages import (
    AssistantMessage,
    AssistantPart,
    AudioPart,
    FilePart,
    ImagePart,
    InputPart,
    Message,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
    text_of,
)
from .types import DEFAULT_FIELDS, ID_PREFIXES, OTHER_PREFIX, TYPES_WITH_STATUS, VALIDATED_TYPES

NewId: TypeAlias = Callable[[str], str]
"""Creates an id with the given prefix."""

Fields: TypeAlias = Mapping[str, Any]

# Ids appear in URLs and in the `param` of errors.
_USABLE_ID = re.compile(r"[!-~]{1,128}")

SUMMARY = "Summary of the conversation so far:\n\n"
"""Prefix of the summary that replaces a compacted conversation."""

INCOMPLETE = "incomplete"
"""The status of a truncated item; a call with this status counts as never made."""

_FOREIGN_CALLS = {
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
    "computer_call": ("computer", "action"),
}
"""Calls made only by other servers, in conversations that began there: the tool name, and the key of the arguments."""


def input_items(given: Sequence[dict[str, Any]], new_id: NewId) -> tuple[dict[str, Any], ...]:
    """Return the items with ids, statuses and part lists, as the API shows them; `given` is already validated (`ItemInput`).

    A client's id is kept if it is unique, since other items may refer to it. Items of unknown types only get an id.
    References are left unchanged.
    """
    taken: set[str] = set()
    return tuple([_normalize_item(item, taken, new_id) for item in given])


def _normalize_item(item: dict[str, Any], taken: set[str], new_id: NewId) -> dict[str, Any]:
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else "item_reference"
    if kind == "item_reference":
        return {"type": kind, "id": item["id"]}
    identity = item.get("id")
    # With two items of the same id, a reference could mean either.
    if not isinstance(identity, str) or identity in taken or not _USABLE_ID.fullmatch(identity):
        identity = new_id(ID_PREFIXES.get(kind, OTHER_PREFIX))
    taken.add(identity)
    if kind not in VALIDATED_TYPES:
        # a local shell's result carries the call id as its `id`
        by_id = {"call_id": item.get("call_id") or item.get("id")} if kind.startswith("local_shell_call") else {}
        return {**item, **_missing_fields(item, kind), **by_id, "id": identity}
    status = {"status": item.get("status") or "completed"} if kind in TYPES_WITH_STATUS else {}
    fields = {key: value for key, value in item.items() if value is not None and key not in ("id", "type", "status")}
    return {
        "id": identity,
        "type": kind,
        **status,
        **fields,
        **_missing_fields(item, kind),
        **_expand_short_forms(item, kind),
    }


def _missing_fields(item: Fields, kind: str) -> dict[str, Any]:
    return {key: value for key, value in DEFAULT_FIELDS.get(kind, {}).items() if item.get(key) is None}


def _expand_short_forms(item: Fields, kind: str) -> dict[str, Any]:
    """Expand the fields that have a short form to their full form."""
    if kind == "message":
        by_assistant = item["role"] == "assistant"
        return {
            "content": _to_part_list(item["content"], _normalize_output_part if by_assistant else _normalize_input_part)
        }
    if kind == "reasoning":
        return {"summary": item.get("summary") or []}
    if isinstance(item.get("output"), list):
        return {"output": _to_part_list(item["output"], _normalize_input_part)}
    return {}


def _to_part_list(content: str | list[Fields], normal: Callable[[Fields], dict[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(content, str):
        return [normal(part) for part in content]
    return [normal({"type": "input_text", "text": content})]


def _normalize_input_part(part: Fields) -> dict[str, Any]:
    fields = {key: value for key, value in part.items() if value is not None}
    if part["type"] == "input_image":
        # OpenAI's types require `detail` on every listed image.
        return {"detail": "auto", **fields}
    return {**fields, "type": "input_text"} if "text" in part else fields


def _normalize_output_part(part: Fields) -> dict[str, Any]:
    fields = {key: value for key, value in part.items() if value is not None}
    # OpenAI's document requires both lists in the assistant's text parts.
    return fields if part["type"] == "refusal" else {"annotations": [], "logprobs": [], **fields, "type": "output_text"}


def parse_items(items: Sequence[Fields]) -> tuple[Message, ...]:
    """Return the conversation, oldest message first.

    Consecutive reasoning, text and calls of the assistant become one message; the results of its calls directly follow it,
    wherever they were sent. Truncated calls and items of unknown types are left out. A compaction replaces everything
    before it except instructions, the last user message and what follows that message. Calls made by other servers
    (`local_shell_call` and the like) are included if they have a result.
    """
    conversation = _ItemReader()
    for item in items:
        conversation.add(item)
    return conversation.messages()


def qualified_name(name: str, namespace: str | None) -> str:
    """Return the name by which agents know a tool of a namespace."""
    return f"{namespace}__{name}" if namespace else name


def tool_of(item: Fields) -> str:
    """Return the name by which agents know the tool of a call or result; empty if unknown."""
    name = _text_field(item, "name") or _FOREIGN_CALLS.get(_text_field(item, "type"), ("", ""))[0]
    return qualified_name(name, _optional_text(item, "namespace")) if name else ""


def summary_of(item: Fields) -> str | None:
    """Return the summary in a compaction item; None if another server made it."""
    try:
        # OpenAI's encrypted content does not decode as base64 JSON.
        content = json.loads(base64.b64decode(_text_field(item, "encrypted_content"), validate=True))
    except (ValueError, RecursionError):
        return None
    return _optional_text(cast("Fields", content), "summary") if isinstance(content, dict) else None


@dataclass(slots=True)
class _Turn:
    """One assistant message under construction, with the results of its calls."""

    reasoning: list[str] = field(default_factory=list[str])
    parts: list[AssistantPart] = field(default_factory=list[AssistantPart])
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    results: list[ToolMessage] = field(default_factory=list[ToolMessage])
    waiting: set[str] = field(default_factory=set[str])
    others: set[str] = field(default_factory=set[str])
    name: str | None = None
    spoke: bool = False

    @property
    def has_only_reasoning(self) -> bool:
        return not self.spoke and not self.calls

    def messages(self) -> list[Message]:
        reasoning = "\n\n".join(self.reasoning) if self.reasoning else None
        calls = [call for call in self.calls if call.call_id not in self.others]
        # Unanswered calls of other servers are dropped: a turn with nothing else would be an empty message.
        if self.others and not (calls or self.parts or self.reasoning or self.spoke):
            return []
        return [AssistantMessage(tuple(self.parts), tuple(calls), reasoning, self.name), *self.results]


class _ItemReader:
    def __init__(self) -> None:
        self._said: list[_Turn | Message] = []
        self._called: dict[str, tuple[str, _Turn]] = {}

    def messages(self) -> tuple[Message, ...]:
        return tuple([m for one in self._said for m in (one.messages() if isinstance(one, _Turn) else (one,))])

    def add(self, item: Fields) -> None:
        match item.get("type"):
            case "message" | None:
                self._add_message(item)
            case "reasoning":
                paragraphs = _part_list(item.get("summary")) or _part_list(item.get("content"))
                texts = [part["text"] for part in paragraphs if isinstance(part.get("text"), str)]
                self._open_turn(lambda last: last.has_only_reasoning).reasoning += texts
            case "function_call":
                self._add_call(item, "function", "arguments")
            case "custom_tool_call":
                self._add_call(item, "custom", "input")
            case "function_call_output" | "custom_tool_call_output":
                self._add_result(item, input_parts(item.get("output")))
            case "local_shell_call" | "shell_call" | "apply_patch_call" | "computer_call" as kind:
                name, arguments = _FOREIGN_CALLS[kind]
                call_id = _text_field(item, "call_id")
                # Another server's tool: its result is not awaited.
                if call_id and item.get("status") != INCOMPLETE:
                    self._append_call(ToolCall(call_id, name, _to_json(item.get(arguments)))).others.add(call_id)
            case "local_shell_call_output" | "shell_call_output" | "apply_patch_call_output" | "computer_call_output":
                self._add_result(item, _foreign_output(item.get("output") or item.get("status")))
            case "compaction":
                self._replace_with_summary(summary_of(item))
            # Stored for the API's listings, but of no use to an agent.
            case _:
                pass

    def _add_message(self, item: Fields) -> None:
        content, name = item.get("content"), _optional_text(item, "name")
        match item.get("role"):
            case "assistant":
                # Reasoning belongs to the message that follows it.
                turn = self._open_turn(lambda last: last.has_only_reasoning)
                turn.parts += assistant_parts(content)
                turn.spoke, turn.name = True, turn.name if name is None else name
            case "user":
                self._said.append(UserMessage(input_parts(content), name))
            case "system" | "developer" as role:
                self._said.append(SystemMessage(text_of(input_parts(content)), role, name))
            case _:
                pass

    def _add_call(self, item: Fields, kind: Literal["function", "custom"], arguments: str) -> None:
        # The arguments of a truncated call may be partial JSON, and it was never run.
        if item.get("status") == INCOMPLETE:
            return
        deferred = item.get("async") is True
        call = ToolCall(
            _text_field(item, "call_id"), tool_of(item), _text_field(item, arguments), kind, deferred=deferred
        )
        turn = self._append_call(call)
        if not deferred:
            turn.waiting.add(call.call_id)

    def _append_call(self, call: ToolCall) -> _Turn:
        # A call after a result starts a new message: models require results directly after their calls.
        turn = self._open_turn(lambda last: not last.results)
        turn.calls.append(call)
        self._called[call.call_id] = call.name, turn
        return turn

    def _open_turn(self, joins: Callable[[_Turn], bool]) -> _Turn:
        """Return the turn to extend: the last one while it has unanswered calls or `joins` accepts it, otherwise a new one."""
        last = self._said[-1] if self._said else None
        # Chat does not allow a result after another message, so results are grouped with their calls.
        if isinstance(last, _Turn) and (last.waiting or joins(last)):
            return last
        turn = _Turn()
        self._said.append(turn)
        return turn

    def _add_result(self, item: Fields, output: tuple[InputPart, ...]) -> None:
        call_id = _text_field(item, "call_id")
        name, turn = self._called.get(call_id, ("", None))
        media = tuple([part for part in output if not isinstance(part, TextPart)])
        message = ToolMessage(call_id, text_of(output), tool_of(item) or name, media)
        if turn is not None and (call_id in turn.waiting | turn.others or turn is self._said[-1]):
            turn.waiting.discard(call_id)
            turn.others.discard(call_id)
            turn.results.append(message)
        else:
            # The call is missing or already answered: the result stays where it was sent.
            self._said.append(message)

    def _replace_with_summary(self, summary: str | None) -> None:
        # A compaction by another server cannot be read, so the earlier messages stay.
        if summary is None:
            return
        # The next turn answers the last user message, so that message stays unchanged.
        users = [index for index, one in enumerate(self._said) if isinstance(one, UserMessage)]
        since = users[-1] if users else len(self._said)
        instructions = [one for one in self._said[:since] if isinstance(one, SystemMessage)]
        self._said = [*instructions, AssistantMessage((TextPart(SUMMARY + summary),)), *self._said[since:]]


def input_parts(content: object) -> tuple[InputPart, ...]:
    """Parse a message's content or a tool's output, either text or a list of parts; unknown parts are left out."""
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple([part for part in map(_input_part, _part_list(content)) if part is not None])


def assistant_parts(content: object) -> tuple[AssistantPart, ...]:
    """Parse the content of an assistant's message; empty text yields no part."""
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    found: list[AssistantPart] = []
    for part in _part_list(content):
        if isinstance(part.get("refusal"), str):
            found.append(RefusalPart(part["refusal"]))
        elif isinstance(part.get("text"), str):
            found.append(TextPart(part["text"]))
    return tuple(found)


def _foreign_output(output: object) -> tuple[InputPart, ...]:
    """Parse the result of another server's call: text, a screenshot, or anything else as JSON text."""
    if isinstance(output, str):
        return (TextPart(output),)
    fields = _part_list([output])
    return (
        (_image_part(fields[0]),)
        if fields and _optional_text(fields[0], "image_url")
        else (TextPart(_to_json(output)),)
    )


def _input_part(part: Fields) -> InputPart | None:
    match part.get("type"):
        case "input_image":
            return _image_part(part)
        case "input_file":
            return FilePart(*[_optional_text(part, key) for key in ("file_data", "file_id", "filename", "file_url")])
        case "input_audio":
            speech = part.get("input_audio")
            if not isinstance(speech, dict):
                return None
            return AudioPart(*[_text_field(cast("Fields", speech), key) for key in ("data", "format")])
        case _:
            return TextPart(part["text"]) if isinstance(part.get("text"), str) else None


def _image_part(part: Fields) -> InputPart:
    """Parse an image; an uploaded image becomes a file part."""
    url = _optional_text(part, "image_url")
    if url is None:
        return FilePart(file_id=_optional_text(part, "file_id"))
    match part.get("detail"):
        case "low" | "high" | "original" as detail:
            return ImagePart(url, detail)
        case _:
            return ImagePart(url)


def _part_list(value: object) -> list[Fields]:
    parts = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("Fields", part) for part in parts if isinstance(part, dict)]


def _to_json(value: object) -> str:
    return to_json(value, inf_nan_mode="null").decode()


def _text_field(fields: Fields, key: str) -> str:
    return _optional_text(fields, key) or ""


def _optional_text(fields: Fields, key: str) -> str | None:
    value = fields.get(key)
    return value if isinstance(value, str) else None
