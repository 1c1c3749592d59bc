"""What a client sends over the chat WebSocket, as JSON or MessagePack: messages, and frames of other kinds.

Fields that are not known are ignored.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import AfterValidator, Field, StringConstraints

from ...agent_request import Decision
from ...errors import InvalidRequest
from ...http import Frame
from ..chat.request_types import FunctionDefinition, WireModel
from ..json import MAX_VALUES, check_parameters, check_values, dumps, parse_object, validate
from ..messagepack import unpack_object

Fields: TypeAlias = dict[str, Any]


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable")
    return value


ThreadId = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_printable)]
FrameId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ThreadFrame(WireModel):
    """A frame about a thread. What it means without a `thread_id`, each kind of frame says itself."""

    thread_id: ThreadId | None = None


class MessageFrame(ThreadFrame):
    """A chat message: what is about the turn itself. The rest is a chat completion's request."""

    role: str
    content: str | list[dict[str, Any]]
    model: str | None = None
    provider: str | None = None
    workflow_id: str | None = None
    tools: list[Any] | dict[str, Any] | None = None


class StopFrame(ThreadFrame):
    """Ends the turns of a thread; without `thread_id`, of the one that the connection used last."""


class PingFrame(WireModel):
    """Asks for a `pong`, which comes even if the key is not good any more."""


class ManifestFrame(WireModel):
    """The tools that this client runs, in place of those it named before."""

    tools: Annotated[list[FunctionDefinition], Field(max_length=1024)]


class ToolResultFrame(ThreadFrame):
    """What a tool of the client's has answered."""

    tool_call_id: FrameId
    ok: bool = True
    result: Any = None
    error: Any = None


class ApprovalFrame(ThreadFrame):
    """What somebody decided about a tool call."""

    approval_id: FrameId
    decision: Literal["allow-once", "allow-always", "deny"]
    reason: str | None = None
    arguments: str | dict[str, Any] | None = None
    pattern: str | None = None
    model: str | None = None


class ResumeFrame(WireModel):
    """Follow a thread, from the frame after this one. 0, or nothing, is a page that has shown no frame yet."""

    thread_id: ThreadId
    last_seq: Annotated[int, Field(le=2**53)] = 0


class ListTurnsFrame(WireModel):
    """Asks for the caller's running turns, those of other connections too."""


class SetModeFrame(WireModel):
    """Which kind of frames the client wants, whatever it sends."""

    mode: Literal["binary", "text"]


FrameModel: TypeAlias = (
    MessageFrame
    | StopFrame
    | PingFrame
    | ManifestFrame
    | ToolResultFrame
    | ApprovalFrame
    | ResumeFrame
    | ListTurnsFrame
    | SetModeFrame
)

CONTROLS: Mapping[str, type[FrameModel]] = {
    "message": MessageFrame,
    "chat_message": MessageFrame,
    "stop": StopFrame,
    "ping": PingFrame,
    "client_tools_manifest": ManifestFrame,
    "tool_result": ToolResultFrame,
    "approval_response": ApprovalFrame,
    "resume_chat": ResumeFrame,
    "list_chat_turns": ListTurnsFrame,
    "set_mode": SetModeFrame,
}

NOT_FOR_CHAT = frozenset(
    [
        "type",
        "id",
        "thread_id",
        "user_id",
        "model",
        "provider",
        "workflow_id",
        "tools",
        "messages",
        "created_at",
        "stream",
        "stream_options",
        "n",
        "store",
    ]
)
"""Fields of a message that no chat completion's request gets from it: who the user is, is for the key to say."""

OF_MESSAGE = ("role", "content", "name", "tool_calls", "tool_call_id")
FROM_NODETOOL = {"image": "image/png", "audio": "audio/wav", "document": "application/pdf"}
"""Parts with the media in a field of their own name, and what it is taken for if it does not say."""


@dataclass(frozen=True, slots=True)
class Say:
    """A chat message, as the body of a chat completion's request.

    `names` are the client's tools that may be called, None for all of them. `size` is the frame's.
    """

    frame: MessageFrame
    body: Fields
    names: frozenset[str] | None
    size: int

    def offered(self, manifest: Sequence[Fields]) -> list[Fields]:
        """The client's tools for this message: those that it describes, and those of the manifest."""
        described = cast("list[Fields]", self.body["tools"])
        called = [tool for tool in manifest if self.names is None or tool["function"]["name"] in self.names]
        names: set[Any] = {cast("Fields", t.get("function") or t.get("custom") or {}).get("name") for t in described}
        # A tool that the message brings itself is newer than one of the same name in the manifest.
        return [*described, *[tool for tool in called if tool["function"]["name"] not in names]]


Command: TypeAlias = (
    Say
    | StopFrame
    | PingFrame
    | ManifestFrame
    | ToolResultFrame
    | ApprovalFrame
    | ResumeFrame
    | ListTurnsFrame
    | SetModeFrame
)


def parse_frame(frame: Frame, values: int = MAX_VALUES) -> Command:
    """Parse a frame of at most so many values. Raises InvalidRequest."""
    if isinstance(frame, bytes):
        kind, fields = _opened(unpack_object(frame, values))
    else:
        # Half a character is left to the parser, which says what is wrong with it.
        data = frame.encode("utf-8", "surrogatepass")
        check_values(data, values)
        kind, fields = _opened(parse_object(data))
    if kind is None and "role" not in fields and "content" not in fields:
        raise InvalidRequest("Missing required parameter: 'type'.", param="type", code="missing_required_parameter")
    # A message may come without a type: `{"role": …, "content": …}`.
    model = CONTROLS.get("message" if kind is None else kind) if kind is None or isinstance(kind, str) else None
    if model is None:
        raise InvalidRequest("Invalid value for 'type': there is no such frame.", param="type", code="invalid_value")
    parsed = validate(model, fields)
    if isinstance(parsed, ManifestFrame):
        check_parameters([(f"tools[{i}].parameters", tool.parameters) for i, tool in enumerate(parsed.tools)])
    return _say(parsed, fields, len(frame)) if isinstance(parsed, MessageFrame) else cast("Command", parsed)


def _opened(fields: Fields) -> tuple[Any, Fields]:
    """The kind of a frame and its fields, which may be in an envelope: `{"command": …, "data": {…}}`."""
    if "command" not in fields:
        return fields.get("type"), fields
    data = fields.get("data", {})
    if not isinstance(data, dict):
        raise InvalidRequest("Invalid value for 'data': should be an object.", param="data", code="invalid_type")
    return fields["command"], cast("Fields", data)


def decision(frame: ApprovalFrame) -> Decision:
    """The decision in an `approval_response`."""
    arguments = frame.arguments
    return Decision(
        approved=frame.decision != "deny",
        reason=frame.reason,
        arguments=arguments if arguments is None or isinstance(arguments, str) else dumps(arguments).decode(),
        always=frame.decision == "allow-always",
        pattern=frame.pattern,
    )


def tool_output(frame: ToolResultFrame) -> str:
    """A tool's result as the agent reads it."""
    value = frame.result if frame.ok else {"error": frame.error}
    return value if isinstance(value, str) else dumps(_without_bytes(value)).decode()


def _say(frame: MessageFrame, fields: Fields, size: int) -> Say:
    names, offered = _tools(frame.tools)
    message = {name: fields[name] for name in OF_MESSAGE if fields.get(name) is not None}
    if isinstance(frame.content, list):
        message["content"] = [_part(part, f"content[{index}]") for index, part in enumerate(frame.content)]
    others = {k: v for k, v in fields.items() if k not in NOT_FOR_CHAT and k not in OF_MESSAGE and v is not None}
    body = {**_without_bytes(others), "messages": [message], "stream": True, "tools": offered}
    return Say(frame, body, names, size)


def _tools(value: Sequence[Any] | Mapping[str, Any] | None) -> tuple[frozenset[str] | None, list[Any]]:
    """The names among a message's `tools`, and those that it describes as chat completions do."""
    if value is None:
        return None, []
    names: list[str] = []
    described: list[Any] = []
    for index, tool in enumerate(value):
        fields = cast("Fields", tool) if isinstance(tool, dict) else {"name": tool}
        # NodeTool sends names of tools that it has described before; others describe them in each message.
        if "function" in fields or "custom" in fields:
            described.append(fields)
        elif isinstance(fields.get("name"), str):
            names.append(fields["name"])
        else:
            raise InvalidRequest("A tool needs a name.", param=f"tools[{index}].name", code="invalid_type")
    # A list of descriptions alone takes nothing from the manifest away.
    return (frozenset(names) if names or not described else None), described


def _part(part: Fields, where: str) -> Fields:
    """A part of a message as chat completions have it; NodeTool has media in a field of its own, as bytes too."""
    for kind, media_type in FROM_NODETOOL.items():
        media = part.get(kind)
        if isinstance(media, dict):
            return _media(kind, cast("Fields", media), media_type, where)
    return cast("Fields", _without_bytes(part))


def _media(kind: str, media: Fields, media_type: str, where: str) -> Fields:
    data, uri = media.get("data"), media.get("uri")
    media_type = media["mimeType"] if isinstance(media.get("mimeType"), str) else media_type
    text = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    if not isinstance(text, str) and not isinstance(uri, str):
        raise InvalidRequest("This part has neither 'data' nor 'uri'.", param=f"{where}.{kind}", code="invalid_value")
    url = f"data:{media_type};base64,{text}" if isinstance(text, str) else str(uri)
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "document":
        return {"type": "file", "file": {"file_data": url, "filename": str(media.get("filename") or "document")}}
    if not isinstance(text, str):
        raise InvalidRequest("Speech has to be sent as 'data'.", param=f"{where}.{kind}", code="unsupported_value")
    return {"type": "input_audio", "input_audio": {"data": text, "format": media_type.rpartition("/")[2]}}


def _without_bytes(value: Any) -> Any:
    """The same with bytes, which only MessagePack has, as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _without_bytes(item) for key, item in cast("Fields", value).items()}
    if isinstance(value, list):
        return [_without_bytes(item) for item in cast("list[Any]", value)]
    return value
