"""The cases that every framework must pass, with a test double for its model. `run.py` runs them in each environment."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner
from sybil import Sybil

from openai_compat import Server, as_backend
from openai_compat_adapters._cli.load_agents import as_server, load
from openai_compat_adapters.cli import main
from tests.docs.blocks import Page
from tests.docs.served import ROOT
from tests.frameworks.model import CACHED, INNER, INPUT, OUTPUT, REASONING, SECRET
from tests.frameworks.report import FRAMEWORK
from tests.frameworks.served import (
    CHAT_TOOL,
    RESPONSE_TOOL,
    Served,
    agents,
    client_of,
    command_environment,
    model,
    serve,
    tool_result,
)
from tests.transports import uvicorn_socket

scenario = pytest.mark.scenario
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="session")
def in_memory() -> Iterator[Served]:
    with serve("") as served:
        yield served


@pytest.fixture(scope="session")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(f"sqlite:///{tmp_path_factory.mktemp('state')}/state.db") as served:
        yield served


@pytest.fixture
def served(in_memory: Served) -> Served:
    """A server for cases that do not depend on the store."""
    model.reset()
    return in_memory


@pytest.fixture(params=["in_memory", "on_disk"])
def kept(request: pytest.FixtureRequest) -> Served:
    """A server for cases that store something between requests."""
    model.reset()
    found: Served = request.getfixturevalue(request.param)
    return found


def until(condition: Any, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


# handing the agent over


@scenario("one line")
def test_an_agent_is_handed_over_as_it_is_or_as_a_function_that_makes_it() -> None:
    backend = as_backend(agents["plain"])
    where = f"openai_compat.backends.{os.environ['OPENAI_COMPAT_FRAMEWORK']}"
    assert f"{type(backend).__module__}.".startswith(f"{where}.")

    async def make() -> Any:
        return agents["plain"]

    with uvicorn_socket(Server({"made": lambda: agents["plain"], "awaited": make})) as url:
        for name in ("made", "awaited"):
            assert Served(url, client_of(url, "any")).hear(name, "talk").text == "You said: talk"


@scenario("one line")
def test_the_page_about_it_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / f"docs/how-to/{os.environ['OPENAI_COMPAT_FRAMEWORK'].replace('_', '-')}.md"
    monkeypatch.chdir(tmp_path)
    page = Page(tmp_path)
    try:
        for example in Sybil([page.parse], pattern="*").parse(path).examples():
            example.evaluate()
    finally:
        page.close()


@scenario("one line")
def test_what_init_writes_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    name = os.environ["OPENAI_COMPAT_FRAMEWORK"].replace("_", "-")
    told = CliRunner().invoke(main, ["init", "--with", name])
    assert told.exit_code == 0, told.output
    assert "pip install" not in told.output  # the framework is installed
    getattr(FRAMEWORK, "provide", lambda *_: None)(model, tmp_path, monkeypatch)
    try:
        with uvicorn_socket(as_server(load(["agent.py"]))) as url:
            served = Served(url, client_of(url, "any"))
            [found] = served.client.models.list()
            heard = [served.hear(found.id, "talk about the weather") for _ in range(3)]
    finally:
        del sys.modules["agent"]
    assert [(one.error, one.finished, bool(one.text)) for one in heard] == [(None, ["stop"], True)] * 3


# output and tool calls of the agent


@scenario("text")
def test_text_is_streamed_as_it_is_made(served: Served) -> None:
    heard = served.hear("plain", "talk to me")
    assert (heard.text, heard.finished) == ("You said: talk to me", ["stop"])
    assert heard.pieces >= 3


@scenario("usage")
def test_the_tokens_of_the_model_are_told(served: Served) -> None:
    used = served.hear("plain", "talk to me").usage
    assert (used.prompt_tokens, used.completion_tokens) == (INPUT, OUTPUT)
    told = served.client.responses.create(model="plain", input="talk to me").usage
    assert (told.input_tokens, told.output_tokens) == (INPUT, OUTPUT)


@scenario("cached")
def test_tokens_that_were_cached_are_told_apart(served: Served) -> None:
    assert served.hear("plain", "talk to me").usage.prompt_tokens_details.cached_tokens == CACHED


@scenario("details")
def test_tokens_of_reasoning_are_told_apart(served: Served) -> None:
    assert served.hear("plain", "talk to me").usage.completion_tokens_details.reasoning_tokens == REASONING


@scenario("text")
def test_a_response_says_the_same(served: Served) -> None:
    with served.client.responses.stream(model="plain", input="talk to me") as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert "".join(pieces) == response.output_text == "You said: talk to me"
    assert len(pieces) >= 3


@scenario("tools")
def test_an_own_tool_is_run_and_is_shown_beside_the_answer_in_chat(served: Served) -> None:
    heard = served.hear("weather", "weather please")
    assert heard.calls == []
    assert heard.finished == ["stop"]
    assert heard.statuses == ["Running get_weather …", "get_weather done"]
    assert heard.text == "Let me check.\n\nThe tools said: sunny in Paris."
    assert (heard.usage.prompt_tokens, heard.usage.completion_tokens) == (2 * INPUT, 2 * OUTPUT)
    assert model.ran == ["Paris"]


@scenario("tools")
def test_an_own_tool_is_an_item_of_a_response(served: Served) -> None:
    response = served.client.responses.create(model="weather", input="weather please")
    call = next(item for item in response.output if item.type == "mcp_call")
    assert (call.name, json.loads(call.arguments), call.output) == ("get_weather", {"city": "Paris"}, "sunny in Paris")
    assert [item.type for item in response.output if item.type != "reasoning"] == ["message", "mcp_call", "message"]
    assert response.output_text.endswith("The tools said: sunny in Paris.")


@scenario("reasoning")
def test_reasoning_is_shown_apart(served: Served) -> None:
    heard = served.hear("weather", "weather please")
    assert heard.reasoning == "I need the weather."
    response = served.client.responses.create(model="weather", input="weather please")
    thought = next(item for item in response.output if item.type == "reasoning")
    assert "I need the weather." in thought.model_dump_json()


@scenario("history")
def test_the_whole_conversation_reaches_the_model(served: Served) -> None:
    system = {"role": "system", "content": "Be brief."}
    served.chat("plain", system, "one", "two", "three")
    [seen] = model.seen
    assert [one for one in seen.said if one[0] != "system"] == [
        ("user", "one"),
        ("assistant", "two"),
        ("user", "three"),
    ]
    assert any("Be brief." in text for role, text in seen.said if role == "system")


@scenario("history")
def test_the_agents_own_instructions_are_there_in_every_turn(served: Served) -> None:
    system = {"role": "system", "content": "Be brief."}
    for said in (["one"], ["one", "two", "three"], [system, "one", "two", "three"]):
        served.chat("instructed", *said)
        assert "Be kind." in str([text for role, text in model.seen[-1].said if role == "system"])


@scenario("pictures")
def test_a_picture_reaches_the_model(served: Served) -> None:
    url = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
    served.chat("plain", {"role": "user", "content": parts})
    [seen] = model.seen
    [picture] = seen.messages[-1].media
    assert picture in (PIXEL, url)
    assert "look" in seen.messages[-1].text


# errors


@scenario("errors")
def test_a_failure_is_a_500_and_tells_nothing(served: Served) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        served.chat("plain", "fail now")
    assert caught.value.code in ("agent_error", "upstream_unavailable")  # of an exception, or of an API
    assert SECRET not in caught.value.response.text


@scenario("errors")
def test_a_stream_that_fails_ends_with_an_error(served: Served) -> None:
    heard = served.hear("plain", "late failure")
    assert heard.text == "one two three "
    assert heard.finished == []
    assert heard.error is not None
    assert SECRET not in str(heard.error.body)


@scenario("rate limits")
def test_the_models_rate_limit_is_a_429_with_its_retry_after(served: Served) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        served.chat("plain", "limit reached")
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "7"
    assert SECRET not in caught.value.response.text


@scenario("leaving")
@pytest.mark.parametrize(
    ("agent", "prompt"), [("plain", "hang please"), ("weather", "wait please")], ids=["model", "tool"]
)
def test_the_model_and_the_tool_stop_when_the_client_leaves(served: Served, agent: str, prompt: str) -> None:
    stream = served.client.chat.completions.create(
        model=agent, messages=[{"role": "user", "content": prompt}], stream=True
    )
    until(model.hangs.is_set)
    left = time.monotonic()
    stream.close()
    assert model.stopped.wait(2)
    assert time.monotonic() - left < 1
    assert served.hear("plain", "talk").finished == ["stop"]


# approvals


def ask_in_chat(served: Served, prompt: str) -> list[Any]:
    question = served.chat("careful", prompt).choices[0].message.content
    assert "get_weather" in question
    assert "Paris" in question
    assert model.ran == []
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": question}]


@scenario("approvals")
@pytest.mark.parametrize(("word", "ran"), [("yes", ["Paris"]), ("no", [])])
def test_a_call_is_approved_or_denied_in_chat(kept: Served, word: str, ran: list[str]) -> None:
    asked = ask_in_chat(kept, "weather please")
    answer = kept.chat("careful", *asked, {"role": "user", "content": word})
    assert model.ran == ran
    assert answer.choices[0].message.content.startswith("The tools said: ")
    assert ("sunny in Paris" in answer.choices[0].message.content) == bool(ran)
    assert not model.seen[-1].open_calls
    with pytest.raises(openai.ConflictError):
        kept.chat("careful", *asked, {"role": "user", "content": word})
    assert model.ran == ran


def approval_of(served: Served, prompt: str) -> tuple[Any, list[Any]]:
    response = served.respond("careful", prompt)
    asked = [item for item in response.output if item.type == "mcp_approval_request"]
    assert asked
    assert model.ran == []
    return response, asked


def decide(asked: Any, approve: bool, **more: Any) -> dict[str, Any]:
    return {"type": "mcp_approval_response", "approval_request_id": asked.id, "approve": approve, **more}


@scenario("approvals")
@pytest.mark.parametrize("approve", [True, False])
def test_a_call_is_approved_or_denied_in_the_responses_api(kept: Served, approve: bool) -> None:
    response, [asked] = approval_of(kept, "weather please")
    assert (asked.name, json.loads(asked.arguments)) == ("get_weather", {"city": "Paris"})
    answer = kept.respond("careful", [decide(asked, approve)], previous_response_id=response.id)
    assert model.ran == (["Paris"] if approve else [])
    call = next(item for item in answer.output if item.type == "mcp_call")
    assert call.name == "get_weather"
    assert (call.error is None) == approve
    assert answer.output_text.startswith("The tools said: ")
    with pytest.raises(openai.ConflictError):
        kept.respond("careful", [decide(asked, approve)], previous_response_id=response.id)


@scenario("edited")
def test_changed_arguments_are_those_that_are_run(kept: Served) -> None:
    tool = {"type": "function", "function": {"name": "request_approval", "parameters": {"type": "object"}}}
    asked = kept.chat("careful", "weather please", tools=[tool]).choices[0].message
    [call] = asked.tool_calls
    decision = {"decision": "allow-once", "arguments": {"city": "Rome"}}
    said = ["weather please", asked.model_dump(exclude_none=True), tool_result(call, decision)]
    kept.chat("careful", {"role": "user", "content": said[0]}, *said[1:], tools=[tool])
    assert model.ran == ["Rome"]


@scenario("edited")
def test_nothing_is_run_with_arguments_that_make_no_sense(served: Served) -> None:
    tool = {"type": "function", "function": {"name": "request_approval", "parameters": {"type": "object"}}}
    asked = served.chat("careful", "weather please", tools=[tool]).choices[0].message
    [call] = asked.tool_calls
    said = [{"role": "user", "content": "weather please"}, asked.model_dump(exclude_none=True)]
    with pytest.raises(openai.APIStatusError) as caught:
        served.chat(
            "careful", *said, tool_result(call, {"decision": "allow-once", "arguments": "{nonsense"}), tools=[tool]
        )
    assert caught.value.status_code in (400, 409)
    assert model.ran == []


@scenario("another message")
def test_another_message_takes_the_place_of_a_decision(kept: Served) -> None:
    asked = ask_in_chat(kept, "weather please")
    answer = kept.chat("careful", *asked, {"role": "user", "content": "talk instead"})
    assert model.ran == []
    assert model.seen[-1].said[-1] == ("user", "talk instead")
    assert not model.seen[-1].open_calls
    assert answer.choices[0].message.content.startswith("You said: ")


@scenario("several approvals")
def test_several_calls_are_decided_together_or_one_by_one(kept: Served) -> None:
    response, asked = approval_of(kept, "pair please")
    assert [json.loads(one.arguments)["city"] for one in asked] == ["Paris", "Oslo"]
    both = [decide(asked[0], approve=True), decide(asked[1], approve=False)]
    answer = kept.respond("careful", both, previous_response_id=response.id)
    assert model.ran == ["Paris"]
    assert answer.output_text.startswith("The tools said: ")

    model.reset()
    response, asked = approval_of(kept, "pair please")
    first = kept.respond("careful", [decide(asked[0], approve=True)], previous_response_id=response.id)
    [again] = [item for item in first.output if item.type == "mcp_approval_request"]
    assert json.loads(again.arguments) == {"city": "Oslo"}
    kept.respond("careful", [decide(again, approve=True)], previous_response_id=first.id)
    assert sorted(model.ran) == ["Oslo", "Paris"]
    assert not model.seen[-1].open_calls


@contextmanager
def process(store: str) -> Iterator[Served]:
    """The agents in a separate process, started by the command line; the framework's memory is a file beside the store."""
    command = [str(Path(sys.executable).with_name("openai-compat")), "serve", "tests.frameworks.served:agents"]
    command += ["--listen", "127.0.0.1:0", "--store", store]
    environment = {**command_environment(), "OPENAI_COMPAT_MEMORY": f"{store.removeprefix('sqlite:///')}.framework"}
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        lines: list[str] = []
        for line in running.stderr:
            lines.append(line)
            if found := re.search(r"(http://\S+?)/v1", line):
                break
        else:
            raise AssertionError("".join(lines))
        yield Served(found[1], client_of(found[1], "any"))
    finally:
        running.terminate()
        running.communicate(timeout=20)


@scenario("restart")
def test_a_call_is_approved_after_a_restart(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/state.db"
    with process(store) as before:
        asked = before.respond("careful", "weather please")
        [question] = [item for item in asked.output if item.type == "mcp_approval_request"]
    with process(store) as after:
        answer = after.respond("careful", [decide(question, approve=True)], previous_response_id=asked.id)
    assert answer.output_text == "The tools said: sunny in Paris."


# client tools


@scenario("client tools")
def test_the_clients_tool_is_called_in_chat_and_its_result_reaches_the_model_once(kept: Served) -> None:
    asked = kept.chat("plain", "client tool", tools=[CHAT_TOOL])
    assert asked.choices[0].finish_reason == "tool_calls"
    [call] = asked.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("look_up", {"key": "x"})
    said = [{"role": "user", "content": "client tool"}, asked.choices[0].message.model_dump(exclude_none=True)]
    answer = kept.chat("plain", *said, tool_result(call, "found"), tools=[CHAT_TOOL])
    assert answer.choices[0].message.content == 'The tools said: "found".'
    assert [text for role, text in model.seen[-1].said if role == "tool"] == ['"found"']
    assert not model.seen[-1].open_calls


@scenario("client tools")
def test_the_clients_tool_is_called_in_a_stream(served: Served) -> None:
    heard = served.hear("plain", "client tool", tools=[CHAT_TOOL])
    assert heard.finished == ["tool_calls"]
    assert json.loads("".join([call.function.arguments or "" for call in heard.calls])) == {"key": "x"}


@scenario("client tools")
def test_the_clients_tool_is_called_in_the_responses_api(kept: Served) -> None:
    asked = kept.client.responses.create(model="plain", input="client tool", tools=[RESPONSE_TOOL])
    [call] = [item for item in asked.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "found"}
    answer = kept.client.responses.create(
        model="plain", input=[result], previous_response_id=asked.id, tools=[RESPONSE_TOOL]
    )
    assert answer.output_text == "The tools said: found."
    assert [text for role, text in model.seen[-1].said if role == "tool"] == ["found"]


@scenario("both tools")
def test_what_an_own_tool_said_is_still_there_when_the_clients_result_comes(kept: Served) -> None:
    asked = kept.chat("weather", "both please", tools=[CHAT_TOOL]).choices[0].message
    [call] = asked.tool_calls
    said = [{"role": "user", "content": "both please"}, asked.model_dump(exclude_none=True)]
    answer = kept.chat("weather", *said, tool_result(call, "found"), tools=[CHAT_TOOL])
    results = [text for role, text in model.seen[-1].said if role == "tool"]
    assert sorted(results) == ['"found"', "sunny in Paris"]
    assert model.ran == ["Paris"]
    assert "found" in answer.choices[0].message.content


@scenario("tool names")
def test_a_clients_tool_cannot_have_the_name_of_an_own_one(served: Served) -> None:
    tool = {**CHAT_TOOL, "function": {**CHAT_TOOL["function"], "name": "get_weather"}}
    with pytest.raises(openai.BadRequestError):
        served.chat("weather", "weather please", tools=[tool])
    assert model.ran == []


# parameters and response formats


@scenario("structured output")
def test_a_schema_reaches_the_model_and_the_answer_is_that_json(served: Served) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    answer = served.chat("plain", "where", response_format=wanted)
    assert json.loads(answer.choices[0].message.content) == {"city": "Rome"}
    assert (model.seen[-1].schema or {})["properties"]["city"]["type"] == "string"
    assert answer.choices[0].finish_reason == "stop"


@scenario("parameters")
def test_parameters_reach_the_model(served: Served) -> None:
    served.chat("plain", "talk", temperature=0.5, max_completion_tokens=90, reasoning_effort="low")
    settings = model.seen[-1].settings
    assert settings["temperature"] == 0.5
    assert settings["max_tokens"] == 90
    assert settings["reasoning_effort"] == "low"


# conversations


@scenario("conversations")
def test_a_conversation_goes_on_by_its_id_with_the_new_message_alone(kept: Served, request: Any) -> None:
    name = request.node.name
    kept.chat("plain", "one", conversation=name)
    kept.chat("plain", "two", conversation=name)
    assert model.seen[-1].said == [("user", "one"), ("assistant", "You said: one"), ("user", "two")]


@scenario("conversations")
def test_a_conversation_goes_on_after_a_response(kept: Served) -> None:
    first = kept.client.responses.create(model="plain", input="one")
    kept.client.responses.create(model="plain", input="two", previous_response_id=first.id)
    assert model.seen[-1].said == [("user", "one"), ("assistant", "You said: one"), ("user", "two")]


@scenario("forks")
def test_two_that_go_on_from_one_response_do_not_meet(kept: Served) -> None:
    first = kept.client.responses.create(model="plain", input="one")
    for said in ("left", "right"):
        kept.client.responses.create(model="plain", input=said, previous_response_id=first.id)
        assert model.seen[-1].said == [("user", "one"), ("assistant", "You said: one"), ("user", said)]


@scenario("callers")
def test_callers_with_the_same_conversation_id_do_not_meet(kept: Served, request: Any) -> None:
    kept.chat("plain", "of ann", conversation=request.node.name)
    kept.caller("bob").chat("plain", "of bob", conversation=request.node.name)
    assert model.seen[-1].said == [("user", "of bob")]


@scenario("failed turns")
def test_a_turn_that_failed_leaves_nothing(kept: Served, request: Any) -> None:
    name = request.node.name
    kept.chat("plain", "one", conversation=name)
    with pytest.raises(openai.InternalServerError):
        kept.chat("plain", "fail now", conversation=name)
    stream = kept.client.chat.completions.create(
        model="plain",
        messages=[{"role": "user", "content": "hang now"}],
        stream=True,
        extra_headers={"X-Conversation-Id": name},
    )
    until(model.hangs.is_set)
    stream.close()
    assert model.stopped.wait(5)
    kept.chat("plain", "two", conversation=name)
    assert model.seen[-1].said == [("user", "one"), ("assistant", "You said: one"), ("user", "two")]


# several agents, several turns


@scenario("agents in agents")
def test_an_agent_in_a_tool_is_not_heard(served: Served) -> None:
    assert served.hear("expert", "expert please").text == f"The tools said: {INNER}."


@scenario("agents in agents")
def test_another_agent_that_goes_on_is_a_step_and_begins_a_message(served: Served) -> None:
    if "team" not in agents:
        pytest.skip("no other agent goes on")
    heard = served.hear("team", "talk")
    assert heard.statuses == ["one goes on", "two goes on"]
    assert len(heard.text.split("\n\n")) == 2


@scenario("their tokens")
def test_an_agent_in_a_tool_is_counted(served: Served) -> None:
    assert served.hear("expert", "expert please").usage.completion_tokens == 3 * OUTPUT


@scenario("parallel")
def test_eight_at_once_do_not_mix(served: Served) -> None:
    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(lambda number: served.hear("plain", f"talk {number}"), range(8)))
    assert [one.text for one in heard] == [f"You said: talk {number}" for number in range(8)]


@pytest.mark.timeout(300)  # some backends start a program for each turn
@scenario("conformance")
def test_the_conformance_suite_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command += ["-c", os.devnull, "--openai-compat", "tests.frameworks.served:Kit"]
    environment = command_environment()
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)
