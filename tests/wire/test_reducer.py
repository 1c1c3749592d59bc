"""Folds a turn's events into its final message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openai_compat.events import (
    Citation,
    Finished,
    MediaDelta,
    MessageBreak,
    Paused,
    PendingCall,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    UsageReported,
)
from openai_compat.wire.reducer import FinalMessage, Item, Reducer, Usage, size_of
from tests.requirements import requirement
from tests.support import strategies
from tests.wire.chat.test_serialize import turns


def fold(*batches: list[Item]) -> FinalMessage:
    reducer = Reducer()
    for batch in batches:
        reducer.feed(batch)
    return reducer.message()


def test_a_turn_folds_into_one_message() -> None:
    source, picture, usage = Citation("u", "t", 0, 1), MediaDelta(b"png", "image/png"), UsageReported(3, 2)
    items: list[Item] = [
        ReasoningDelta("hm"),
        "one ",
        TextDelta("two", [{"token": "two"}]),
        RefusalDelta("no"),
        source,
        picture,
        ToolCallStarted("1", "find", "client"),
        ToolCallDelta("1", "{}"),
        ToolCallReady("1", "find", "{}", "client"),
        usage,
        Paused((PendingCall("1", "find", "{}"),)),
    ]
    assert fold(items) == FinalMessage(
        text="one two",
        reasoning="hm",
        refusal="no",
        citations=[source],
        logprobs=[{"token": "two"}],
        media=[picture],
        client_calls=[PendingCall("1", "find", "{}")],
        finish_reason="tool_calls",
        usage=Usage(3, 2, reported=True),
    )


@given(turns, strategies.cuts)
def test_the_fold_of_the_parts_is_the_fold_of_the_whole(items: list[Item], cuts: list[int]) -> None:
    assert fold(*strategies.split(items, cuts)) == fold(items)


@requirement("chat.message-break")
def test_messages_after_each_other_have_a_blank_line_between_them() -> None:
    assert fold([MessageBreak(), "", MessageBreak(), "one", " and", MessageBreak()]).text == "one and"
    assert fold(["one", MessageBreak()], [], ["two", "!"], [MessageBreak(), TextDelta("three")]).text == (
        "one\n\ntwo!\n\nthree"
    )


def test_calls_of_the_agents_own_tools_are_not_the_clients() -> None:
    call: list[Item] = [
        ToolCallStarted("1", "search", "agent"),
        ToolCallReady("1", "search", "{}", "agent"),
        Finished(),
    ]
    assert fold(call) == FinalMessage()


reports = st.builds(UsageReported, strategies.numbers, strategies.numbers, st.none() | strategies.numbers)


@given(st.lists(reports), st.lists(reports))
def test_usage_is_added_up_and_unknown_details_stay_unknown(one: list[UsageReported], two: list[UsageReported]) -> None:
    def total(parts: list[UsageReported]) -> Usage:
        usage = Usage()
        for part in parts:
            usage.add(part)
        return usage

    together = total(one)
    together.add(total(two))
    cached = [r.cached_tokens for r in one + two if r.cached_tokens is not None]
    assert together == total(one + two)
    assert together == Usage(
        sum([r.input_tokens for r in one + two]),
        sum([r.output_tokens for r in one + two]),
        sum(cached) if cached else None,
        None,
        reported=bool(one + two),
    )


def test_the_size_of_an_item_is_what_it_carries() -> None:
    carriers: list[Item] = ["four", TextDelta("four"), ReasoningDelta("four"), RefusalDelta("four")]
    more: list[Item] = [ToolCallDelta("1", "four"), MediaDelta(b"four", "image/png")]
    assert [size_of(item) for item in carriers + more] == [4] * 6
