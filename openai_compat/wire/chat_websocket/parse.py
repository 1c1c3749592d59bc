"""Parses the client's frames of the chat WebSocket, JSON or MessagePack: messages and control frames.

Unknown fields are ignored.
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


def _check_printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable")
    return value


ThreadId = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_check_printable)]
FrameId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ThreadFrame(WireModel):
    """A frame about a thread. Each kind of frame defines its meaning without a `thread_id`."""

    thread_id: ThreadId | None = None


class MessageFrame(ThreadFrame):
    """A chat message: the fields about the turn itself. All other fields belong to the chat completion request."""

    role: str
    content: str | list[dict[str, Any]]
    model: str | None = None
    provider: str | None = None
    workflow_id: str | None = None
    tools: list[Any] | dict[str, Any] | None = None


class StopFrame(ThreadFrame):
    """Stops the turns of a thread; without `thread_id`, those of the thread that the connection used last."""


class PingFrame(WireModel):
    """Requests a `pong`, which is sent even if the API key is no longer valid."""


class ManifestFrame(WireModel):
    """The client's tools, replacing those of earlier manifests."""

    tools: Annotated[list[FunctionDefinition], Field(max_length=1024)]


class ToolResultFrame(ThreadFrame):
    """The result of a client's tool."""

    tool_call_id: FrameId
    ok: bool = True
    result: Any = None
    error: Any = None


class ApprovalFrame(ThreadFrame):
    """A user's decision on a tool call."""

    approval_id: FrameId
    decision: Literal["allow-once", "allow-always", "deny"]
    reason: str | None = None
    arguments: str | dict[str, Any] | None = None
    pattern: str | None = None
    model: str | None = None


class ResumeFrame(WireModel):
    """Follows a thread from the frame after `last_seq`; 0 (the default) means that no frame was received yet."""

    thread_id: ThreadId
    last_seq: Annotated[int, Field(le=2**53)] = 0


class ListTurnsFrame(WireModel):
    """Requests the caller's running turns, including those of other connections."""


class SetModeFrame(WireModel):
    """Sets the kind of frames sent to the client, regardless of the kind that it sends."""

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

FRAME_MODELS: Mapping[str, type[FrameModel]] = {
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

NON_CHAT_FIELDS = frozenset(
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
"""Fields of a message that are not copied to the chat completion request: the API key identifies the user."""

MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id")
NODETOOL_MEDIA_TYPES = {"image": "image/png", "audio": "audio/wav", "document": "application/pdf"}
"""NodeTool's parts, which hold media in a field named after the kind, with the default media type."""


@dataclass(frozen=True, slots=True)
class ChatCommand:
    """A chat message, converted to the body of a chat completion request.

    `names` are the client's tools that may be called; None allows all. `size` is the length of the frame.
    """

    frame: MessageFrame
    body: Fields
    names: frozenset[str] | None
    size: int

    def offered_tools(self, manifest: Sequence[Fields]) -> list[Fields]:
        """Return the client's tools for this message: those that it describes, and those of the manifest."""
        described = cast("list[Fields]", self.body["tools"])
        called = [tool for tool in manifest if self.names is None or tool["function"]["name"] in self.names]
        names: set[Any] = {cast("Fields", t.get("function") or t.get("custom") or {}).get("name") for t in described}
        # A tool described in the message overrides one of the same name in the manifest.
        return [*described, *[tool for tool in called if tool["function"]["name"] not in names]]


Command: TypeAlias = (
    ChatCommand
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
    """Parse a frame that may hold up to `values` values. Raises InvalidRequest."""
    if isinstance(frame, bytes):
        kind, fields = _unwrap_frame(unpack_object(frame, values))
    else:
        # A lone surrogate is left to the parser, which reports the error.
        data = frame.encode("utf-8", "surrogatepass")
        check_values(data, values)
        kind, fields = _unwrap_frame(parse_object(data))
    if kind is None and "role" not in fields and "content" not in fields:
        raise InvalidRequest("Missing required parameter: 'type'.", param="type", code="missing_required_parameter")
    # A message may omit the type: `{"role": …, "content": …}`.
    model = FRAME_MODELS.get("message" if kind is None else kind) if kind is None or isinstance(kind, str) else None
    if model is None:
        raise InvalidRequest("Invalid value for 'type': there is no such frame.", param="type", code="invalid_value")
    parsed = validate(model, fields)
    if isinstance(parsed, ManifestFrame):
        check_parameters([(f"tools[{i}].parameters", tool.parameters) for i, tool in enumerate(parsed.tools)])
    return _to_chat_command(parsed, fields, len(frame)) if isinstance(parsed, MessageFrame) else cast("Command", parsed)


def _unwrap_frame(fields: Fields) -> tuple[Any, Fields]:
    """Return a frame's kind and its fields, which may be in an envelope: `{"command": …, "data": {…}}`."""
    if "command" not in fields:
        return fields.get("type"), fields
    data = fields.get("data", {})
    if not isinstance(data, dict):
        raise InvalidRequest("Invalid value for 'data': should be an object.", param="data", code="invalid_type")
    return fields["command"], cast("Fields", data)


def to_decision(frame: ApprovalFrame) -> Decision:
    """Return the decision in an `approval_response`."""
    arguments = frame.arguments
    return Decision(
        approved=frame.decision != "deny",
        reason=frame.reason,
        arguments=arguments if arguments is None or isinstance(arguments, str) else dumps(arguments).decode(),
        always=frame.decision == "allow-always",
        pattern=frame.pattern,
    )


def tool_output(frame: ToolResultFrame) -> str:
    """Return a tool's result in the form that the agent reads."""
    value = frame.result if frame.ok else {"error": frame.error}
    return value if isinstance(value, str) else dumps(_without_bytes(value)).decode()


def _to_chat_command(frame: MessageFrame, fields: Fields, size: int) -> ChatCommand:
    names, offered = _split_tools(frame.tools)
    message = {name: fields[name] for name in MESSAGE_FIELDS if fields.get(name) is not None}
    if isinstance(frame.content, list):
        message["content"] = [_to_chat_part(part, f"content[{index}]") for index, part in enumerate(frame.content)]
    others = {k: v for k, v in fields.items() if k not in NON_CHAT_FIELDS and k not in MESSAGE_FIELDS and v is not None}
    body = {**_without_bytes(others), "messages": [message], "stream": True, "tools": offered}
    return ChatCommand(frame, body, names, size)


def _split_tools(value: Sequence[Any] | Mapping[str, Any] | None) -> tuple[frozenset[str] | None, list[Any]]:
    """Return the tool names in a message's `tools`, and the tools described as in chat completions."""
    if value is None:
        return None, []
    names: list[str] = []
    described: list[Any] = []
    for index, tool in enumerate(value):
        fields = cast("Fields", tool) if isinstance(tool, dict) else {"name": tool}
        # NodeTool sends the names of tools that it described before; other clients describe them in each message.
        if "function" in fields or "custom" in fields:
            described.append(fields)
        elif isinstance(fields.get("name"), str):
            names.append(fields["name"])
        else:
            raise InvalidRequest("A tool needs a name.", param=f"tools[{index}].name", code="invalid_type")
    # A list with descriptions only does not restrict the manifest.
    return (frozenset(names) if names or not described else None), described


def _to_chat_part(part: Fields, where: str) -> Fields:
    """Convert a part to the format of chat completions; NodeTool has media in a field of its own, possibly as bytes."""
    for kind, media_type in NODETOOL_MEDIA_TYPES.items():
        media = part.get(kind)
        if isinstance(media, dict):
            return _to_media_part(kind, cast("Fields", media), media_type, where)
    return cast("Fields", _without_bytes(part))


def _to_media_part(kind: str, media: Fields, media_type: str, where: str) -> Fields:
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
    """Return the value with all bytes, which only MessagePack carries, as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _without_bytes(item) for key, item in cast("Fields", value).items()}
    if isinstance(value, list):
        return [_without_bytes(item) for item in cast("list[Any]", value)]
    return value
