"""The tables of the event order are exact: every written event is in them, and every event in them is written."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args, get_type_hints

import pytest

from openai_compat.events import (
    Citation,
    Compacted,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
    PendingCall,
    ReasoningDelta,
    RefusalDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
)
from openai_compat.wire.reducer import Item
from openai_compat.wire.responses.event_order import DONE, ITEMS, RESPONSE, SPEECH, START, EventOrder, Table, event_name
from openai_compat.wire.responses.event_types import StreamEvent
from openai_compat.wire.responses.response_types import OutputItem
from openai_compat.wire.responses.serialize.stream import ResponseStream
from tests.support.responses_stream import FAILURE, Ending, Json, form, frames, names, told

SOURCE = Citation("https://example.org/", "Example", 0, 2)
ASKED = Paused((PendingCall("a", "delete", "{}", "approval"),))
SPEECH_PIECE = MediaDelta(b"abcd", "audio/wav")
SPOKEN_PIECE = MediaDelta(b"abcd", "audio/wav", "hi")
CLIENT = ToolCallStarted("c", "find", "client")
CUSTOM = ToolCallStarted("d", "write_code", "client")
OWN = ToolCallStarted("o", "look", "agent")


def call_events(started: ToolCallStarted, *pieces: str) -> list[Item]:
    deltas: list[Item] = [ToolCallDelta(started.call_id, piece) for piece in pieces]
    ready = ToolCallReady(started.call_id, started.name, "".join(pieces), started.executor)
    return [started, *deltas, ready]


TURNS: list[tuple[list[Item], Ending]] = [
    ([], "finish"),
    (["a", "b", SOURCE, SOURCE, "c", RefusalDelta("no"), RefusalDelta("no"), "d", Finished("length")], "finish"),
    ([RefusalDelta("no"), MessageBreak(), SOURCE, MessageBreak(), "a", SOURCE], "finish"),
    ([RefusalDelta("no"), SOURCE, "a"], "finish"),
    ([ReasoningDelta("a"), ReasoningDelta("b"), "c", Notice("warm")], "finish"),
    (
        [
            *call_events(CLIENT, "{", "}"),
            *call_events(CUSTOM, "a", "b"),
            *call_events(OWN, "{", "}"),
            ToolResult("o", "yes"),
        ],
        "finish",
    ),
    ([*call_events(CLIENT), *call_events(CUSTOM), *call_events(OWN), ToolResult("o", "no", is_error=True)], "finish"),
    ([MediaDelta(b"abc", "image/png"), Compacted("before"), ASKED], "finish"),
    ([SPEECH_PIECE, SPEECH_PIECE, SPOKEN_PIECE, SPOKEN_PIECE], "finish"),
    ([SPOKEN_PIECE], "finish"),
    ([MediaDelta(b"abc", "audio/wav")], "finish"),
    ([MediaDelta(b"abc", "audio/wav", "hi")], "finish"),
    ([MediaDelta(b"", "audio/wav", "hi"), MediaDelta(b"", "audio/wav", "ho")], "finish"),
    ([MediaDelta(b"", "audio/wav")], "finish"),
    ([OWN], "fail"),
    ([OWN, ToolCallDelta("o", "{")], "cancel"),
    ([*call_events(OWN, "{}")], "fail"),
    ([CLIENT, CUSTOM, ToolCallDelta("c", "{")], "fail"),
]


def queued_streams() -> list[list[Json]]:
    """Return streams that were queued first, or that ended before they began."""
    streams: list[list[Json]] = []
    for ending in ("finish", "fail", "cancel"):
        for begun in (True, False):
            stream = ResponseStream(form(approval_labels=frozenset(["agent"])))
            data = stream.begin(queued=True) if begun else b""
            data += stream.fail(FAILURE) if ending == "fail" else getattr(stream, ending)()
            streams.append(frames(data))
    return streams


def all_streams() -> list[list[Json]]:
    labels = frozenset(["agent"])
    return [told(*said, ending=ending, approval_labels=labels)[0] for said, ending in TURNS] + queued_streams()


def edges(table: Table) -> set[tuple[str, str]]:
    return {(before, after) for before, following in table.items() for after in following}


def steps(events: list[Json]) -> set[tuple[str, str]]:
    return set(pairwise([START, *map(event_name, events)]))


def test_every_event_that_can_be_written_is_in_a_table_and_no_other() -> None:
    kinds = {kind for event in get_args(StreamEvent) for kind in get_args(get_type_hints(event)["type"])}
    in_tables = {name.split(" ")[0] for table in (RESPONSE, SPEECH, *ITEMS.values()) for name in table}
    assert in_tables - {START} == kinds
    assert set(ITEMS) == {get_args(get_type_hints(item)["type"])[0] for item in get_args(OutputItem)}


@pytest.mark.parametrize("table", [RESPONSE, SPEECH, *ITEMS.values()])
def test_a_table_leads_from_its_start_to_each_event_and_on_to_an_end(table: Table) -> None:
    for following in table.values():
        assert following <= set(table)
    reached = {START}
    for _ in table:
        reached |= {after for before in reached for after in table[before]}
    assert reached == set(table)
    ending = {name for name, following in table.items() if not following}
    for _ in table:
        ending |= {name for name, following in table.items() if following & ending}
    assert ending == set(table)


def test_every_step_in_the_tables_is_taken_by_some_turn() -> None:
    taken: dict[str, set[tuple[str, str]]] = {name: set() for name in ("response", "speech", *ITEMS)}
    for events in all_streams():
        taken["response"] |= steps([event for event in events if event_name(event) in RESPONSE])
        taken["speech"] |= steps([event for event in events if event_name(event) in SPEECH])
        added = [event for event in events if event["type"] == "response.output_item.added"]
        for index, event in enumerate(added):
            taken[event["item"]["type"]] |= steps([event for event in events if event.get("output_index") == index])
    tables = {"response": RESPONSE, "speech": SPEECH, **ITEMS}
    assert {name: edges(table) - taken[name] for name, table in tables.items()} == {name: set() for name in tables}


def test_the_checker_takes_them_all() -> None:
    for events in all_streams():
        order = EventOrder()
        for event in events:
            order.check(event)
        assert order.ended


def renumber(events: list[Json]) -> list[Json]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def violation(events: list[Json]) -> str:
    order = EventOrder()
    for event in events:
        try:
            order.check(event)
        except ValueError as refused:
            return str(refused)
    pytest.fail(f"it was taken: {names(events)}")


OPTIONAL = frozenset(
    [
        "response.queued",
        "response.audio.done",
        "response.audio.transcript.done",
        "response.output_text.annotation.added",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
    ]
)
"""Events without which a stream is still valid."""


def test_the_checker_refuses_a_stream_that_lacks_an_event() -> None:
    for events in [told(*said)[0] for said, ending in TURNS if ending == "finish"]:
        for index, event in enumerate(events[:-1]):
            again = event["type"] in [other["type"] for other in events[:index]] and event["type"] in RESPONSE
            if not (again or event["type"].endswith(".delta") or event["type"] in OPTIONAL):
                assert violation(renumber(events[:index] + events[index + 1 :]))


def test_the_checker_refuses_gaps_and_repeated_numbers() -> None:
    events, _ = told("a")
    assert "number 2 for 1" in violation([events[0], *events[2:]])
    assert "number 0 for 1" in violation([events[0], *events])


def test_the_checker_refuses_events_of_an_item_under_the_name_of_another() -> None:
    events, _ = told("a", ReasoningDelta("b"))
    events[4]["item_id"] = "msg_9"
    assert violation(events) == "response.output_text.delta has the id of another item"


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_the_checker_refuses_events_of_a_part_under_the_number_of_another(index: int) -> None:
    events, _ = told("a")
    events[3 + index]["content_index"] = 1
    kind = event_name(events[3 + index])
    assert violation(events) == f"{kind} in part 1, not in 0"


def test_the_checker_refuses_an_item_that_ends_as_another_one() -> None:
    events, _ = told("a")
    done = next(event for event in events if event["type"] == DONE)
    done["item"] = {**done["item"], "id": "msg_9"}
    assert violation(events) == "an item ends as another one"


def test_the_checker_refuses_a_response_that_says_something_else_than_its_stream() -> None:
    events, _ = told("a")
    events[-1]["response"]["output"][0]["content"][0]["text"] = "b"
    assert violation(events) == "the message is not as it was sent"
    events[-1]["response"]["output"] = []
    assert violation(events) == "the output is another"


def test_the_checker_refuses_whatever_follows_the_end() -> None:
    events, _ = told("a")
    again: list[Any] = [*events, events[1]]
    assert violation(renumber(again)) == "response.in_progress after response.completed"


def test_the_checker_refuses_items_before_the_response_is_in_progress() -> None:
    events, _ = told("a")
    assert "output_item.added after response.created" in violation(renumber([events[0], *events[2:]]))
