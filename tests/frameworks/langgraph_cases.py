"""Cases only for graphs: their threads, of which none may stay once nothing refers to it."""

from __future__ import annotations

import sys
from typing import Any

import openai
import pytest
from openinference.instrumentation.langchain import LangChainInstrumentor

from tests.docs.served import served as program
from tests.frameworks.acceptance import in_memory, scenario, until  # noqa: F401  (a fixture)
from tests.frameworks.served import Heard, Served, agents, client_of, model
from tests.frameworks.traced import Traces

saver: Any = agents["plain"].checkpointer


def threads() -> set[str]:
    return {thread for thread, spaces in saver.storage.items() if spaces}


@scenario("conversations")
def test_a_turn_that_is_not_kept_leaves_no_thread(in_memory: Served) -> None:  # noqa: F811  (a fixture)
    before = threads()
    in_memory.chat("plain", "one")
    in_memory.client.responses.create(model="plain", input="one", store=False)
    assert threads() == before
    in_memory.client.responses.create(model="plain", input="one")
    assert len(threads()) == len(before) + 1


@scenario("failed turns")
def test_a_turn_that_fails_or_is_left_leaves_no_thread(in_memory: Served) -> None:  # noqa: F811  (a fixture)
    before = threads()
    for stream in (False, True):
        with pytest.raises(openai.APIError):
            list(in_memory.client.responses.create(model="plain", input="fail", stream=stream))
    with in_memory.client.responses.create(model="plain", input="hang", stream=True) as left:
        while next(left).type != "response.output_text.delta":
            pass
        assert threads() > before
    until(lambda: threads() == before)


@scenario("conversations")
def test_a_turn_that_is_not_kept_leaves_the_thread_that_it_goes_on_from(in_memory: Served) -> None:  # noqa: F811  (a fixture)
    first = in_memory.client.responses.create(model="plain", input="one")
    before = threads()
    for store in (False, True):
        in_memory.client.responses.create(model="plain", input="two", previous_response_id=first.id, store=store)
        assert model.seen[-1].said == [("user", "one"), ("assistant", "You said: one"), ("user", "two")]
    assert threads() == before


@scenario("one line")
def test_the_example_for_open_webui_knows_its_chats_and_its_users_apart() -> None:
    """Asked like Open WebUI: streamed, with the whole chat each time, a title request, and chat and user in headers."""

    def ask(user: str, *said: str, **more: str) -> Heard:
        headers = {"X-OpenWebUI-User-Id": user, "X-Conversation-Id": "chat-1", **more}
        return Served(url, client).hear("weather", *said, extra_headers=headers)

    serves = (sys.executable, "-m", "uvicorn", "langgraph_open_webui:app", "--port", "PORT")
    with program(*serves, BOTS_KEY="sk-bots") as url, client_of(url, "sk-bots") as client:
        first = ask("7", "How is it in Oslo")
        title = ask("7", "### Task:\nGenerate a title", **{"X-Task": "title_generation"})
        second = ask("7", "How is it in Oslo", first.text, "And in Rome")
        another = ask("8", "And in Paris")
    assert first.statuses == ["Running get_weather …", "get_weather done"]
    assert [first.text, second.text, another.text] == [
        "Sunny in Oslo. That was question 1.",
        "Sunny in Rome. That was question 2.",
        "Sunny in Paris. That was question 1.",
    ]
    assert "Sunny" not in title.text


@scenario("tools")
@pytest.mark.parametrize("stream", [True, False])
def test_what_the_framework_traces_is_below_the_servers_span_and_each_tool_is_there_once(stream: bool) -> None:
    traces, instrumentor = Traces(), LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=traces.provider)
    try:
        spans = traces.ask(agents["weather"], "weather please", stream=stream)
    finally:
        instrumentor.uninstrument()
    above = ("LangGraph", "invoke_agent agent", "POST /v1/chat/completions")
    assert ("Fake", "model", *above) in spans
    [tool] = [span for span in spans if "get_weather" in span[0]]
    assert tool[-3:] == above
