"""Input that arrives while a response is made (`response.steer`): queued, and committed by a response that follows.

It knows no sockets: callers report what has arrived or ended, and it returns the frames to send and the next response to make.
The steered response ends in its own time; a backend that has a method `steer` is asked to end early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ....errors import InvalidRequest
from ....wire.responses.parse.websocket import Create, Steer
from ....wire.responses.serialize.websocket import required_input, steer_accepted, steer_failed, steer_pending

MAX_PENDING = 16
"""Submissions that may wait for one response."""
MAX_REMEMBERED = 64
"""Ended responses that are still known; those with waiting input are among them."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Accepted input, with its id."""

    id: str
    steer: Steer

    @property
    def reference(self) -> dict[str, Any]:
        """The submission as events name it."""
        return {"id": self.id, "previous_response_id": self.steer.previous}


def to_items(value: Any) -> list[dict[str, Any]]:
    """The `input` of a request as a list of items."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    return list(cast("list[dict[str, Any]]", value or []))


@dataclass(slots=True)
class _SteeredResponse:
    lane: str | None
    able: bool = False
    queued: list[Submission] = field(default_factory=list[Submission])


class Steering:
    """The submissions of one connection. `limit` bounds their total size, in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._running: dict[str, _SteeredResponse] = {}
        self._ended: dict[str, _SteeredResponse] = {}
        self._sequence = -1

    def on_response_begun(self, response: str, lane: str | None, *, able: bool) -> None:
        """Note that a response runs; `able` is True if its agent can be steered."""
        self._running[response] = _SteeredResponse(lane, able)

    def submit(self, steer: Steer, identifier: str) -> str:
        """Queue input. Returns the frame that accepts it. Raises InvalidRequest, which `refusal_frame` turns into a frame."""
        steered = self._find_steerable(steer)
        # Accepting is a promise: input that could not be kept has to be refused now.
        if len(steered.queued) >= MAX_PENDING or self._size + steer.size > self._limit:
            raise InvalidRequest("Too much input waits for this response.", code="too_many_pending_steers")
        submission = Submission(identifier, steer)
        steered.queued.append(submission)
        self._size += steer.size
        return steer_accepted(submission.reference, self._next_number(), steered.lane)

    def _find_steerable(self, steer: Steer) -> _SteeredResponse:
        if steer.previous in self._ended:
            raise InvalidRequest("This response has ended.", code="response_already_completed")
        steered = self._running.get(steer.previous)
        if steered is None:
            raise InvalidRequest("No such response runs on this connection.", code="response_not_found")
        if not steered.able:
            raise InvalidRequest("This response cannot be steered.", code="steering_not_supported")
        return steered

    def refusal_frame(self, steer: Steer, error: InvalidRequest) -> str:
        """The frame that returns input to the client at once."""
        steered = self._running.get(steer.previous) or self._ended.get(steer.previous)
        back = {"previous_response_id": steer.previous, "input": steer.input}
        return steer_failed(error, back, self._next_number(), steered.lane if steered is not None else None)

    def on_response_ended(self, response: Mapping[str, Any]) -> tuple[list[str], bool]:
        """Note that a response has ended well. Returns the frames to send, and True if a response is to follow on its own.

        If the response waits for the client, so does the input: the request that brings the missing results commits the input.
        """
        steered = self._running.pop(response["id"])
        self._ended[response["id"]] = steered
        frames = self._forget_oldest()
        required = required_input(response) if steered.queued else []
        if required:
            frames += [
                steer_pending(one.reference, required, self._next_number(), steered.lane) for one in steered.queued
            ]
        return frames, bool(steered.queued) and not required

    def _forget_oldest(self) -> list[str]:
        if len(self._ended) <= MAX_REMEMBERED:
            return []
        oldest = self._ended.pop(next(iter(self._ended)))
        return self.handback_frames(self._release(oldest), oldest.lane)

    def on_response_failed(self, response: str) -> list[str]:
        """Note that a response has failed. Returns the frames that hand its input back."""
        steered = self._running.pop(response, None)
        return [] if steered is None else self.handback_frames(self._release(steered), steered.lane)

    def take_input_for(self, request: Create) -> list[Submission]:
        """The input that waits for this very request, which commits it."""
        steered = self._ended.get(request.previous or "")
        return [] if steered is None or steered.lane != request.lane else self._release(steered)

    def _release(self, steered: _SteeredResponse) -> list[Submission]:
        released, steered.queued = steered.queued, []
        self._size -= sum([one.steer.size for one in released])
        return released

    def handback_frames(self, submissions: list[Submission], lane: str | None) -> list[str]:
        """The frames that hand back input for which no response will follow."""
        error = InvalidRequest("The response that was to follow could not be made.", code="successor_creation_failed")
        back = [{**one.reference, "input": one.steer.input} for one in submissions]
        return [steer_failed(error, steer, self._next_number(), lane) for steer in back]

    def _next_number(self) -> int:
        self._sequence += 1
        return self._sequence


def with_input(request: Create, submissions: list[Submission]) -> dict[str, Any]:
    """The request's parameters, with the submitted input before the request's own."""
    if not submissions:
        return request.body
    more = [message for one in submissions for message in to_items(one.steer.input)]
    return {**request.body, "input": [*more, *to_items(request.body.get("input"))]}


def successor(request: Create, response: str) -> Create:
    """The request that follows a steered one on its own: the same parameters, continuing the steered response."""
    return replace(request, body={**request.body, "previous_response_id": response, "input": []}, size=0)
