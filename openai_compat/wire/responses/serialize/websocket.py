"""Frames of a Responses WebSocket to the client: the events of a stream, and those specific to WebSockets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ....errors import OpenAICompatError
from ...errors import envelope, error_headers
from ...json import dumps

TERMINAL = frozenset({"response.completed", "response.failed", "response.incomplete"})
STEER_FAILED_TYPE = "invalid_request_error"


@dataclass(frozen=True, slots=True)
class EventFrame:
    """One event as a frame, with its type."""

    type: str
    text: str


def event_frames(data: bytes, lane: str | None) -> Iterator[EventFrame]:
    """Yield the events in `data`, which holds whole server-sent events, each with the lane's `stream_id`."""
    # Spliced into the text: decoding each event's JSON again would double the cost of a word of text.
    end = "}" if lane is None else f',"stream_id":"{lane}"}}'
    for block in data.decode().split("\n\n"):
        kind, _, text = block.partition("\ndata: ")
        if kind.startswith("event: "):  # neither a comment nor the end mark
            yield EventFrame(kind[7:], text[:-1] + end)


def event(content: Mapping[str, Any], lane: str | None) -> str:
    """Return an event as a frame."""
    return dumps({**content, **({} if lane is None else {"stream_id": lane})}).decode()


def error_event(error: OpenAICompatError, request_id: str, lane: str | None) -> str:
    """Return the error of a request that has no response. The connection stays open."""
    headers = {"x-request-id": request_id, **{name.lower(): value for name, value in error_headers(error)}}
    # A frame has no headers: HTTP's headers are part of the error instead.
    content = {**envelope(error)["error"], "headers": headers}
    return event({"type": "error", "status": error.status, "error": content}, lane)


def steer_accepted(steer: Mapping[str, Any], number: int, lane: str | None) -> str:
    """Confirm the input: the server will commit it with the next response."""
    return event({"type": "response.steer.accepted", "sequence_number": number, "steer": steer}, lane)


def steer_pending(
    steer: Mapping[str, Any], required: Sequence[Mapping[str, Any]], number: int, lane: str | None
) -> str:
    """Report that the input waits because the response waits for `required`."""
    content = {
        "type": "response.steer.pending",
        "sequence_number": number,
        "reason": "waiting_for_required_input",
        "required_input": required,
        "steer": steer,
    }
    return event(content, lane)


def steer_failed(error: OpenAICompatError, steer: Mapping[str, Any], number: int, lane: str | None) -> str:
    """Return the input, uncommitted, with the error."""
    why = {"type": STEER_FAILED_TYPE, "code": error.code, "message": error.message}
    return event({"type": "response.steer.failed", "sequence_number": number, "error": why, "steer": steer}, lane)


def required_input(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return stubs of the items needed to continue a response: results of its calls, and approval decisions."""
    stubs: list[dict[str, Any]] = []
    for item in cast("list[dict[str, Any]]", response.get("output") or []):
        match item.get("type"):
            case "function_call":
                stubs.append({"type": "function_call_output", "call_id": item["call_id"], "name": item["name"]})
            case "custom_tool_call":
                stubs.append({"type": "custom_tool_call_output", "call_id": item["call_id"]})
            case "mcp_approval_request":
                stubs.append({"type": "mcp_approval_response", "approval_request_id": item["id"]})
            case _:
                pass
    return stubs
