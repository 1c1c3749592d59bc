"""Parses frames of a Responses WebSocket into typed commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from ....errors import InvalidRequest
from ....http import Frame
from ...json import MAX_VALUES, check_values, parse_object

_STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_CONTENT_TYPES = ("input_text", "input_image", "input_file")


@dataclass(frozen=True, slots=True, eq=False)
class Create:
    """`response.create`: run an agent in a lane. Requests in a lane are queued; None is a lane too.

    Attributes:
        lane: the `stream_id`.
        body: the same parameters as in `POST /v1/responses`.
        size: the length of the frame.
    """

    lane: str | None
    body: dict[str, Any]
    size: int = 0

    @property
    def previous(self) -> str | None:
        """The id of the response to continue, if it is a string."""
        value = self.body.get("previous_response_id")
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Steer:
    """`response.steer`: additional text or user messages for a running response. `size` is the length of the frame."""

    previous: str
    input: Any
    size: int = 0


@dataclass(frozen=True, slots=True)
class Processed:
    """`response.processed`: the client has read a response to its end. Needs no action and no reply."""


Command: TypeAlias = Create | Steer | Processed


class InvalidSteer(InvalidRequest):
    """An invalid `response.steer`; it is answered with `response.steer.failed`, which quotes the command."""

    code = "invalid_input"

    def __init__(self, message: str, event: dict[str, Any]) -> None:
        super().__init__(message, param="input")
        previous = event.get("previous_response_id")
        self.steer = Steer(previous if isinstance(previous, str) else "", event.get("input", ""))


def parse_frame(frame: Frame, values: int = MAX_VALUES) -> dict[str, Any]:
    """Parse the JSON object in a text frame, which may hold up to `values` values. Raises InvalidRequest."""
    if isinstance(frame, bytes):
        raise InvalidRequest("Send JSON in text frames, not in binary ones.", code="invalid_frame")
    # A lone surrogate is left to the parser, which reports the error.
    data = frame.encode("utf-8", "surrogatepass")
    check_values(data, values)
    return parse_object(data)


def parse_lane(event: dict[str, Any]) -> str | None:
    """Return the lane of an event. Raises InvalidRequest (`invalid_stream_id`)."""
    lane = event.get("stream_id")
    if lane is None or (isinstance(lane, str) and _STREAM_ID.fullmatch(lane)):
        return lane
    text = "'stream_id' must be 1 to 256 ASCII letters, digits, underscores, hyphens or periods."
    raise InvalidRequest(text, param="stream_id", code="invalid_stream_id")


def parse_command(event: dict[str, Any], lane: str | None, size: int) -> Command:
    """Parse a command. Raises InvalidRequest; the parameters of a response are validated when its turn comes."""
    kind = event.get("type")
    if kind is None:
        raise InvalidRequest("Missing required parameter: 'type'.", param="type", code="missing_required_parameter")
    if kind == "response.create":
        return _parse_create(event, lane, size)
    if kind == "response.steer":
        return _parse_steer(event, size)
    if kind == "response.processed":
        return Processed()
    text = "Invalid value for 'type': must be 'response.create' or 'response.steer'."
    raise InvalidRequest(text, param="type", code="invalid_value")


def _parse_create(event: dict[str, Any], lane: str | None, size: int) -> Create:
    if event.get("background"):
        text = "A response in the background cannot be had over a WebSocket."
        raise InvalidRequest(text, param="background", code="unsupported_value")
    body = {name: value for name, value in event.items() if name not in ("type", "stream_id")}
    # On a WebSocket, responses are always streamed.
    return Create(lane, {**body, "stream": True}, size)


def _parse_steer(event: dict[str, Any], size: int) -> Steer:
    previous = event.get("previous_response_id")
    if not isinstance(previous, str) or not previous:
        raise InvalidSteer("Missing required parameter: 'previous_response_id'.", event)
    more = event.keys() - {"type", "previous_response_id", "input"}
    if more:
        raise InvalidSteer("'response.steer' takes only 'previous_response_id' and 'input'.", event)
    given = event.get("input")
    messages = cast("list[Any]", given) if isinstance(given, list) else []
    if not given or not (isinstance(given, str) or (messages and all([_is_user_message(one) for one in messages]))):
        raise InvalidSteer("'input' must be text, or a list of messages of the user.", event)
    return Steer(previous, event["input"], size)


def _is_user_message(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    message = cast("dict[str, Any]", value)
    known = message.keys() <= {"type", "role", "content", "id", "status"}
    return (
        known
        and message.get("type", "message") == "message"
        and message.get("role") == "user"
        and _is_content(message.get("content"))
    )


def _is_content(value: Any) -> bool:
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        kinds = [cast("dict[str, Any]", part).get("type") if isinstance(part, dict) else None for part in parts]
        return bool(parts) and all([kind in _CONTENT_TYPES for kind in kinds])
    return isinstance(value, str)
