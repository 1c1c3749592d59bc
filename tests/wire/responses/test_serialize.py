"""A Response equals the sum of its stream, whatever the agent emits and however the turn ends, and SDKs can parse it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from openai import APIError
from openai.types.responses import Response, ResponseStreamEvent

from openai_compat.wire.json import dumps
from openai_compat.wire.responses.event_order import EventOrder
from tests.support.exchanges import strict_json
from tests.support.responses_stream import Sdk, Told, accumulated, streams

TERMINAL = ("response.completed", "response.incomplete", "response.failed")
EVENT_CLASSES: dict[str, Any] = {
    get_args(event.model_fields["type"].annotation)[0]: event for event in get_args(get_args(ResponseStreamEvent)[0])
}
SDK = Sdk()


@given(streams())
def test_every_stream_keeps_the_order_of_events(told: Told) -> None:
    order = EventOrder()
    for event in told.events:
        assert not order.ended
        order.check(event)
    assert order.ended
    assert told.stream.sequence == told.events[-1]["sequence_number"]


@given(streams())
def test_a_stream_ends_with_the_response_that_its_pieces_come_to(told: Told) -> None:
    response = told.events[-1]["response"]
    assert response == strict_json(dumps(told.stream.response()))
    assert response["status"] == told.stream.status
    seen = accumulated(told.events)
    for item in seen:
        if item.get("status") == "in_progress":  # a truncated call
            item["status"] = "incomplete"
    assert seen == response["output"]


@given(streams())
def test_the_plain_answer_is_the_streams_response(told: Told) -> None:
    assert dumps(told.plain.response()) == dumps(told.stream.response())
    assert told.plain.approvals == told.stream.approvals


@given(streams())
def test_every_write_is_whole_events(told: Told) -> None:
    for data in told.written:
        assert data.count(b"\n\n") == data.count(b"event: ") == data.count(b"\ndata: ")


@given(streams())
def test_every_event_is_what_the_sdk_says_it_is(told: Told) -> None:
    for event in told.events:
        EVENT_CLASSES[event["type"]].model_validate(event, strict=True)


@given(streams())
def test_the_sdk_puts_the_response_together(told: Told) -> None:
    data = b"".join(told.written)
    if told.stream.status == "failed":
        with pytest.raises(APIError, match="The calendar is closed today"), SDK.stream(data) as stream:
            stream.until_done()
        return
    with SDK.stream(data) as stream:
        events = list(stream)
    assert [event.type for event in events] == [event["type"] for event in told.events]
    response = told.events[-1]["response"]
    texts = {(e.output_index, e.content_index): e.snapshot for e in events if e.type == "response.output_text.delta"}
    for (index, part), text in texts.items():
        assert response["output"][index]["content"][part]["text"] == text
    assert [item.id for item in events[-1].response.output] == [item["id"] for item in response["output"]]
    assert events[-1].response.output_text == Response(**response).output_text
