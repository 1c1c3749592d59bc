"""Ollama's own package as a client, over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import ollama
import pytest

from openai_compat import (
    AgentError,
    AgentRequest,
    Capabilities,
    Deadlines,
    ReasoningDelta,
    Server,
    ToolCallReady,
    UsageReported,
)
from openai_compat.api.ollama import Ollama
from openai_compat.messages import ImagePart, ToolMessage, UserMessage
from openai_compat_adapters.testing import listening
from tests.api.ollama.support import SAID, WEATHER
from tests.requirements import requirement
from tests.trust.probe import soon

ASKED: list[AgentRequest] = []


async def talker(request: AgentRequest) -> AsyncIterator[Any]:
    ASKED.append(request)
    yield ReasoningDelta("I look out.")
    yield "It is "
    yield "sunny."
    yield UsageReported(50, 6)


async def caller(request: AgentRequest) -> AsyncIterator[Any]:
    ASKED.append(request)
    if request.resume is None:
        yield "Let me look."
        yield ToolCallReady("a", "weather", '{"city": "Paris"}')
        yield ToolCallReady("b", "weather", '{"city": "Rome"}')
    else:
        yield " and ".join([result.text for result in request.resume.results.values()])


async def broken(prompt: str) -> AsyncIterator[str]:
    if prompt == "late":
        yield "one"
    raise AgentError("It is closed.", status=503, code="closed")


async def person(request: AgentRequest) -> str:
    ASKED.append(request)
    return '{"name": "Ada"}'


async def silent(request: AgentRequest) -> AsyncIterator[str]:
    await soon(lambda: len(SILENCES) > 1)
    yield "At last."


class Looker:
    """An agent with vision, and no other capability."""

    capabilities = Capabilities(client_tools=False, context_window=5000, parameters=frozenset())

    async def run(self, request: AgentRequest, context: Any) -> AsyncIterator[Any]:
        ASKED.append(request)
        yield "Seen."


SILENCES: list[Any] = []


def lengths(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 0.5] for text in texts]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    agents = {"talker": talker, "caller": caller, "broken": broken, "person": person, "silent": silent}
    server = Server(
        {**agents, "looker": Looker()},
        embeddings={"lengths": lengths},
        apis=[Ollama()],
        deadlines=Deadlines(head=0.01, heartbeat=0.02),
    )
    with listening(server) as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[ollama.Client]:
    ASKED.clear()
    with ollama.Client(url, timeout=20) as found:
        yield found


@requirement("ollama.sdk")
def test_a_conversation_is_answered_in_lines_and_whole(client: ollama.Client) -> None:
    plain = client.chat("talker", SAID)
    parts = list(client.chat("talker:latest", SAID, stream=True))
    assert (plain.message.content, plain.message.thinking) == ("It is sunny.", "I look out.")
    assert (plain.model, plain.done, plain.done_reason) == ("talker", True, "stop")
    assert (plain.prompt_eval_count, plain.eval_count) == (50, 6)
    assert plain.total_duration is not None
    assert plain.total_duration > 0
    assert "".join([part.message.content or "" for part in parts]) == "It is sunny."
    assert "".join([part.message.thinking or "" for part in parts]) == "I look out."
    assert (parts[-1].model, parts[-1].eval_count) == ("talker:latest", 6)
    assert {request.model for request in ASKED} == {"talker"}
    assert client.chat("talker", SAID, think=False).message.thinking is None


@requirement("ollama.sdk")
def test_a_prompt_is_answered_in_lines_and_whole(client: ollama.Client) -> None:
    ask: Any = {"model": "talker", "prompt": "How is it?", "system": "Be brief.", "options": {"top_k": 3, "seed": 5}}
    plain = client.generate(**ask)
    parts = list(client.generate(**ask, stream=True))
    assert (plain.response, plain.thinking, plain.done_reason) == ("It is sunny.", "I look out.", "stop")
    assert "".join([part.response or "" for part in parts]) == "It is sunny."
    assert (ASKED[0].system, ASKED[0].prompt, ASKED[0].sampling.seed) == ("Be brief.", "How is it?", 5)
    assert ASKED[0].extra["options"] == {"top_k": 3}


@requirement("ollama.sdk")
@pytest.mark.parametrize("named", [True, False])
def test_tools_of_the_clients_are_called_and_their_results_brought_back(client: ollama.Client, named: bool) -> None:
    called = client.chat("caller", SAID, tools=[WEATHER])
    streamed = list(client.chat("caller", SAID, tools=[WEATHER], stream=True))
    assert called.message.tool_calls is not None
    assert [call.function.arguments for call in called.message.tool_calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert [part.message.tool_calls for part in streamed][-2:] == [called.message.tool_calls, None]
    name = {"tool_name": "weather"} if named else {}
    results = [{"role": "tool", "content": text, **name} for text in ("sunny", "rain")]
    answered = client.chat("caller", [*SAID, called.message, *results], tools=[WEATHER])
    assert answered.message.content == "sunny and rain"
    last = ASKED[-1]
    assert [m.name for m in last.messages if isinstance(m, ToolMessage)] == ["weather", "weather"]
    assert last.tools[0].description == "Tells the weather."


@requirement("ollama.sdk")
def test_failures_are_the_packages_own_error(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="does not exist") as unknown:
        client.chat("other", SAID)
    assert unknown.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match=r"^It is closed\. \(status code: 503\)"):
        client.chat("broken", SAID)
    with pytest.raises(ollama.ResponseError, match="closed"):
        list(client.chat("broken", [{"role": "user", "content": "late"}], stream=True))
    with pytest.raises(ollama.ResponseError, match="neither fetched nor changed") as fetched:
        client.pull("llama3")
    assert fetched.value.status_code == 501
    with pytest.raises(ollama.ResponseError, match="neither"):
        client.delete("talker")


@requirement("ollama.models")
def test_models_are_listed_and_told_with_what_they_can(client: ollama.Client) -> None:
    names = [model.model for model in client.list().models]
    assert names[0] == "talker:latest"
    assert names[-1] == "lengths:latest"
    assert client.ps().models == []
    shown = {name: client.show(name) for name in ("talker", "looker:latest", "lengths")}
    assert {name: told.capabilities for name, told in shown.items()} == {
        "talker": ["completion", "tools", "vision", "thinking"],
        "looker:latest": ["completion", "vision"],
        "lengths": ["embedding"],
    }
    told = shown["looker:latest"].modelinfo
    assert told is not None
    assert told[f"{told['general.architecture']}.context_length"] == 5000
    assert shown["talker"].modified_at is not None
    with pytest.raises(ollama.ResponseError) as unknown:
        client.show("other")
    assert unknown.value.status_code == 404


@requirement("ollama.sdk")
def test_pictures_and_a_form_of_the_answer_reach_the_agent(client: ollama.Client) -> None:
    jpeg = b"\xff\xd8\xff\xe0"
    client.chat("looker", [{"role": "user", "content": "What is it?", "images": [b"\x89PNG\r\n\x1a\n...", jpeg]}])
    client.generate("looker", "And that?", images=["R0lGODlhAQABAAAAACw="])
    chat, generate = [request.messages[-1] for request in ASKED]
    assert isinstance(chat, UserMessage)
    assert isinstance(generate, UserMessage)
    pictures = [part for part in (*chat.parts, *generate.parts) if isinstance(part, ImagePart)]
    assert [picture.media_type for picture in pictures] == ["image/png", "image/jpeg", "image/gif"]
    assert pictures[1].content == jpeg
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    assert client.chat("person", SAID, format=schema).message.content == '{"name": "Ada"}'
    assert client.chat("person", SAID, format="json").message.content == '{"name": "Ada"}'
    assert ASKED[-2].json_schema is not None
    assert ASKED[-2].json_schema.schema == schema
    assert ASKED[-1].response_format == {"type": "json_object"}


@requirement("ollama.sdk")
def test_texts_are_embedded_by_both_names_of_the_route(client: ollama.Client) -> None:
    several = client.embed("lengths:latest", ["one", "three"])
    assert (several.model, several.embeddings) == ("lengths:latest", [[3.0, 0.5], [5.0, 0.5]])
    assert several.prompt_eval_count == 3
    assert client.embed("lengths", "four").embeddings == [[4.0, 0.5]]
    assert client.embed("lengths", []).embeddings == []
    assert client.embeddings("lengths", "four").embedding == [4.0, 0.5]
    with pytest.raises(ollama.ResponseError, match="makes no embeddings"):
        client.embed("talker", "four")


@requirement("ollama.lines")
def test_a_silence_is_filled_with_lines_that_the_package_reads(client: ollama.Client) -> None:
    SILENCES.clear()
    parts = []
    for part in client.chat("silent", SAID, stream=True):
        SILENCES.append(part)
        parts.append(part)
    assert "".join([part.message.content or "" for part in parts]) == "At last."
    assert [part.done for part in parts] == [*[False] * (len(parts) - 1), True]
