"""Cases only for Pydantic AI: toolsets, whose tool names are known beforehand or only at run time."""

from __future__ import annotations

from typing import Any

import openai
import pydantic_ai
import pytest
from pydantic_ai.models.test import TestModel

from openai_compat import Server, as_backend
from tests.frameworks.acceptance import scenario
from tests.frameworks.served import Served, client_of
from tests.frameworks.traced import Traces
from tests.transports import uvicorn_socket

ran: list[str] = []


def look() -> str:
    """Look."""
    ran.append("look")
    return "seen"


def toolset() -> Any:
    return pydantic_ai.FunctionToolset([look])


@scenario("tool names")
def test_the_names_of_wrapped_toolsets_are_known() -> None:
    sets = [toolset().prefixed("a"), pydantic_ai.CombinedToolset([toolset().renamed({"see": "look"})])]
    backend = as_backend(pydantic_ai.Agent(TestModel(), toolsets=sets))
    assert backend.capabilities.own_tools == {"a_look", "see"}


@scenario("tool names")
def test_a_name_that_is_known_only_in_the_run_is_refused_as_well() -> None:
    ran.clear()
    agent = pydantic_ai.Agent(TestModel(), toolsets=[lambda _: toolset()])
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    with uvicorn_socket(Server({"dynamic": agent})) as url:
        served = Served(url, client_of(url, "any"))
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as caught:
                served.chat("dynamic", "look", tools=[tool], stream=stream)
            assert caught.value.code == "tool_name_taken"
        assert ran == []
        assert served.chat("dynamic", "look").choices[0].finish_reason == "stop"
    assert ran == ["look"]


@scenario("tools")
@pytest.mark.parametrize("stream", [True, False])
def test_what_the_framework_traces_is_below_the_servers_span_and_each_tool_is_there_once(stream: bool) -> None:
    traces = Traces()
    agent = pydantic_ai.Agent(TestModel(), toolsets=[toolset()], name="looker")
    agent.instrument = pydantic_ai.InstrumentationSettings(tracer_provider=traces.provider)
    spans = traces.ask(agent, "look", stream=stream)
    above = ("invoke_agent looker", "invoke_agent agent", "POST /v1/chat/completions")
    assert ("chat test", *above) in spans
    [tool] = [span for span in spans if span[0].startswith("execute_tool")]
    assert tool[-3:] == above
