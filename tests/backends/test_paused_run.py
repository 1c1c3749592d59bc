"""A framework's paused run: its stored state, its open calls, and its end by another message."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from openai_compat import Decision, PendingCall, Resume
from openai_compat.backends.paused_run import PausedRun
from openai_compat.messages import AudioPart, FilePart, ImagePart, ToolMessage
from openai_compat.wire.json import from_stored_json, stored_json

OWN = PendingCall("a", "delete", '{"path": "x"}', "approval")
CLIENTS = PendingCall("b", "look_up", "{}", "result")
PAUSED = PausedRun({"session": [1, None, {"deep": "é"}]}, (OWN, CLIENTS))

TEXTS = st.text(max_size=20)
MEDIA = st.one_of(
    st.builds(ImagePart, TEXTS, st.sampled_from(["auto", "low", "high"])),
    st.builds(AudioPart, TEXTS, TEXTS),
    st.builds(FilePart, st.none() | TEXTS, st.none() | TEXTS, st.none() | TEXTS, TEXTS),
)
RESULTS = st.builds(ToolMessage, st.just("b"), TEXTS, TEXTS, st.lists(MEDIA, max_size=3).map(tuple), st.booleans())
DECISIONS = st.builds(Decision, st.booleans(), st.none() | TEXTS, st.none() | TEXTS, st.booleans(), st.none() | TEXTS)


def kept(run: PausedRun) -> Resume:
    """A resume with the state as loaded from a store."""
    assert run.pause_event.state is not None
    return Resume({}, state=from_stored_json(stored_json(run.pause_event.state)))


def test_a_run_waits_for_all_that_it_has_asked_for() -> None:
    assert PAUSED.pause_event.pending == (OWN, CLIENTS)
    assert PausedRun.from_resume(kept(PAUSED)) == PAUSED


def test_what_is_given_is_kept_until_the_rest_is_there() -> None:
    state = kept(PAUSED).state
    half = PausedRun.from_resume(Resume({}, {"a": Decision(approved=False, reason="too late")}, state))
    assert half is not None
    assert half.pause_event.pending == half.open_calls == (CLIENTS,)
    whole = PausedRun.from_resume(Resume({"b": ToolMessage("b", "found", "look_up")}, state=kept(half).state))
    assert whole is not None
    assert whole.open_calls == ()
    assert whole.decisions["a"].reason == "too late"
    assert whole.results["b"].text == "found"
    assert whole.denied == {"a"}


def test_a_decision_that_was_made_is_not_changed_by_another_one() -> None:
    first = PausedRun.from_resume(Resume({}, {"a": Decision(approved=False)}, kept(PAUSED).state))
    assert first is not None
    again = PausedRun.from_resume(Resume({}, {"a": Decision(approved=True)}, kept(first).state))
    assert again is not None
    assert again.denied == {"a"}


def test_what_was_not_asked_for_changes_nothing() -> None:
    brought = Resume({"c": ToolMessage("c", "x", "y")}, {"d": Decision(approved=True)}, kept(PAUSED).state)
    assert PausedRun.from_resume(brought) == PAUSED
    # A result does not answer an approval, nor a decision a client tool call.
    crossed = Resume({"a": ToolMessage("a", "x", "y")}, {"b": Decision(approved=True)}, kept(PAUSED).state)
    assert PausedRun.from_resume(crossed) == PAUSED


def test_another_message_lets_it_begin_with_the_conversation() -> None:
    assert PausedRun.from_resume(Resume({}, state=kept(PAUSED).state, superseded=True)) is None


def test_a_run_that_can_be_closed_gets_a_no_for_all_that_is_open_with_another_message() -> None:
    decided = PausedRun.from_resume(Resume({}, {"a": Decision(approved=True)}, kept(PAUSED).state))
    assert decided is not None
    closed = PausedRun.from_resume(Resume({}, state=kept(decided).state, superseded=True), can_close=True)
    assert closed is not None
    assert closed.open_calls == ()
    assert closed.denied == frozenset()  # decided earlier
    assert closed.results["b"].is_error

    closed = PausedRun.from_resume(Resume({}, state=kept(PAUSED).state, superseded=True), can_close=True)
    assert closed is not None
    assert closed.denied == {"a"}


def test_a_request_that_brings_no_state_resumes_no_run() -> None:
    assert PausedRun.from_resume(None) is None
    assert PausedRun.from_resume(Resume({"b": ToolMessage("b", "x", "y")}, lost=True)) is None


@given(RESULTS, DECISIONS)
def test_results_and_decisions_come_back_from_a_store_as_they_were(result: ToolMessage, decision: Decision) -> None:
    given_all = PausedRun.from_resume(Resume({"b": result}, {"a": decision}, kept(PAUSED).state))
    assert given_all is not None
    back = PausedRun.from_resume(kept(given_all))
    assert back == given_all
    assert json.dumps(given_all.pause_event.state)
