"""Cases only for smolagents: agents that write code, and agents that run out of steps."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from openai_compat import Server
from openai_compat.backends.smolagents import SmolagentsBackend
from tests.frameworks.served import Served, client_of
from tests.transports import uvicorn_socket

smol: Any = importlib.import_module("smolagents")
models: Any = importlib.import_module("smolagents.models")

scenario = pytest.mark.scenario
SECRET = "the secret of the model"


class Coder(models.Model):
    """Writes the given code; fails on the request for a final answer without tools."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code

    def generate(self, messages: Any, **more: Any) -> Any:
        raise RuntimeError(SECRET)

    def generate_stream(self, messages: Any, **more: Any) -> Iterator[Any]:
        yield models.ChatMessageStreamDelta(content="Thought: I count.\n")
        yield models.ChatMessageStreamDelta(content=f"<code>\n{self.code}\n</code>")


def made(code: str) -> Callable[[], Any]:
    return lambda: smol.CodeAgent([], Coder(code), max_steps=1)


@scenario("tools")
def test_what_an_agent_writes_is_reasoning_and_its_code_is_a_call() -> None:
    with uvicorn_socket(Server({"coder": made("final_answer(6 * 7)")})) as url:
        served = Served(url, client_of(url, "any"))
        heard = served.hear("coder", "count")
        response = served.client.responses.create(model="coder", input="count")
    assert heard.text == "42"
    assert heard.reasoning.startswith("Thought: I count.")
    assert heard.statuses == ["Running python_interpreter …", "python_interpreter done"]
    [call] = [item for item in response.output if item.type == "mcp_call"]
    assert "final_answer(6 * 7)" in call.arguments
    assert "42" in (call.output or "")


@scenario("errors")
def test_a_last_answer_that_fails_tells_nothing() -> None:
    with uvicorn_socket(Server({"coder": made("1 + 1")})) as url, pytest.raises(openai.InternalServerError) as caught:
        Served(url, client_of(url, "any")).chat("coder", "count")
    assert SECRET not in caught.value.response.text


@scenario("approvals")
def test_code_cannot_wait_for_an_approval() -> None:
    backend = SmolagentsBackend(made("final_answer(1)"), approve=["get_weather"])
    with uvicorn_socket(Server({"coder": backend})) as url, pytest.raises(openai.InternalServerError):
        Served(url, client_of(url, "any")).chat("coder", "count")


class Writer(models.Model):
    """Calls `final_answer` with a text whose JSON is streamed in chunks of a few characters."""

    def __init__(self, written: str) -> None:
        super().__init__()
        self.written = written

    def generate(self, messages: Any, **more: Any) -> Any:
        return models.agglomerate_stream_deltas(list(self.generate_stream(messages)))

    def generate_stream(self, messages: Any, **more: Any) -> Iterator[Any]:
        for number, piece in enumerate([self.written[at : at + 3] for at in range(0, len(self.written), 3)]):
            name = "" if number else "final_answer"
            function = models.ChatMessageToolCallFunction(name=name, arguments=piece)
            call = models.ChatMessageToolCallStreamDelta(index=0, id="final", type="function", function=function)
            yield models.ChatMessageStreamDelta(tool_calls=[call])


@scenario("text")
@pytest.mark.parametrize("is_ascii", [True, False])
def test_an_answer_is_told_once_and_whole_however_its_json_is_cut(is_ascii: bool) -> None:
    text = 'A "quote", a \\ and\n two lines; é, ퟿, 😀 and \ue000'
    written = json.dumps({"answer": text}, ensure_ascii=is_ascii)

    def writer() -> Any:
        return smol.ToolCallingAgent([], Writer(written))

    with uvicorn_socket(Server({"writer": SmolagentsBackend(writer)})) as url:
        heard = Served(url, client_of(url, "any")).hear("writer", "write")
    assert heard.text == text
    assert heard.pieces > 10
