"""Frames of the chat WebSocket to the client: converts events to frames, and encodes frames as JSON or MessagePack."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, assert_never, cast

from pydantic_core import from_json

from ...errors import OpenAICompatError
from ...events import (
    Citation,
    Compacted,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from ...http import Frame
from ..errors import envelope
from ..json import dumps
from ..messagepack import packb
from ..presentation import tool_ended_line, tool_running_line
from ..reducer import BETWEEN_MESSAGES, Item, Usage
from ..usage import usage_object

Fields: TypeAlias = dict[str, Any]

WORKFLOW_FRAMES: Mapping[str, str] = {
    "job": "job_update",
    "node": "node_update",
    "edge": "edge_update",
    "output": "output_update",
    "preview": "preview_update",
    "save": "save_update",
    "planning": "planning_update",
    "task": "task_update",
    "step": "step_result",
    "log": "log_update",
    "job_update": "job_update",
    "node_update": "node_update",
    "node_progress": "node_progress",
    "edge_update": "edge_update",
    "output_update": "output_update",
    "preview_update": "preview_update",
    "save_update": "save_update",
    "planning_update": "planning_update",
    "task_update": "task_update",
    "step_result": "step_result",
    "tool_call_update": "tool_call_update",
    "log_update": "log_update",
    "notification": "notification",
    "prediction": "prediction",
}
"""The frame type for each kind of `Progress`. Any other kind becomes a `log_update`."""

MAY_HAVE_BYTES = frozenset(WORKFLOW_FRAMES.values())
"""Frames with arbitrary data of the agent, which JSON may not carry. In all other frames, only the content of media is bytes."""

ID_FIELDS = {
    "job_update": "job_id",
    "task_update": "task_id",
    "step_result": "step_id",
    "tool_call_update": "tool_call_id",
}
"""The name of the `id` of a `Progress` in its frame; `node_id` for all other frames."""

StopReason: TypeAlias = Literal["stop", "superseded", "shutdown", "abandoned"]
STOP_MESSAGES: Mapping[StopReason, str] = {
    "stop": "Generation stopped by the user.",
    "superseded": "Generation stopped: a newer message took its place.",
    "shutdown": "Generation stopped: the server is shutting down.",
    "abandoned": "Generation stopped: nobody followed it any more.",
}


class TurnFrames:
    """Converts one run's events to frames. Stateful: feed it every item, in order.

    Attributes:
        text: the answer's text so far.
        usage: the tokens so far.
        job_ended: True if the agent has reported the end of its job.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._names: dict[str, str] = {}
        self._break_due = False
        self.usage = Usage()
        self.job_ended = False

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return "".join(self._pieces)

    def feed(self, items: Sequence[Item]) -> list[Fields]:
        """Return the frames for these items."""
        frames: list[Fields] = []
        for item in items:
            if item.__class__ is str and not self._break_due:  # nearly always
                self._pieces.append(cast("str", item))
                frames.append({"type": "chunk", "content_type": "text", "content": item, "done": False})
            else:
                frames += self._to_frames(item)
        return frames

    def _to_frames(self, item: Item) -> Sequence[Fields]:  # noqa: C901, PLR0912  (one arm for each event)
        match item:
            case str():
                return self._text_frames(item)
            case TextDelta() | RefusalDelta():
                return self._text_frames(item.text)
            case MessageBreak():
                # Sent with the next text: a break before the first or after the last text is dropped.
                self._break_due = bool(self._pieces)
                return ()
            case ReasoningDelta():
                return ({**_chunk(item.text), "thinking": True},) if item.text else ()
            case MediaDelta():
                return _media_frames(item)
            case ToolCallStarted() | ToolCallReady() | ToolResult():
                return self._tool_frames(item)
            case Progress():
                return (self._progress_frame(item),)
            case Notice():
                return ({"type": "notification", "content": item.message, "severity": item.level},)
            case Compacted():
                text = "The beginning of the conversation was replaced by a summary."
                return ({"type": "notification", "content": text, "severity": "info"},)
            case Citation():
                source = {"url": item.url, "title": item.title}
                place = {"start_index": item.start_index, "end_index": item.end_index}
                return ({**_chunk(""), "content_metadata": {"citation": {**source, **place}}},)
            case UsageReported():
                self.usage.add(item)
                return ()
            case ToolCallDelta() | Paused() | Finished():
                return ()
            case _:
                assert_never(item)

    def _text_frames(self, text: str) -> Sequence[Fields]:
        if not self._break_due:
            self._pieces.append(text)
            return (_chunk(text),)
        self._break_due = False
        self._pieces += [BETWEEN_MESSAGES, text]
        return (_chunk(BETWEEN_MESSAGES), _chunk(text))

    def _tool_frames(self, item: ToolCallStarted | ToolCallReady | ToolResult) -> Sequence[Fields]:
        """Return the frames for the agent's own tools. The client's tools are requested when the run pauses."""
        if isinstance(item, ToolResult):
            name = self._names.get(item.call_id, "tool")
            ok = not (item.is_error or item.denied)
            outcome = {"result": _decode_value(item.output)} if ok else {"error": item.output, "denied": item.denied}
            frame = {"type": "tool_result", "tool_call_id": item.call_id, "name": name, "ok": ok, **outcome}
            return ({**frame, "message": tool_ended_line(item, name)},)
        if item.executor == "client":
            return ()
        self._names[item.call_id] = item.name
        # One frame per call, sent once its arguments are complete.
        if isinstance(item, ToolCallStarted):
            return ()
        call = {"type": "tool_call_update", "tool_call_id": item.call_id, "name": item.name}
        return ({**call, "args": _decode_value(item.arguments), "message": tool_running_line(item.name)},)

    def _progress_frame(self, item: Progress) -> Fields:
        kind = WORKFLOW_FRAMES.get(item.kind, "log_update")
        self.job_ended = self.job_ended or (kind == "job_update" and item.done)
        own: Fields = {"type": kind, ID_FIELDS.get(kind, "node_id"): item.id, "status": item.status, "done": item.done}
        if kind in ("log_update", "notification"):
            own |= {"content": item.status, "severity": "info"}
        # The frame's own fields override the agent's data, `type` above all.
        return {**item.data, **own}


def _chunk(text: str) -> Fields:
    return {"type": "chunk", "content_type": "text", "content": text, "done": False}


def _media_frames(item: MediaDelta) -> Sequence[Fields]:
    kind = item.media_type.partition("/")[0]
    kind = kind if kind in ("image", "audio", "video") else "document"
    metadata = {"mime_type": item.media_type, **({"transcript": item.transcript} if item.transcript else {})}
    # Bytes, not base64: MessagePack carries them, and JSON gets base64 when encoded.
    chunk = {"type": "chunk", "content_type": kind, "content": item.data, "content_metadata": metadata, "done": False}
    return (chunk,)


def turn_active(turn: str, model: str, waits_for: Sequence[str]) -> Fields:
    """Return the first frame of a turn: the turn is running, and may wait for the results of these calls."""
    frame: Fields = {"type": "chat_turn_active", "status": "running", "turn_id": turn, "model": model}
    return {**frame, "waits_for": list(waits_for)} if waits_for else frame


def last_chunk() -> Fields:
    """Return the frame that ends the streaming of a turn."""
    return {"type": "chunk", "content_type": "text", "content": "", "done": True}


def message(text: str, model: str, *, calls: Sequence[PendingCall] = (), usage: Usage | None = None) -> Fields:
    """Return the assistant's complete message."""
    frame: Fields = {"type": "message", "role": "assistant", "content": text, "model": model}
    if calls:
        frame["tool_calls"] = [{"id": c.call_id, "name": c.name, "args": _decode_value(c.arguments)} for c in calls]
    if usage is not None and usage.reported:
        frame["usage"] = usage_object(usage)
    return frame


def tool_call(call: PendingCall) -> Fields:
    """Return the request to run one of the client's tools."""
    return {"type": "tool_call", "tool_call_id": call.call_id, "name": call.name, "args": _decode_value(call.arguments)}


def tool_result(call: PendingCall, output: str, *, ok: bool) -> Fields:
    """Return the result of a client's tool, or the error if there is none."""
    frame = {"type": "tool_result", "tool_call_id": call.call_id, "name": call.name, "ok": ok}
    return {**frame, "result" if ok else "error": _decode_value(output)}


def approval_request(identifier: str, call: PendingCall, expires: float) -> Fields:
    """Return the request to approve a tool call until `expires` (unix time)."""
    return {
        "type": "approval_request",
        "approval_id": identifier,
        "tool_call_id": call.call_id,
        "name": call.name,
        "args": _decode_value(call.arguments),
        "expires_at": expires,
        "decisions": ["allow-once", "allow-always", "deny"],
    }


def job_update(job: str, workflow: str, status: str) -> Fields:
    """Return the status of a whole workflow."""
    done = status != "running"
    return {"type": "job_update", "job_id": job, "workflow_id": workflow, "status": status, "done": done}


def generation_stopped(reason: StopReason) -> Fields:
    """Return the frame for a turn that was stopped early."""
    return {"type": "generation_stopped", "reason": reason, "message": STOP_MESSAGES[reason]}


def error_frame(error: OpenAICompatError, request_id: str) -> Fields:
    """Return an error, both as plain text and in OpenAI's envelope."""
    fields = {"type": "error", "message": error.message, "error_type": error.type, "status": error.status}
    return {**fields, "error": envelope(error)["error"], "request_id": request_id}


def _decode_value(text: str) -> Any:
    """Decode JSON objects and lists; return other text unchanged."""
    try:
        # Only objects and lists: a result of `true` or `12` is still text.
        return from_json(text) if text[:1] in "{[" else text
    except (ValueError, TypeError):  # TypeError for a lone surrogate: an agent's text may have one
        return text


def encode(frame: Fields, *, binary: bool) -> Frame:
    """Encode a frame as MessagePack, or as JSON with bytes as base64."""
    if binary:
        return packb(frame)
    if frame["type"] in MAY_HAVE_BYTES or type(frame.get("content")) is bytes:
        frame = _with_base64(frame)
    return dumps(frame).decode()


def _with_base64(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _with_base64(item) for key, item in cast("Fields", value).items()}
    if isinstance(value, list | tuple):
        return [_with_base64(item) for item in cast("list[Any]", value)]
    return value
