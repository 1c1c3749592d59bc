"""The common contract of all APIs, those of the package and one from outside: the same cases for each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from openai_compat import ChatRest, Deadlines, Limits, Rates, Server
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.ollama import Ollama
from openai_compat.errors import AgentError
from openai_compat.events import UsageReported
from tests.api.toy_api import TOY, TOY_MODELS
from tests.conftest import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import Recorder, answer, request
from tests.support.hooked import Diary

pytestmark = pytest.mark.anyio

KEY = (b"authorization", b"Bearer secret")


@dataclass(frozen=True)
class Spoken:
    """How a test speaks one API: the path, the bodies, and the meaning of answers."""

    path: str
    body: Callable[[bool], dict[str, Any]]
    text: Callable[[Any], str]
    piece: Callable[[Any], str]
    code: Callable[[Any], str]
    below: str
    content_type: str = "text/event-stream; charset=utf-8"
    silence: bytes = b": keep-alive"


def of_openai(told: Any) -> str:
    return str(told["error"]["code"] or told["error"]["type"])


APIS = {
    "chat": Spoken(
        "/v1/chat/completions",
        lambda stream: {"model": "agent", "messages": [{"role": "user", "content": "hi"}], "stream": stream},
        lambda told: told["choices"][0]["message"]["content"],
        lambda event: (event["choices"][0]["delta"].get("content") or "") if event.get("choices") else "",
        of_openai,
        "/v1/chat/nothing",
    ),
    "responses": Spoken(
        "/v1/responses",
        lambda stream: {"model": "agent", "input": "hi", "stream": stream},
        lambda told: told["output"][0]["content"][0]["text"],
        lambda event: event["delta"] if event["type"] == "response.output_text.delta" else "",
        lambda told: str(told.get("code") or of_openai(told)) if "error" in told or "code" in told else "",
        "/v1/responses/1/nothing",
    ),
    "chat REST": Spoken(
        "/api/chat/completions",
        lambda stream: {"messages": [{"role": "user", "content": "hi"}], "stream": stream},
        lambda told: told["message"]["content"],
        lambda event: event.get("content", ""),
        of_openai,
        "/api/chat/nothing",
    ),
    "messages": Spoken(
        "/v1/messages",
        lambda stream: {
            "model": "agent",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "hi"}],
            "stream": stream,
        },
        lambda told: told["content"][0]["text"],
        lambda event: event["delta"].get("text", "") if event["type"] == "content_block_delta" else "",
        lambda told: told["error"]["details"]["error_code"],
        "/v1/messages/nothing",
        silence=b"event: ping",
    ),
    "ollama": Spoken(
        "/api/chat",
        lambda stream: {"model": "agent", "messages": [{"role": "user", "content": "hi"}], "stream": stream},
        lambda told: told["message"]["content"],
        lambda event: event["message"]["content"],
        lambda told: told["code"],
        "/api/tags/nothing",
        "application/x-ndjson",
        silence=b'"content":""},"done":false}',
    ),
    "toy": Spoken(
        "/toy/say",
        lambda stream: {"say": "hi", "stream": stream},
        lambda told: told["text"],
        lambda event: event.get("text", ""),
        lambda told: told["kind"],
        "/toy/nothing",
        "application/x-ndjson",
        silence=b"",
    ),
}


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> Spoken:
    return APIS[request.param]


async def agent(prompt: str) -> AsyncIterator[Any]:
    yield "one "
    yield UsageReported(1, 2)
    yield "two"


def serve(agent: Any = agent, **settings: Any) -> Server:
    return Server(agent, chat_rest=ChatRest(), apis=[TOY, TOY_MODELS, AnthropicMessages(), Ollama()], **settings)


async def send(server: Server, api: Spoken, *headers: tuple[bytes, bytes], stream: bool = False) -> Recorder:
    return await answer(server, request(api.path, api.body(stream), *headers))


def events(sent: Recorder) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in sent.data.splitlines() if line.startswith((b"data: ", b"{"))]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


@requirement("api.contract")
async def test_the_plain_answer_says_what_the_stream_says(api: Spoken) -> None:
    plain, streamed = await send(serve(), api), await send(serve(), api, stream=True)
    assert (plain.status, streamed.status) == (200, 200), plain.text
    assert api.text(json.loads(plain.data)) == "one two"
    assert "".join([api.piece(event) for event in events(streamed)]) == "one two"
    assert streamed.headers["content-type"] == api.content_type


@requirement("api.contract")
async def test_errors_have_the_form_of_the_api(api: Spoken) -> None:
    server = serve(keys="secret", limits=Limits(slots=1))
    refused = await send(server, api)
    assert (refused.status, api.code(json.loads(refused.data))) == (401, "invalid_api_key")
    method = await answer(server, request(api.path, b"", KEY, method="DELETE"))
    assert (method.status, api.code(json.loads(method.data))) == (405, "method_not_supported")
    assert "POST" in method.headers["allow"]
    unknown = await answer(server, request(api.below, b"", KEY, method="GET"))
    assert (unknown.status, api.code(json.loads(unknown.data))) == (404, "unknown_url")
    server.services.live.slots.close()
    draining = await send(server, api, KEY)
    assert (draining.status, api.code(json.loads(draining.data))) == (503, "shutting_down")


@requirement("api.contract")
async def test_a_rate_is_counted_for_each_api_and_told_in_its_form(api: Spoken) -> None:
    server = serve(rates=Rates(1))
    assert (await send(server, api)).status == 200
    limited = await send(server, api)
    assert (limited.status, api.code(json.loads(limited.data))) == (429, "rate_limit_exceeded")


@requirement("api.contract")
async def test_a_failure_within_a_stream_ends_it_in_the_form_of_the_api(api: Spoken) -> None:
    async def failing(prompt: str) -> AsyncIterator[str]:
        yield "one "
        raise AgentError("It broke.", code="broken")

    sent = await send(serve(failing), api, stream=True)
    assert sent.status == 200
    told = events(sent)
    assert "".join([api.piece(event) for event in told if "error" not in event and "wrong" not in event]) == "one "
    assert b"broken" in sent.data
    assert sent.complete


@requirement("api.contract")
async def test_a_key_makes_a_second_request_a_repeat(api: Spoken) -> None:
    runs: list[str] = []

    async def counted(prompt: str) -> str:
        runs.append(prompt)
        return "once"

    server, key = serve(counted), (b"idempotency-key", b"k")
    first, second = await send(server, api, key), await send(server, api, key)
    assert (first.data, len(runs)) == (second.data, 1)
    assert second.headers["idempotent-replayed"] == "true"


@requirement("api.contract")
async def test_hooks_are_told_of_each_turn_once(api: Spoken) -> None:
    diary = Diary()
    await send(serve(hooks=[diary]), api, stream=True)
    await diary.until("settled")
    assert diary.names == ["admit", "started", "event", "ended", "settled"]
    (outcome,) = diary.of("ended")
    assert (outcome.finish, outcome.error, outcome.usage.output_tokens) == ("stop", None, 2)


@requirement("api.contract")
async def test_a_silent_agent_is_filled_in_as_the_framing_has_it() -> None:
    async def silent(prompt: str) -> AsyncIterator[str]:
        await anyio.sleep(0.3)
        yield "late"

    for name, spoken in APIS.items():
        sent = await send(serve(silent, deadlines=Deadlines(head=0.01, heartbeat=0.01)), spoken, stream=True)
        assert spoken.silence in sent.data, name
        assert (b": keep-alive" in sent.data) == (spoken.silence == b": keep-alive"), name
        assert "".join([spoken.piece(event) for event in events(sent)]) == "late"


@requirement("api.contract")
async def test_an_api_may_have_a_header_of_its_own_for_the_key() -> None:
    server = serve(keys="secret")
    toy, own = APIS["toy"], (b"x-toy-key", b"secret")
    assert (await send(server, toy, own)).status == 200
    assert (await send(server, toy, own, KEY)).status == 200
    assert (await send(server, toy, own, (b"api-key", b"secret"))).status == 200
    assert (await send(server, toy, own, (b"authorization", b"Bearer other"))).status == 401
    assert (await send(server, APIS["chat"], own)).status == 401


@requirement("api.contract")
async def test_two_apis_may_share_a_path_told_apart_by_a_header() -> None:
    server = serve()
    theirs = await answer(server, request("/v1/models", b"", (b"toy-version", b"1"), method="GET"))
    ours = await answer(server, request("/v1/models", b"", method="GET"))
    assert json.loads(theirs.data) == {"toys": ["agent"]}
    assert json.loads(ours.data)["object"] == "list"


@requirement("api.contract")
async def test_a_writer_can_close_what_is_open_before_the_error() -> None:
    async def failing(prompt: str) -> AsyncIterator[str]:
        yield "one"
        raise AgentError("It broke.", code="broken")

    told = events(await send(serve(failing), APIS["toy"], stream=True))
    assert told == [{"text": "one"}, {"closed": True}, {"wrong": "It broke.", "kind": "broken"}]


def test_two_apis_that_take_all_requests_to_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="two routes"):
        Server(agent, apis=[TOY, TOY])
