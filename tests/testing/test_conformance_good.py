"""Agents without a defect pass every check that applies to them."""

from __future__ import annotations

import pytest

from tests.testing.agents import GOOD
from tests.testing.inner import conformance_of

TOOL_CHECKS = {
    "test_the_agent_calls_the_clients_tool",
    "test_the_pieces_of_a_tool_call_fit_together",
    "test_a_tool_calls_arguments_are_a_json_object",
    "test_an_answer_with_tool_calls_finishes_for_tool_calls",
    "test_streamed_and_plain_answers_call_the_same",
    "test_only_tools_that_may_be_called_are_called",
    "test_a_tools_result_reaches_the_agent",
}
WATCHING_CHECKS = {
    "test_a_piece_is_sent_before_the_next_one_is_made",
    "test_one_request_is_one_run",
    "test_the_agents_events_keep_to_their_contract",
}
TOO_QUICK = {
    "test_the_agent_stops_when_the_client_leaves_a_plain_request",
    "test_the_agent_stops_when_the_client_leaves_before_the_first_piece",
    "test_the_agent_stops_when_the_client_leaves_between_two_pieces",
}
MIDWAY = "test_a_stream_that_fails_midway_ends_with_an_error"
FAILURES_UNSEEN = {
    "test_a_failed_run_is_an_error_and_never_an_answer",
    "test_an_error_tells_nothing_that_was_not_written_for_the_client",
    "test_a_failed_run_is_not_repeated",
    MIDWAY,
}
APPROVALS = {
    "test_the_agent_asks_before_it_acts",
    "test_an_approved_call_is_run_once",
    "test_a_denied_call_is_not_run",
    "test_edited_arguments_are_those_that_are_run",
    "test_another_message_takes_the_place_of_a_decision",
}
SESSIONS = {
    "test_a_failed_turn_leaves_nothing_behind",
    "test_callers_with_the_same_conversation_id_do_not_meet",
    "test_a_fork_does_not_see_what_was_said_beside_it",
}
REACHED = {
    "test_parameters_reach_the_agent",
    "test_a_picture_reaches_the_agent_or_is_refused",
    "test_response_format_reaches_the_agent_or_is_refused",
}
OWN_TOOLS = {"test_a_client_cannot_take_the_place_of_an_own_tool"}
RESPONSES = {
    "test_a_response_says_what_chat_says",
    "test_the_events_of_a_response_are_numbered_and_end_with_it",
}
PARAMETERS = {"test_a_parameter_is_passed_on_or_told"}
WITHOUT_TOOLS = TOOL_CHECKS | OWN_TOOLS | APPROVALS | PARAMETERS
UNSEEN = WITHOUT_TOOLS | WATCHING_CHECKS | SESSIONS | REACHED

SKIPPED = {
    "Function": WITHOUT_TOOLS
    | {
        "test_a_piece_is_sent_before_the_next_one_is_made",
        "test_the_agent_stops_when_the_client_leaves_between_two_pieces",
    },
    "Reference": APPROVALS,
    "ReferenceOnTrio": APPROVALS,
    "WithKeyAndOtherModels": APPROVALS | SESSIONS,
    "BehindStarlette": APPROVALS,
    "AsgiApplication": UNSEEN | TOO_QUICK,
    "Handwritten": UNSEEN | RESPONSES | {MIDWAY},
    "Approves": TOOL_CHECKS | OWN_TOOLS | PARAMETERS,
    "Remembers": WITHOUT_TOOLS,
    "SeveralByName": WITHOUT_TOOLS | SESSIONS,
    "BelowAPrefix": UNSEEN | TOO_QUICK | FAILURES_UNSEEN,
}


@pytest.mark.parametrize("name", [suite.__name__ for suite in GOOD])
def test_an_agent_without_a_defect_passes(name: str) -> None:
    outcome = conformance_of(f"tests.testing.agents:{name}")
    assert outcome.errors == []
    assert outcome.failed == {}
    assert set(outcome.skipped) == SKIPPED.get(name, WITHOUT_TOOLS)
    assert len(outcome.passed) >= 15
