"""Frames that a client sends over the chat WebSocket beside messages. Fields that are not known are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from ..chat.request_types import FunctionDefinition, WireModel


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
