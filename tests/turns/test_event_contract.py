"""Whatever an agent yields, in any order: the output is in contract order, or an AgentError."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openai_compat.agent_request import AgentRequest, Decision, Resume, Sampling, ToolChoice
from openai_compat.backend import CHARACTERS_PER_TOKEN
from openai_compat.errors import AgentError
from openai_compat.events import (
    AgentEvent,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
    PendingCall,
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
from openai_compat.turns.event_contract import EventContract
from openai_compat.wire.utf16 import join_halves
from tests.requirements import requirement
from tests.support import strategies
from tests.turns.test_stop_sequences import cut_at_first

PIECES = [ToolCallStarted("1", "find"), ToolCallDelta("1", '{"a"'), ToolCallDelta("1", ": 1}")]
ALL = ToolChoice(frozenset(["get_weather", "find"]))
SPEECH = (TextDelta, ReasoningDelta, RefusalDelta)


def enforce(
    items: list[AgentEvent | str], request: AgentRequest | None = None, *, counts_tokens: bool = False
) -> list[AgentEvent]:
    enforcer = EventContract(request or strategies.asked(ALL, Sampling()), counts_tokens=counts_tokens)
    return [event for item in items for event in enforcer.feed(item)] + enforcer.end()


def as_far_as_it_goes(items: list[AgentEvent | str], request: AgentRequest) -> tuple[list[AgentEvent], bool]:
    """Return the events up to the first violation, and True if there was none."""
    enforcer = EventContract(request, counts_tokens=False)
    out: list[AgentEvent] = []
    try:
        for item in items:
            out += enforcer.feed(item)
        out += enforcer.end()
    except AgentError:
        return out, False
    assert enforcer.finished
    return out, True


def of_call(out: list[AgentEvent], call_id: str) -> list[AgentEvent]:
    calls = (ToolCallStarted, ToolCallDelta, ToolCallReady, ToolResult)
    return [event for event in out if isinstance(event, calls) and event.call_id == call_id]


LETTERS: dict[type, str] = {ToolCallStarted: "s", ToolCallDelta: "d", ToolCallReady: "r", ToolResult: "x"}


def check_call(own: list[AgentEvent]) -> None:
    """Check the order: results of an earlier turn's call; then started, deltas that add up to the arguments, ready, results."""
    assert re.fullmatch("x*(sd*(rx*)?)?", "".join([LETTERS[type(event)] for event in own])), own
    for ready in [event for event in own if isinstance(event, ToolCallReady)]:
        assert ready.arguments == "".join([event.arguments for event in own if isinstance(event, ToolCallDelta)])
        (started,) = [event for event in own if isinstance(event, ToolCallStarted)]
        assert (ready.name, ready.executor) == (started.name, started.executor)


@given(st.lists(strategies.items, max_size=20), strategies.requests)
def test_what_leaves_is_in_contract_order_with_one_terminal_event_at_its_end(
    items: list[AgentEvent | str], request: AgentRequest
) -> None:
    out, well = as_far_as_it_goes(items, request)
    terminal = [isinstance(event, (Finished, Paused)) for event in out]
    assert terminal == [False] * (len(out) - 1) + [True] if well else not any(terminal)
    for call_id in {event.call_id for event in out if isinstance(event, ToolCallStarted)}:
        check_call(of_call(out, call_id))


@given(st.lists(strategies.items, max_size=20), strategies.requests)
def test_only_allowed_tools_of_the_client_are_called_and_the_pause_lists_them(
    items: list[AgentEvent | str], request: AgentRequest
) -> None:
    out, well = as_far_as_it_goes(items, request)
    started = [event for event in out if isinstance(event, ToolCallStarted)]
    assert all(event.executor is not None for event in started)
    clients = [event for event in started if event.executor == "client"]
    assert {event.name for event in clients} <= request.tool_choice.names
    assert request.parallel_tool_calls or len(clients) <= 1
    if well:
        ready = {event.call_id: event.arguments for event in out if isinstance(event, ToolCallReady)}
        pending = tuple([PendingCall(c.call_id, c.name, ready.get(c.call_id, "")) for c in clients])
        assert isinstance(out[-1], Finished) or (
            out[-1] == Paused(pending) and {c.call_id for c in clients} <= set(ready)
        )
        assert isinstance(out[-1], Paused) == bool(clients) or out[-1] in (
            Finished("length"),
            Finished("content_filter"),
        )
        assert clients or not request.tool_choice.required or isinstance(out[-1], Finished)


def halves(text: str) -> str:
    """Replace each surrogate half with a mark, joined or not."""
    marks = ["??" if ord(c) > 0xFFFF else "?" if "\ud800" <= c <= "\udfff" or c == "\ufffd" else c for c in text]
    return "".join(marks)


@given(st.lists(strategies.items, max_size=20), strategies.requests)
@example(["ab", ReasoningDelta("x"), "b"], strategies.asked(ALL, Sampling(stop=("abb",))))
def test_text_is_never_reordered_and_never_more_than_the_agent_said(
    items: list[AgentEvent | str], request: AgentRequest
) -> None:
    out, _ = as_far_as_it_goes(items, request)
    for kind in SPEECH:
        said = (
            [i if isinstance(i, str) else i.text for i in items if isinstance(i, str | kind)]
            if kind is TextDelta
            else [i.text for i in items if isinstance(i, kind)]
        )
        sent = "".join([event.text for event in out if isinstance(event, kind)])
        assert halves("".join(said)).startswith(halves(sent))
    limit = request.sampling.max_tokens
    if limit is not None:
        assert sum([len(event.text) for event in out if isinstance(event, SPEECH)]) <= limit * CHARACTERS_PER_TOKEN


@given(
    st.lists(st.lists(strategies.texts, max_size=4), max_size=4),
    st.lists(st.sampled_from(["E", "ab", "b.", "a b"]), min_size=1, max_size=3),
)
def test_each_message_is_cut_at_its_first_stop_sequence_and_nothing_follows(
    messages: list[list[str]], stop: list[str]
) -> None:
    items: list[AgentEvent | str] = [item for message in messages for item in (*message, MessageBreak())]
    expected: list[str] = []
    for message in [join_halves("".join(pieces)) for pieces in messages]:
        expected.append(cut_at_first(message, stop))
        if expected[-1] != message:
            break
    out = enforce(items, strategies.asked(ALL, Sampling(stop=tuple(stop))))
    assert "".join([e.text for e in out if isinstance(e, TextDelta)]) == "".join(expected)


@given(st.lists(strategies.texts, max_size=8), st.integers(1, 5))
def test_text_over_max_tokens_is_cut_and_ends_with_length(pieces: list[str], limit: int) -> None:
    whole, room = join_halves("".join(pieces)), limit * CHARACTERS_PER_TOKEN
    out = enforce([*pieces], strategies.asked(ALL, Sampling(max_tokens=limit)))
    assert "".join([e.text for e in out if isinstance(e, TextDelta)]) == whole[:room]
    assert out[-1] == Finished("length" if len(whole) > room else "stop")


def test_an_agent_that_counts_tokens_is_not_cut() -> None:
    request = strategies.asked(ALL, Sampling(max_tokens=1))
    assert enforce(["12345"], request, counts_tokens=True) == [TextDelta("12345"), Finished()]
    assert enforce(["12345"], request) == [TextDelta("1234"), Finished("length")]


def test_held_back_text_comes_before_the_call_that_follows_it() -> None:
    request = strategies.asked(ALL, Sampling(stop=("END",)))
    out = enforce(["one E", ToolCallReady("1", "find", "{}")], request)
    assert out[:3] == [TextDelta("one "), TextDelta("E"), ToolCallStarted("1", "find", "client")]


@pytest.mark.parametrize(
    "late",
    [
        ToolCallStarted("2", "find"),
        ToolCallReady("1", "own_tool", "{}"),
        ToolResult("1", "sunny"),
        MessageBreak(),
        Paused(),
    ],
)
def test_nothing_follows_when_text_held_back_is_what_fills_the_limit(late: AgentEvent) -> None:
    request = strategies.asked(ALL, Sampling(max_tokens=1, stop=("EN",)))
    out = enforce([ToolCallStarted("1", "own_tool"), "1234E", late], request)
    assert out == [ToolCallStarted("1", "own_tool", "agent"), TextDelta("1234"), Finished("length")]


def test_gaps_in_a_call_are_filled() -> None:
    out = enforce([ToolCallReady("1", "own_tool", "{}"), ToolResult("1", "sunny")])
    assert out == [
        ToolCallStarted("1", "own_tool", "agent"),
        ToolCallDelta("1", "{}"),
        ToolCallReady("1", "own_tool", "{}", "agent"),
        ToolResult("1", "sunny"),
        Finished(),
    ]
    unready = enforce([ToolCallStarted("1", "find"), ToolCallDelta("1", "{}")])
    assert unready[2:] == [ToolCallReady("1", "find", "{}", "client"), Paused((PendingCall("1", "find", "{}"),))]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_call_that_was_cut_off_is_never_ready(reason: Any) -> None:
    begun = [ToolCallStarted("1", "find", "client"), ToolCallDelta("1", '{"path": "/')]
    assert enforce([*begun, Finished(reason)]) == [*begun, Finished(reason)]


def test_the_rest_of_the_arguments_comes_with_ready() -> None:
    call = [ToolCallStarted("1", "find"), ToolCallDelta("1", '{"a"'), ToolCallReady("1", "find", '{"a": 1}')]
    assert enforce([*call])[1:4] == [
        ToolCallDelta("1", '{"a"'),
        ToolCallDelta("1", ": 1}"),
        ToolCallReady("1", "find", '{"a": 1}', "client"),
    ]


def resumed(*calls: PendingCall, **decisions: Decision) -> AgentRequest:
    """Return a request that resumes a turn which paused for these calls."""
    resume = Resume({}, decisions, None, {call.call_id: call for call in calls})
    return replace(strategies.asked(ALL, Sampling()), resume=resume)


def test_a_result_of_an_earlier_turns_call_stands_alone() -> None:
    assert enforce([ToolResult("old", "done")], resumed()) == [ToolResult("old", "done"), Finished()]


@requirement("approval.shown")
def test_a_call_that_was_decided_about_is_told_with_its_result_as_it_was_asked() -> None:
    asked = PendingCall("c", "delete", '{"file":"a"}', "approval")
    told = [
        ToolCallStarted("c", "delete", "agent"),
        ToolCallDelta("c", '{"file":"a"}'),
        ToolCallReady("c", "delete", '{"file":"a"}', "agent"),
    ]
    gone = ToolResult("c", "gone")
    assert enforce([gone], resumed(asked, c=Decision(approved=True))) == [*told, gone, Finished()]
    assert enforce([*told, gone], resumed(asked, c=Decision(approved=True))) == [*told, gone, Finished()]
    changed = enforce([gone], resumed(asked, c=Decision(approved=True, arguments='{"file":"b"}')))
    assert changed[2] == ToolCallReady("c", "delete", '{"file":"b"}', "agent")


@requirement("approval.shown")
def test_a_denied_call_is_denied_whatever_the_agent_says_of_it() -> None:
    asked = PendingCall("c", "delete", "{}", "approval")
    for said in ([ToolResult("c", "ok")], [ToolCallReady("c", "delete", "{}", "agent"), ToolResult("c", "ok")]):
        out = enforce(list(said), resumed(asked, c=Decision(approved=False)))
        assert out[-2] == ToolResult("c", "ok", denied=True)


def test_a_pause_makes_calls_of_what_is_pending() -> None:
    out = enforce([Paused((PendingCall("1", "find", "{}"),))])
    assert out[-1] == Paused((PendingCall("1", "find", "{}"),))
    assert [type(event) for event in out[:-1]] == [ToolCallStarted, ToolCallDelta, ToolCallReady]


def test_with_parallel_calls_off_only_the_first_call_of_the_client_is_kept() -> None:
    request = strategies.asked(ALL, Sampling(), parallel=False)
    two = [
        ToolCallStarted("1", "find"),
        ToolCallStarted("2", "find"),
        ToolCallDelta("2", "{}"),
        ToolCallDelta("1", "{}"),
    ]
    again = [ToolCallReady("2", "find", "{}"), ToolCallReady("1", "find", "{}")]
    assert enforce([*two, *again]) != enforce([*two, *again], request)
    assert enforce([*two, *again], request) == enforce([two[0], two[3], again[1]])


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([ToolCallDelta("1", "{}")], "event_order"),
        ([ToolCallReady("1", "find", "{}"), ToolCallDelta("1", "{}")], "event_order"),
        ([ToolCallReady("1", "find", "{}"), ToolResult("1", "done")], "event_order"),
        ([ToolCallReady("1", "find", "{}"), ToolCallReady("1", "find", '{"a": 1}')], "event_order"),
        ([ToolCallReady("1", "own", "{}"), ToolResult("1", "x"), ToolResult("1", "x")], "event_order"),
        ([ToolCallReady("1", "find", "{}"), ToolCallStarted("1", "find")], "event_order"),
        ([ToolCallStarted("1", "own"), ToolResult("1", "x"), ToolCallReady("1", "own", "{}")], "event_order"),
        ([ToolCallStarted("1", "find"), ToolCallStarted("1", "get_weather")], "event_order"),
        ([ToolCallStarted("1", "find"), ToolCallStarted("1", "find", "agent")], "event_order"),
        ([ToolCallStarted("1", "find"), ToolCallReady("1", "get_weather", "{}")], "event_order"),
        ([ToolCallStarted("1", "own"), ToolCallReady("1", "own", "{}", "client")], "event_order"),
        ([*PIECES, ToolCallReady("1", "find", '{"a": 2}')], "event_order"),
        ([*PIECES, ToolCallReady("1", "find", '{"a"')], "event_order"),
        ([*PIECES, ToolCallReady("1", "find", '{"INVALID_JSON": ""}')], "event_order"),
        ([*PIECES, Paused((PendingCall("1", "find", '{"a": 2}'),))], "event_order"),
        ([*PIECES, Paused((PendingCall("1", "other", '{"a": 1}', "approval"),))], "event_order"),
        ([ToolCallReady("1", "find", "{}"), Paused((PendingCall("1", "find", '{"a": 2}'),))], "event_order"),
        ([Paused((PendingCall("1", "find", "{}"), PendingCall("1", "find", "{}")))], "event_order"),
        ([ToolResult("unknown", "done")], "event_order"),
        ([ToolCallStarted("1", "own_tool", "client")], "tool_choice_violated"),
        ([UsageReported(-1, 0)], "invalid_usage"),
        ([UsageReported(1, 1.5)], "invalid_usage"),
        ([UsageReported(True, 0)], "invalid_usage"),
        ([UsageReported(0, float("nan"))], "invalid_usage"),
    ],
)
def test_what_contradicts_is_the_agents_error(items: list[AgentEvent | str], code: str) -> None:
    with pytest.raises(AgentError) as caught:
        enforce(items)
    assert (caught.value.code, caught.value.status) == (code, 500)


@pytest.mark.parametrize(
    "items",
    [
        [*PIECES, ToolCallReady("1", "find", '{"a": 1}')],
        [*PIECES, ToolCallReady("1", "find", '{"a":1}')],
        [*PIECES, ToolCallReady("1", "find", "")],
        [*PIECES, Paused((PendingCall("1", "find", '{"a": 1}'),))],
        [*PIECES, ToolCallReady("1", "find", '{"a": 1}'), Paused((PendingCall("1", "find", '{"a":1}'),))],
        [ToolCallReady("1", "find", '{"a": 1}'), Paused((PendingCall("1", "find", '{"a": 1}'),))],
    ],
)
def test_what_says_the_same_again_is_no_contradiction(items: list[AgentEvent | str]) -> None:
    assert enforce(items)[-1] == Paused((PendingCall("1", "find", '{"a": 1}'),))


class Loop(dict[str, Any]):
    """A mapping that contains itself."""

    def __init__(self) -> None:
        super().__init__()
        self["me"] = self


@pytest.mark.parametrize(
    "wrong",
    [
        Paused((PendingCall("1", "a", "{}", "no such"),)),
        Paused((PendingCall("1", "a", {"x": 1}, "approval"),)),
        Paused([PendingCall("1", "a", "{}")]),
        Paused(("1",)),
        *[
            Paused((PendingCall("1", "a", "{}", "approval"),), {"x": state})
            for state in (
                {1},
                object(),
                b"x",
                float("nan"),
                float("inf"),
                {1: 2},
                Loop(),
                [None, {"y": ()}, {"z": {3}}],
            )
        ],
        Paused((PendingCall("1", "a", "{}", "approval"),), [1]),
        Progress("step", "1", "on", data={"x": object()}),
        Progress("step", "1", "on", data={1: "x"}),
        TextDelta(b"x"),
        TextDelta("x", logprobs="abc"),
        TextDelta("x", logprobs=[{"token": object()}]),
        ToolCallReady(7, "a", "{}"),
        ToolCallReady("1", "a", {"x": 1}),
        ToolCallStarted("1", "a", "somebody"),
        ToolResult("1", {"x": 1}),
        ToolResult("1", "x", is_error=None),
        MediaDelta("text", "image/png"),
        Finished("done"),
        Notice("x", "fatal"),
    ],
)
def test_an_event_that_holds_something_else_than_it_says_is_the_agents_error(wrong: AgentEvent) -> None:
    with pytest.raises(AgentError) as caught:
        enforce([wrong])
    assert caught.value.code == "invalid_event"
    assert f"{type(wrong).__name__}, its field '" in str(caught.value.__cause__)


@pytest.mark.parametrize("wrong", [None, 5, b"bytes", {"text": "hi"}, ["hi"], object(), TextDelta])
def test_what_is_no_event_is_the_agents_error(wrong: object) -> None:
    with pytest.raises(AgentError) as caught:
        enforce([wrong])
    assert caught.value.code == "invalid_event"


def test_a_required_tool_that_is_not_called_is_the_agents_error() -> None:
    required = strategies.asked(ToolChoice(frozenset(["find"]), required=True), Sampling())
    with pytest.raises(AgentError) as caught:
        enforce(["I would rather talk."], required)
    assert caught.value.code == "tool_choice_violated"
    assert enforce([ToolCallReady("1", "find", "{}")], required)[-1] == Paused((PendingCall("1", "find", "{}"),))


def test_text_is_passed_on_as_it_is_where_nothing_has_to_be_looked_for() -> None:
    def passes(sampling: Sampling, *, counts_tokens: bool = False) -> tuple[bool, bool]:
        contract = EventContract(strategies.asked(ALL, sampling), counts_tokens=counts_tokens)
        return contract.can_pass("text"), contract.passing

    assert passes(Sampling()) == (True, True)
    assert passes(Sampling(stop=("x",))) == (False, False)
    assert passes(Sampling(max_tokens=1), counts_tokens=True) == (True, True)


def test_text_is_measured_by_who_passes_it_on() -> None:
    contract = EventContract(strategies.asked(ALL, Sampling(max_tokens=2)), counts_tokens=False)
    assert (contract.can_pass("texts"), contract.passing, contract.room) == (True, True, 8)
    contract.room -= len("texts")
    assert contract.feed("text") == [TextDelta("tex"), Finished("length")]
    assert contract.ended_early


def test_after_any_other_event_text_is_looked_at_again() -> None:
    contract = EventContract(strategies.asked(ALL, Sampling()), counts_tokens=False)
    assert contract.can_pass("Let me check.")
    for event in (ToolCallStarted("1", "look", "agent"), ToolCallReady("1", "look", "{}"), ToolResult("1", "sunny")):
        contract.feed(event)
        assert not contract.passing
    assert not contract.can_pass("It is sunny.")  # a new message needs a break before it
    assert contract.feed("It is sunny.") == [MessageBreak(), TextDelta("It is sunny.")]
    assert contract.can_pass(" Warm, too.")
    contract.feed(Finished("stop"))
    assert (contract.passing, contract.can_pass("Never mind.")) == (False, False)


@requirement("text.after_tools")
@pytest.mark.parametrize("ready", [[], [ToolCallReady("1", "own_tool", "{}", "agent")]])
def test_what_is_said_after_an_own_tools_result_is_another_message(ready: list[AgentEvent]) -> None:
    for text in ("It is sunny.", TextDelta("It is sunny."), RefusalDelta("I may not say.")):
        said: list[AgentEvent | str] = [
            "Let me check.",
            ToolCallStarted("1", "own_tool"),
            *ready,
            ToolResult("1", "sun"),
        ]
        *_, result, new, words, _ = enforce([*said, "", ReasoningDelta("hm"), text])
        assert (result, new) == (ReasoningDelta("hm"), MessageBreak())
        assert words == (TextDelta(text) if isinstance(text, str) else text)


@requirement("text.after_tools")
@pytest.mark.parametrize(
    "items",
    [
        [ToolCallReady("1", "own_tool", "{}"), ToolResult("1", "sun"), "It is sunny."],
        ["Let me check.", MessageBreak(), ToolCallReady("1", "own_tool", "{}"), ToolResult("1", "sun"), "Sunny."],
        ["Let me check.", ToolCallReady("1", "own_tool", "{}"), ToolResult("1", "sun"), MessageBreak(), "Sunny."],
        [
            "One.",
            ToolCallReady("1", "own_tool", "{}"),
            ToolCallReady("2", "own_tool", "{}"),
            ToolResult("1", "a"),
            ToolResult("2", "b"),
            "Two.",
            "Three.",
        ],
        ["Let me check.", ToolCallReady("1", "own_tool", "{}"), ToolResult("1", "sun")],
    ],
)
def test_another_message_begins_once_and_only_between_words(items: list[AgentEvent | str]) -> None:
    words = [type(event) for event in enforce(items) if isinstance(event, TextDelta | MessageBreak)]
    texts = [item for item in items if isinstance(item, str)]
    assert words.count(TextDelta) == len(texts)
    given = MessageBreak() in items
    assert words.count(MessageBreak) == (1 if given or len(texts) > 1 else 0)


@requirement("text.after_tools")
def test_a_clients_tool_begins_no_other_message() -> None:
    out = enforce(["Let me check.", ToolCallReady("1", "find", "{}"), "Just a moment."])
    assert MessageBreak() not in out


def test_token_probabilities_stay_with_the_words_that_begin_another_message() -> None:
    request = strategies.asked(ALL, Sampling(top_logprobs=1))
    said = TextDelta("Sunny.", [{"token": "Sunny."}], "final_answer")
    out = enforce(["One.", ToolCallReady("1", "own_tool", "{}"), ToolResult("1", "sun"), said], request)
    assert out[-3:] == [MessageBreak(), said, Finished()]


@requirement("usage.limit")
def test_reported_tokens_count_in_the_place_of_the_estimate() -> None:
    limit = strategies.asked(ALL, Sampling(max_tokens=8))
    long = "x" * 16
    exact = [long, UsageReported(1, 2), long, UsageReported(0, 2), long, UsageReported(0, 4)]
    assert enforce([*exact], limit) == [*[TextDelta(i) if isinstance(i, str) else i for i in exact], Finished("stop")]
    assert enforce([*exact, "y"], limit)[-2:] == [UsageReported(0, 4), Finished("length")]
    assert enforce(["abc", UsageReported(1, 9), "d"], limit) == [
        TextDelta("abc"),
        UsageReported(1, 9),
        Finished("length"),
    ]


@requirement("usage.limit")
def test_what_is_said_after_a_report_is_estimated_until_the_next_one() -> None:
    limit = strategies.asked(ALL, Sampling(max_tokens=3))
    out = enforce(["x" * 8, UsageReported(1, 2), "y" * 5], limit)
    assert out == [TextDelta("x" * 8), UsageReported(1, 2), TextDelta("y" * 4), Finished("length")]


@requirement("usage.limit")
def test_a_report_of_no_output_changes_nothing_and_agents_that_count_are_not_cut() -> None:
    limit = strategies.asked(ALL, Sampling(max_tokens=1))
    assert enforce(["1234", UsageReported(9, 0), "5"], limit)[-2:] == [UsageReported(9, 0), Finished("length")]
    assert enforce(["1", UsageReported(9, 99), "2"], limit, counts_tokens=True)[-1] == Finished("stop")
