"""Frames of a Responses WebSocket to the client: the events of a stream, and those that only sockets have."""

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
    """One event: its type, and the frame."""

    type: str
    text: str


def event_frames(data: bytes, lane: str | None) -> Iterator[EventFrame]:
    """The events among `data`, whole server-sent events, with the lane's `stream_id` in each."""
    # Put into the text: reading each event's JSON again would double what a word of text costs.
    end = "}" if lane is None else f',"stream_id":"{lane}"}}'
    for block in data.decode().split("\n\n"):
        kind, _, text = block.partition("\ndata: ")
        if kind.startswith("event: "):  # no comment, and not the end mark
            yield EventFrame(kind[7:], text[:-1] + end)


def event(content: Mapping[str, Any], lane: str | None) -> str:
    """Any event as a frame."""
    return dumps({**content, **({} if lane is None else {"stream_id": lane})}).decode()


def error_event(error: OpenAICompatError, request_id: str, lane: str | None) -> str:
    """The error of a request that has no response. The connection goes on."""
    headers = {"x-request-id": request_id, **{name.lower(): value for name, value in error_headers(error)}}
    # A frame has no headers: what HTTP says there stands in the error.
    content = {**envelope(error)["error"], "headers": headers}
    return event({"type": "error", "status": error.status, "error": content}, lane)


def steer_accepted(steer: Mapping[str, Any], number: int, lane: str | None) -> str:
    """The server has the input, and will commit it with the response that follows."""
    return event({"type": "response.steer.accepted", "sequence_number": number, "steer": steer}, lane)


def steer_pending(
    steer: Mapping[str, Any], required: Sequence[Mapping[str, Any]], number: int, lane: str | None
) -> str:
    """The input waits, since the response does: for what `required` names."""
    content = {
        "type": "response.steer.pending",
        "sequence_number": number,
        "reason": "waiting_for_required_input",
        "required_input": required,
        "steer": steer,
    }
    return event(content, lane)


def steer_failed(error: OpenAICompatError, steer: Mapping[str, Any], number: int, lane: str | None) -> str:
    """The input comes back, uncommitted."""
    why = {"type": STEER_FAILED_TYPE, "code": error.code, "message": error.message}
    return event({"type": "response.steer.failed", "sequence_number": number, "error": why, "steer": steer}, lane)


def required_input(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Stubs of the items without which nobody can go on from a response: results of its calls, and decisions."""
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
