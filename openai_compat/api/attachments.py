"""Resolves the uploaded files that a request names by id into what agents can read: bytes, name and media type."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from ..agent_request import AgentRequest
from ..backend import Capabilities
from ..errors import InvalidRequest
from ..messages import FilePart, ImagePart, InputPart, Message, TextPart, ToolMessage, UserMessage
from ..stores.port import Key, StoredFile
from ..wire.serialize_messages import chat_message
from .services import Services

Places: TypeAlias = Mapping[str, str]
"""Where a request names files: `param` by file id. All other files are named in earlier messages."""

Fields: TypeAlias = dict[str, Any]


async def attach(
    services: Services, request: AgentRequest, can: Capabilities, find_places: Callable[[], Places]
) -> AgentRequest:
    """Replace file ids in the request with the files themselves: images as images, for agents that accept them.

    The stored conversation keeps the ids. A file of an earlier request that was deleted since, or exceeds the limit, is
    replaced by a text that says so. Raises InvalidRequest if a file that this request names does not exist
    (`file_not_found`), is not supported by the agent, or exceeds the limit (`attachments_too_large`).
    """
    named = [identifier for message in request.messages for identifier in _file_ids(message)]
    # Most requests name no file, so there are no places to look for.
    if not named:
        return request
    places = find_places()
    files = await _load_files(services, request.principal.id, named, places)
    _check_supported(files, can, places)
    replacer = _FileReplacer(files, can)
    messages = tuple([replacer.replace_in_message(message) for message in request.messages])
    raw = [
        chat if now is then else {**chat, "content": chat_message(now)["content"]}
        for chat, now, then in zip(request.raw_messages, messages, request.messages, strict=True)
    ]
    items = None if request.raw_items is None else [replacer.replace_in_item(item) for item in request.raw_items]
    return replace(request, messages=messages, raw_messages=raw, raw_items=items)


def message_places(messages: Sequence[Message]) -> Places:
    """Where the messages of a chat request first name each file."""
    places: dict[str, str] = {}
    for index, message in enumerate(messages):
        for position, part in enumerate(message.parts if isinstance(message, UserMessage) else ()):
            if isinstance(part, FilePart) and part.file_id is not None:
                places.setdefault(part.file_id, f"messages[{index}].content[{position}]")
        for part in message.media if isinstance(message, ToolMessage) else ():
            if isinstance(part, FilePart) and part.file_id is not None:
                places.setdefault(part.file_id, f"messages[{index}].content")
    return places


def item_places(items: Sequence[Fields]) -> Places:
    """Where the items of a Responses request first name each file."""
    places: dict[str, str] = {}
    for index, item in enumerate(items):
        for name in ("content", "output"):
            for position, part in enumerate(_parts(item, name)):
                if isinstance(part.get("file_id"), str):
                    places.setdefault(part["file_id"], f"input[{index}].{name}[{position}]")
    return places


@dataclass(frozen=True, slots=True)
class _File:
    """A file with its bytes as a `data:` URL."""

    known: StoredFile
    url: str

    @property
    def is_picture(self) -> bool:
        return self.known.media_type.startswith("image/")


async def _load_files(services: Services, principal: str, named: Sequence[str], places: Places) -> dict[str, _File]:
    """Load the files that exist and fit into the limit: first the request's own, then earlier ones, newest first.

    A file counts as often as it is named.
    """
    files: dict[str, _File] = {}
    times, room = Counter(named), services.settings.limits.attachments
    own = [identifier for identifier in named if identifier in places]
    # The conversation is about the newest files, so the oldest are left out when there is no room.
    before = [identifier for identifier in reversed(named) if identifier not in places]
    for identifier in dict.fromkeys([*own, *before]):
        key = Key(principal, identifier)
        known = await services.state.store.get_file(key)
        size = 0 if known is None else known.size * times[identifier]
        if size > room and identifier in places:
            text = f"The files of a request can have {services.settings.limits.attachments} bytes together."
            raise InvalidRequest(text, param=places[identifier], code="attachments_too_large")
        content = await services.state.store.file_content(key) if known is not None and size <= room else None
        if known is not None and content is not None:
            files[identifier] = _File(known, f"data:{known.media_type};base64,{b64encode(content).decode()}")
            room -= size
        elif identifier in places:
            raise InvalidRequest("No file has this id.", param=places[identifier], code="file_not_found")
    return files


def _check_supported(files: Mapping[str, _File], can: Capabilities, places: Places) -> None:
    for identifier, file in files.items():
        if identifier in places and not _is_supported(file, can):
            place = places[identifier]
            text = f"This agent does not support '{place}'."
            raise InvalidRequest(text, param=place, code="unsupported_parameter")


def _is_supported(file: _File, can: Capabilities) -> bool:
    return can.files or (can.vision and file.is_picture)


@dataclass(frozen=True, slots=True)
class _FileReplacer:
    """Replaces file ids with the files."""

    files: Mapping[str, _File]
    can: Capabilities

    def replace_in_message(self, message: Message) -> Message:
        """The message with its files; the same object if it names none."""
        if not _file_ids(message):
            return message
        if isinstance(message, UserMessage):
            return replace(message, parts=tuple([self._replace_part(part) for part in message.parts]))
        assert isinstance(message, ToolMessage)
        parts = [self._replace_part(part) for part in message.media]
        lost = [part.text for part in parts if isinstance(part, TextPart)]
        media = tuple([part for part in parts if not isinstance(part, TextPart)])
        return replace(message, text="\n".join([message.text, *lost]), media=media)

    def _replace_part(self, part: InputPart) -> InputPart:
        # A part that carries its data needs no stored file.
        if not isinstance(part, FilePart) or part.file_id is None or part.file_data is not None:
            return part
        file = self._find_file(part.file_id)
        if file is None:
            return TextPart(_unavailable_text(part.file_id))
        if file.is_picture and self.can.vision:
            return ImagePart(file.url)
        return FilePart(file.url, filename=part.filename or file.known.filename)

    def replace_in_item(self, item: Fields) -> Fields:
        """The item with its files; the same object if it names none."""
        lists = {name: parts for name in ("content", "output") if (parts := _parts(item, name))}
        changed = {name: [self._replace_field(part) for part in parts] for name, parts in lists.items()}
        return item if changed == lists else {**item, **changed}

    def _replace_field(self, part: Fields) -> Fields:
        identifier = part.get("file_id")
        if part.get("type") not in ("input_file", "input_image") or not isinstance(identifier, str):
            return part
        if part.get("file_data") is not None or part.get("image_url") is not None:
            return part
        file = self._find_file(identifier)
        if file is None:
            return {"type": "input_text", "text": _unavailable_text(identifier)}
        if file.is_picture and self.can.vision:
            return {"type": "input_image", "image_url": file.url, "detail": part.get("detail") or "auto"}
        filename = part.get("filename") or file.known.filename
        return {"type": "input_file", "file_data": file.url, "filename": filename}

    def _find_file(self, identifier: str) -> _File | None:
        """None for a file that was left out, or that this agent, unlike an earlier one, does not support."""
        file = self.files.get(identifier)
        return file if file is not None and _is_supported(file, self.can) else None


def _file_ids(message: Message) -> Sequence[str]:
    """The ids of the files that a message names. Most messages name none, and histories are long."""
    if isinstance(message, UserMessage):
        parts = message.parts
    elif isinstance(message, ToolMessage):
        parts = message.media
    else:
        return ()
    files = [part for part in parts if type(part) is FilePart]
    return [part.file_id for part in files if part.file_id is not None and part.file_data is None] if files else ()


def _parts(item: Fields, name: str) -> list[Fields]:
    """The list of parts in this field; empty if it holds anything else."""
    found = item.get(name)
    parts = cast("list[Any]", found) if isinstance(found, list) else []
    return cast("list[Fields]", parts) if all([isinstance(part, dict) for part in parts]) else []


def _unavailable_text(identifier: str) -> str:
    return f"[The file {identifier} is not available.]"
