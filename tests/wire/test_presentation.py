"""Presents the agent's own work in chat, never as calls that a client would run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.events import (
    Citation,
    Finished,
    MessageBreak,
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
from openai_compat.wire.presentation import Presentation, Visibility
from openai_compat.wire.reducer import Item
from tests.support import strategies
from tests.wire.chat.test_serialize import VISIBILITIES, turns

OWN_CALL: list[Item] = [
    ToolCallStarted("1", "search", "agent"),
    ToolCallDelta("1", '{"q":1}'),
    ToolCallReady("1", "search", '{"q":1}', "agent"),
    ToolResult("1", "found"),
]


@given(turns, st.sampled_from(VISIBILITIES))
def test_calls_of_the_agents_own_tools_are_never_shown_as_calls(items: list[Item], visibility: Visibility) -> None:
    own = {item.call_id for item in items if isinstance(item, ToolCallStarted) and item.executor == "agent"}
    shown = Presentation(visibility).show(items)
    calls = (ToolCallStarted, ToolCallDelta, ToolCallReady, ToolResult)
    assert not [item for item in shown if isinstance(item, calls) and item.call_id in own]


@given(turns, st.sampled_from(VISIBILITIES))
def test_the_answer_itself_is_shown_whole_and_in_order(items: list[Item], visibility: Visibility) -> None:
    kinds = (RefusalDelta, UsageReported, Finished)
    shown = Presentation(visibility).show(items)
    assert [i for i in shown if isinstance(i, kinds)] == [i for i in items if isinstance(i, kinds)]
    if visibility != "text" and MessageBreak() not in items:
        text = (str, TextDelta)
        assert [i for i in shown if isinstance(i, text)] == [i for i in items if isinstance(i, text)]


@pytest.mark.parametrize(
    ("visibility", "shown"),
    [
        ("hidden", []),
        (
            "status",
            [Progress("tool", "1", "Running search …"), Progress("tool", "1", "search done", done=True)],
        ),
        ("reasoning", [ReasoningDelta("Running search …\n"), ReasoningDelta("search done\n")]),
        ("text", ["[⚙ Running search …]\n", "[⚙ search done]\n"]),
    ],
)
def test_the_agents_work_is_shown_where_the_server_was_told(visibility: Visibility, shown: list[Item]) -> None:
    assert Presentation(visibility).show(OWN_CALL) == shown


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (ToolResult("1", "found"), "search done"),
        (ToolResult("1", "boom", is_error=True), "search failed"),
        (ToolResult("1", "no", denied=True), "search was denied"),
    ],
)
def test_how_a_tool_ended_is_said(result: ToolResult, text: str) -> None:
    view = Presentation()
    view.show(OWN_CALL[:3])
    assert view.show([result]) == [Progress("tool", "1", text, done=True)]


def test_a_result_of_a_call_from_an_earlier_turn_is_shown_without_its_name() -> None:
    assert Presentation().show([ToolResult("old", "found")]) == [Progress("tool", "old", "tool done", done=True)]


def test_calls_for_the_client_pass() -> None:
    call: list[Item] = [
        ToolCallStarted("1", "find", "client"),
        ToolCallDelta("1", "{}"),
        ToolCallReady("1", "find", "{}", "client"),
    ]
    assert Presentation("hidden").show(call) == call


def test_a_refusal_is_text_where_there_is_no_other_place_for_it() -> None:
    assert Presentation("hidden", refusal_as_text=True).show([RefusalDelta("No.")]) == ["No."]
    assert Presentation().show([RefusalDelta("No.")]) == [RefusalDelta("No.")]


@given(st.lists(strategies.texts.filter(bool)))
def test_plain_text_is_handed_on_as_it_is(pieces: list[str]) -> None:
    items: list[Item] = [*pieces]
    assert Presentation().show(items) == items


@pytest.mark.parametrize("visibility", ["status", "hidden", "reasoning", "text"])
def test_a_citation_is_found_in_what_is_shown(visibility: Visibility) -> None:
    items: list[Item] = ["One. ", MessageBreak(), *OWN_CALL, "Two, ", TextDelta("three."), Citation("u", "t", 5, 8)]
    *shown, cited = Presentation(visibility).show([*items, Citation("u", "t", 0, 3)])
    texts = [item if isinstance(item, str) else item.text for item in shown if isinstance(item, str | TextDelta)]
    (later,) = [item for item in shown if isinstance(item, Citation)]
    assert "".join(texts)[later.start_index : later.end_index] == "Two"
    assert cited == Citation("u", "t", 0, 3)
