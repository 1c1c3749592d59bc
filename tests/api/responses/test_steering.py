"""Input for a running response, as a state machine without sockets and agents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.api.responses.websocket.steering import MAX_PENDING, MAX_REMEMBERED, Steering, successor, with_input
from openai_compat.errors import InvalidRequest
from openai_compat.wire.responses.parse.websocket import (
    Create,
    InvalidSteer,
    Steer,
    parse_command,
    parse_frame,
    parse_lane,
)
from openai_compat.wire.responses.serialize.websocket import error_event
from tests.conftest import anyio_backend as anyio_backend

NAMES = st.sampled_from(
    ["type", "stream_id", "input", "previous_response_id", "role", "content", "background", "model", "id", "status"]
)
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}"}


def response(identifier: str = "resp_1", *output: dict[str, Any]) -> dict[str, Any]:
    return {"id": identifier, "output": list(output)}


def steering(*, lane: str | None = None, able: bool = True) -> Steering:
    machine = Steering(limit=1000)
    machine.on_response_begun("resp_1", lane, able=able)
    return machine


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


def test_accepted_input_is_committed_by_a_response_that_follows_by_itself() -> None:
    machine = steering(lane="a")
    accepted = json.loads(machine.submit(Steer("resp_1", "more"), "steer_1"))
    assert accepted == {
        "type": "response.steer.accepted",
        "sequence_number": 0,
        "steer": {"id": "steer_1", "previous_response_id": "resp_1"},
        "stream_id": "a",
    }
    machine.submit(Steer("resp_1", [message("and more")]), "steer_2")
    assert machine.on_response_ended(response()) == ([], True)
    follower = successor(Create("a", {"model": "m", "input": "first"}), "resp_1")
    along = machine.take_input_for(follower)
    assert with_input(follower, along) == {
        "model": "m",
        "previous_response_id": "resp_1",
        "input": [message("more"), message("and more")],
    }
    assert machine.take_input_for(follower) == []


def test_a_response_that_was_not_steered_has_no_follower() -> None:
    assert steering().on_response_ended(response()) == ([], False)


def test_input_waits_with_a_response_that_waits_for_the_client() -> None:
    machine = steering()
    machine.submit(Steer("resp_1", "more"), "steer_1")
    asked = {"type": "mcp_approval_request", "id": "mcpr_1"}
    custom = {"type": "custom_tool_call", "call_id": "call_2"}
    frames, follows = machine.on_response_ended(response("resp_1", {"type": "message"}, CALL, custom, asked))
    assert not follows
    (pending,) = map(json.loads, frames)
    assert (pending["type"], pending["reason"]) == ("response.steer.pending", "waiting_for_required_input")
    assert pending["required_input"] == [
        {"type": "function_call_output", "call_id": "call_1", "name": "look"},
        {"type": "custom_tool_call_output", "call_id": "call_2"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1"},
    ]
    result = {"type": "function_call_output", "call_id": "call_1", "output": "seen"}
    elsewhere = Create("b", {"previous_response_id": "resp_1", "input": [result]})
    assert machine.take_input_for(elsewhere) == []
    here = Create(None, {"previous_response_id": "resp_1", "input": [result]})
    assert with_input(here, machine.take_input_for(here))["input"] == [message("more"), result]


def test_input_comes_back_when_the_response_fails() -> None:
    machine = steering(lane="a")
    machine.submit(Steer("resp_1", "more"), "steer_1")
    (failed,) = map(json.loads, machine.on_response_failed("resp_1"))
    assert failed["type"] == "response.steer.failed"
    assert failed["error"]["code"] == "successor_creation_failed"
    assert failed["steer"] == {"id": "steer_1", "previous_response_id": "resp_1", "input": "more"}
    assert failed["stream_id"] == "a"
    assert machine.on_response_failed("resp_1") == []


@pytest.mark.parametrize(
    ("able", "target", "code"),
    [
        (False, "resp_1", "steering_not_supported"),
        (True, "resp_2", "response_not_found"),
    ],
)
def test_input_that_cannot_be_taken_says_why(able: bool, target: str, code: str) -> None:
    machine = steering(able=able)
    steer = Steer(target, "more")
    with pytest.raises(InvalidRequest) as refusal:
        machine.submit(steer, "steer_1")
    failed = json.loads(machine.refusal_frame(steer, refusal.value))
    assert failed["error"] == {
        "type": "invalid_request_error",
        "code": code,
        "message": refusal.value.message,
    }
    assert failed["steer"] == {"previous_response_id": target, "input": "more"}


def test_a_response_that_has_ended_takes_no_input_and_is_forgotten_in_the_end() -> None:
    machine = steering()
    machine.on_response_ended(response())
    with pytest.raises(InvalidRequest) as refusal:
        machine.submit(Steer("resp_1", "more"), "steer_1")
    assert refusal.value.code == "response_already_completed"
    for number in range(MAX_REMEMBERED):
        machine.on_response_begun(f"other_{number}", None, able=True)
        machine.on_response_ended(response(f"other_{number}"))
    with pytest.raises(InvalidRequest) as refusal:
        machine.submit(Steer("resp_1", "more"), "steer_1")
    assert refusal.value.code == "response_not_found"


def test_input_that_waited_for_too_long_comes_back() -> None:
    machine = steering()
    machine.submit(Steer("resp_1", "more"), "steer_1")
    machine.on_response_ended(response("resp_1", CALL))
    frames: list[str] = []
    for number in range(MAX_REMEMBERED):
        machine.on_response_begun(f"other_{number}", None, able=True)
        frames += machine.on_response_ended(response(f"other_{number}"))[0]
    (lost,) = map(json.loads, frames)
    assert (lost["type"], lost["steer"]["id"]) == ("response.steer.failed", "steer_1")


@pytest.mark.parametrize("size", [0, 500])
def test_input_is_bounded_in_number_and_size(size: int) -> None:
    machine = steering()
    for number in range(MAX_PENDING if size == 0 else 2):
        machine.submit(Steer("resp_1", "more", size), f"steer_{number}")
    with pytest.raises(InvalidRequest) as refusal:
        machine.submit(Steer("resp_1", "more", size or 1), "steer_x")
    assert refusal.value.code == "too_many_pending_steers"
    machine.on_response_failed("resp_1")
    machine.on_response_begun("resp_2", None, able=True)
    machine.submit(Steer("resp_2", "more", size), "steer_y")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, JSON, max_size=5), st.sampled_from(["response.create", "response.steer", None]))
def test_whatever_comes_is_a_command_or_an_invalid_request(event: dict[str, Any], kind: str | None) -> None:
    try:
        command = read({**event, **({} if kind is None else {"type": kind})})
    except InvalidSteer as error:
        json.loads(Steering(1000).refusal_frame(error.steer, error))
    except InvalidRequest as error:
        json.loads(error_event(error, "req_1", None))
    else:
        assert isinstance(command, Create | Steer)


def read(event: object) -> object:
    value = parse_frame(json.dumps(event))
    return parse_command(value, parse_lane(value), 1)


@pytest.mark.parametrize(
    "given",
    [
        "text",
        [message("text")],
        [{"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "u"}]}],
    ],
)
def test_input_of_the_user_is_taken(given: object) -> None:
    event = {"type": "response.steer", "previous_response_id": "resp_1", "input": given}
    assert read(event) == Steer("resp_1", given, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"input": ""},
        {"input": []},
        {"input": None},
        {"input": 1},
        {"input": ["text"]},
        {"input": [{"role": "system", "content": "x"}]},
        {"input": [{"role": "user", "content": []}]},
        {"input": [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]},
        {"input": [{"role": "user", "content": "x", "name": "y"}]},
        {"input": [{"type": "function_call_output", "role": "user", "content": "x"}]},
        {"previous_response_id": None},
        {"previous_response_id": ""},
        {"previous_response_id": 1},
        {"stream_id": "a"},
        {"model": "m"},
    ],
)
def test_input_that_is_none_of_the_users_is_invalid(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidSteer) as refusal:
        read({"type": "response.steer", "previous_response_id": "resp_1", "input": "x", **change})
    failed = json.loads(Steering(1000).refusal_frame(refusal.value.steer, refusal.value))
    assert failed["error"]["code"] == "invalid_input"


@pytest.mark.parametrize("lane", ["", "a b", "ä", "a" * 257, 1, True, {}])
def test_a_stream_id_is_what_the_sdk_allows(lane: object) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read({"type": "response.create", "stream_id": lane})
    assert (refusal.value.code, refusal.value.param) == ("invalid_stream_id", "stream_id")
