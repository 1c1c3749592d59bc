"""Cases only for Claude Code: it retries on its own, and waits for one call at a time."""

from __future__ import annotations

from dataclasses import replace

import openai
import pytest

from openai_compat import Server
from openai_compat.backends.claude_agent_sdk import ONE_AT_A_TIME
from tests.frameworks.acceptance import in_memory, scenario  # noqa: F401  (a fixture)
from tests.frameworks.served import CHAT_TOOL, Served, agents, client_of, model, tool_result
from tests.transports import uvicorn_socket


@scenario("errors")
def test_the_time_that_it_waited_before_it_gave_up_is_in_retry_after() -> None:
    plain = agents["plain"]
    once = replace(plain, env={**plain.env, "CLAUDE_CODE_MAX_RETRIES": "1"})
    with uvicorn_socket(Server({"once": once})) as url:
        with pytest.raises(openai.RateLimitError) as caught:
            Served(url, client_of(url, "any")).chat("once", "limit reached")
    assert 7 <= int(caught.value.response.headers["retry-after"]) <= 11  # the double says 7; the program adds to it


@scenario("client tools")
def test_of_two_calls_of_the_clients_tools_one_is_made_and_the_model_is_told_to_make_the_other_again(
    in_memory: Served,  # noqa: F811  (a fixture)
) -> None:
    model.reset()
    asked = in_memory.chat("plain", "twice please", tools=[CHAT_TOOL]).choices[0].message
    [call] = asked.tool_calls
    said = [{"role": "user", "content": "twice please"}, asked.model_dump(exclude_none=True)]
    answer = in_memory.chat("plain", *said, tool_result(call, "found"), tools=[CHAT_TOOL])
    assert answer.choices[0].finish_reason == "stop"
    results = [text for role, text in model.seen[-1].said if role == "tool"]
    assert len(results) == 2
    assert '"found"' in results
    assert any(ONE_AT_A_TIME in text for text in results)
    assert not model.seen[-1].open_calls
