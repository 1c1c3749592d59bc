"""Agents that have no defect pass every check that applies to them."""

from __future__ import annotations

import pytest

from .agents import GOOD
from .inner import conformance_of

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

SKIPPED = {
    "Function": TOOL_CHECKS
    | {
        "test_a_piece_is_sent_before_the_next_one_is_made",
        "test_the_agent_stops_when_the_client_leaves_between_two_pieces",
    },
    "Reference": set(),
    "ReferenceOnTrio": set(),
    "WithKeyAndOtherModels": set(),
    "BehindStarlette": set(),
    "AsgiApplication": TOOL_CHECKS | WATCHING_CHECKS | TOO_QUICK,
    "Handwritten": TOOL_CHECKS | WATCHING_CHECKS | {MIDWAY},
}


@pytest.mark.parametrize("name", [suite.__name__ for suite in GOOD])
def test_an_agent_without_a_defect_passes(name: str) -> None:
    outcome = conformance_of(f"tests.testing.agents:{name}")
    assert outcome.errors == []
    assert outcome.failed == {}
    assert set(outcome.skipped) == SKIPPED.get(name, TOOL_CHECKS)
    assert len(outcome.passed) >= 15
