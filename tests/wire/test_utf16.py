"""A character that an agent splits into surrogate halves is whole in every text of every API."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.agent_request import Sampling
from openai_compat.events import (
    AgentEvent,
    Finished,
    MessageBreak,
    Notice,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
)
from openai_compat.turns.event_contract import EventContract
from openai_compat.wire.utf16 import HalfJoiner, has_halves, join_halves
from tests.requirements import requirement
from tests.support import strategies
from tests.turns.test_event_contract import ALL, enforce

SMILE, FIRST, SECOND, LOST = "\U0001f600", "\ud83d", "\ude00", "\ufffd"

halves = st.lists(st.sampled_from([FIRST, SECOND, SMILE, "a", "é", FIRST + SECOND, ""]), max_size=8)


@given(halves)
def test_pieces_come_to_the_text_that_all_of_them_are_together(pieces: list[str]) -> None:
    joiner = HalfJoiner()
    text = "".join([joiner.feed(piece) for piece in pieces]) + joiner.flush()
    assert text == join_halves("".join(pieces))
    assert text.encode().decode() == text
    assert joiner.flush() == ""


@given(halves)
def test_what_passes_comes_out_as_it_is(pieces: list[str]) -> None:
    joiner = HalfJoiner()
    for piece in pieces:
        if not joiner.held and not has_halves(piece):
            assert joiner.feed(piece) == piece
        else:
            joiner.feed(piece)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (FIRST + SECOND, SMILE),
        (SECOND + FIRST, LOST + LOST),
        (FIRST + "a", LOST + "a"),
        (FIRST + FIRST + SECOND, LOST + SMILE),
        ("\ufeff" + FIRST, "\ufeff" + LOST),
    ],
)
def test_pairs_are_characters_and_single_halves_are_lost_once(text: str, whole: str) -> None:
    assert join_halves(text) == whole


@requirement("text.halves")
@pytest.mark.parametrize("kind", [TextDelta, ReasoningDelta, RefusalDelta])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(stop=("END",), max_tokens=9)])
def test_halves_in_two_pieces_are_one_character(kind: Any, sampling: Sampling) -> None:
    request = strategies.asked(ALL, sampling)
    assert enforce([kind("a" + FIRST), kind(SECOND + "b")], request) == [kind("a"), kind(SMILE + "b"), Finished()]
    assert enforce([kind(FIRST)], request) == [kind(LOST), Finished()]
    assert enforce([kind(SECOND), kind(FIRST)], request) == [kind(LOST), kind(LOST), Finished()]


@requirement("text.halves")
def test_a_half_waits_for_its_other_half_whatever_comes_between_that_is_no_text() -> None:
    between: list[AgentEvent] = [ReasoningDelta("hm"), Progress("step", "1", "…"), Notice("!")]
    assert enforce([FIRST, *between, SECOND]) == [*between, TextDelta(SMILE), Finished()]


@requirement("text.halves")
@pytest.mark.parametrize("ends", [MessageBreak(), ToolCallStarted("1", "own", "agent")])
def test_a_half_at_the_end_of_a_message_is_lost_there(ends: AgentEvent) -> None:
    out = enforce([FIRST, ends, SECOND])
    assert out[:2] == [TextDelta(LOST), ends]
    assert TextDelta(LOST) in out[2:]


@requirement("text.halves")
@pytest.mark.parametrize("name", ["find", "write_code", "own_tool"])
def test_halves_in_two_pieces_of_a_calls_arguments_are_one_character(name: str) -> None:
    pieces: list[AgentEvent | str] = [ToolCallDelta("1", '"' + FIRST), ToolCallDelta("1", SECOND + '"')]
    for ready in ([], [ToolCallReady("1", name, f'"{FIRST}{SECOND}"')], [ToolCallReady("1", name, f'"{SMILE}"')]):
        out = enforce([ToolCallStarted("1", name), *pieces, *ready, *([] if ready else [ToolCallReady("1", name, "")])])
        assert [e.arguments for e in out if isinstance(e, ToolCallDelta)] == ['"', SMILE + '"']
        assert [e.arguments for e in out if isinstance(e, ToolCallReady)] == [f'"{SMILE}"']


@requirement("text.halves")
def test_the_rest_of_arguments_brings_the_other_half_and_a_single_one_is_lost_once() -> None:
    begun: list[AgentEvent | str] = [ToolCallStarted("1", "find"), ToolCallDelta("1", "a" + FIRST)]
    whole = enforce([*begun, ToolCallReady("1", "find", "a" + FIRST + SECOND)])
    cut = enforce([*begun, ToolCallReady("1", "find", "")])
    assert [e.arguments for e in whole if isinstance(e, ToolCallReady)] == ["a" + SMILE]
    assert "".join([e.arguments for e in whole if isinstance(e, ToolCallDelta)]) == "a" + SMILE
    assert "".join([e.arguments for e in cut if isinstance(e, ToolCallDelta)]) == "a" + LOST
    assert [e.arguments for e in cut if isinstance(e, ToolCallReady)] == ["a" + LOST]


@requirement("text.halves")
def test_halves_in_texts_that_come_whole_are_joined_too() -> None:
    call = ToolCallReady("1", "own_tool", "{}")
    out = enforce([Progress("step", "1", FIRST + SECOND), Notice(FIRST), call, ToolResult("1", FIRST + SECOND)])
    assert out[:2] == [Progress("step", "1", SMILE), Notice(LOST)]
    assert out[-2:] == [ToolResult("1", SMILE), Finished()]


@requirement("text.halves")
def test_a_character_in_two_halves_counts_once_and_can_be_a_stop_sequence() -> None:
    stop = strategies.asked(ALL, Sampling(stop=(SMILE,)))
    assert enforce(["a", FIRST, SECOND, "b"], stop) == [TextDelta("a"), Finished("stop", SMILE)]
    limit = strategies.asked(ALL, Sampling(max_tokens=1))
    assert enforce(["abc", FIRST, SECOND], limit) == [TextDelta("abc"), TextDelta(SMILE), Finished()]


def test_an_agents_failure_brings_what_was_held_back() -> None:
    enforcer = EventContract(strategies.asked(ALL, Sampling()), counts_tokens=True)
    assert not enforcer.can_pass(FIRST)
    assert enforcer.feed(FIRST) == []
    assert not enforcer.can_pass("a")
    assert enforcer.flush() == [TextDelta(LOST)]
