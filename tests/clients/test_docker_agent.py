"""docker-agent's "Chat Server": every example and every row of its document, against its profile served here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from openai_compat import Cors, Deadlines, MemoryStore, key_from_env
from tests.adapters.served import serve
from tests.clients import documented
from tests.clients.running import has, run, run_python
from tests.clients.team import MIB, Team, profile
from tests.transports import uvicorn_socket
from tests.trust.probe import CHAT, error_of, eventually, frames, text_of
from tests.trust.wire import RawClient

ADDRESS = "http://127.0.0.1:8083"
PATH = {"PYTHONPATH": str(Path(__file__).parents[2])}
THREAD = {"X-Conversation-Id": "my-thread-1"}
UI = "https://my-ui.example.com"
ALICE = "Remember my name is Alice"
WHO = "What is my name?"


def asking(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "root", "messages": [{"role": "user", "content": text}], **fields}


def say(client: httpx2.Client, text: str, headers: dict[str, str] = THREAD, **fields: Any) -> str:
    answer = client.post(CHAT, json=asking(text, **fields), headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


@pytest.fixture
def team() -> Team:
    return Team()


@pytest.fixture
def client(team: Team) -> Iterator[httpx2.Client]:
    with uvicorn_socket(profile(team)) as url, httpx2.Client(base_url=url, timeout=20) as client:
        yield client


# the examples, on the command line


def test_the_quick_start(tmp_path: Path) -> None:
    """Models, a chat, a stream and the Python client, all without a key."""
    with serve("tests.clients.team:root", env=PATH) as served:
        url = f"http://127.0.0.1:{served.port}"
        models = json.loads(run(documented.DOCKER_AGENT_MODELS, ADDRESS, url))
        answer = json.loads(run(documented.DOCKER_AGENT_CHAT, ADDRESS, url))
        *chunks, end = frames(run(documented.DOCKER_AGENT_STREAMING, ADDRESS, url))
        printed = run_python(documented.DOCKER_AGENT_PYTHON, ADDRESS, url)
    assert has(models, json.loads(documented.DOCKER_AGENT_MODELS_ANSWER)), models
    assert (answer["object"], answer["model"]) == ("chat.completion", "root")
    assert answer["choices"][0]["message"]["content"] == text_of(chunks) == "I do not know your name."
    assert ({chunk["object"] for chunk in chunks}, end) == ({"chat.completion.chunk"}, "[DONE]")
    assert printed == "I do not know your name.\n"


def test_conversation_caching_as_documented() -> None:
    """The two requests with X-Conversation-Id; by default the server is stateless."""
    said = []
    for target in ("tests.clients.team:server", "tests.clients.team:root"):
        with serve(target, env=PATH) as served:
            url = f"http://127.0.0.1:{served.port}"
            run(documented.DOCKER_AGENT_REMEMBER, ADDRESS, url)
            answer = json.loads(run(documented.DOCKER_AGENT_RECALL, ADDRESS, url))
            said.append(answer["choices"][0]["message"]["content"])
    assert said == ["Your name is Alice.", "I do not know your name."]


# the table of endpoints, and models


def test_every_agent_is_a_model_and_an_unknown_one_is_the_first(client: httpx2.Client) -> None:
    models = [model["id"] for model in client.get("/v1/models").json()["data"]]
    answers = [client.post(CHAT, json=asking("hi", model=model)).json() for model in ("reviewer", "gpt-4")]
    assert models == ["root", "reviewer"]
    assert [answer["model"] for answer in answers] == ["reviewer", "gpt-4"]
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == [
        "Looks good: hi",
        "I do not know your name.",
    ]


def test_the_specification_is_found_at_the_top_without_a_key(team: Team) -> None:
    with uvicorn_socket(profile(team, keys="token")) as url:
        answer = httpx2.get(f"{url}/openapi.json")
    assert {"/v1/models", "/v1/chat/completions"} <= set(answer.json()["paths"])


# caching that survives failures


def fails(client: httpx2.Client, team: Team, *, stream: bool) -> None:
    answer = client.post(CHAT, json=asking("fail", stream=stream), headers=THREAD)
    assert error_of(answer)[:2] == (500, "server_error")


def times_out(client: httpx2.Client, team: Team, *, stream: bool) -> None:
    answer = client.post(CHAT, json=asking("wait", stream=stream), headers=THREAD)
    assert "timeout" in answer.text
    assert answer.status_code == (200 if stream else 504)
    assert "[DONE]" not in answer.text


def disconnects(client: httpx2.Client, team: Team, *, stream: bool) -> None:
    body = json.dumps(asking("wait", stream=stream)).encode()
    team.stopped.clear()
    before = len(team.histories)
    with RawClient(str(client.base_url)) as leaver:
        leaver.head("Content-Type: application/json", "X-Conversation-Id: my-thread-1", f"Content-Length: {len(body)}")
        leaver.socket.sendall(body)
        eventually(lambda: len(team.histories) > before)
    assert team.stopped.wait(10)


@pytest.mark.parametrize("stream", [True, False])
def test_after_any_failure_the_conversation_goes_on_as_if_nothing_had_been_asked(team: Team, stream: bool) -> None:
    """Fail, time out and disconnect in one conversation, between turns that succeed"""
    deadlines = Deadlines(request=1.5, head=0.1)
    with uvicorn_socket(profile(team, deadlines=deadlines)) as url, httpx2.Client(base_url=url, timeout=20) as client:
        say(client, ALICE)
        for number, misfortune in enumerate([fails, times_out, disconnects], 1):
            misfortune(client, team, stream=stream)
            if misfortune is disconnects:  # the other failures are answered, so the conversation is free by then
                eventually(lambda: client.post(CHAT, json=asking("fail"), headers=THREAD).status_code == 500)
            assert say(client, WHO) == "Your name is Alice."
            assert team.histories[-1] == [
                ALICE,
                "Your name is Alice.",
                *[WHO, "Your name is Alice."] * (number - 1),
                WHO,
            ]
        kept = client.get("/v1/chat/conversations/my-thread-1").json()
    assert [message["content"] for message in kept["messages"] if message["role"] == "user"] == [ALICE, WHO, WHO, WHO]


def test_a_first_turn_that_fails_leaves_no_conversation(client: httpx2.Client, team: Team) -> None:
    fails(client, team, stream=False)
    assert client.get("/v1/chat/conversations/my-thread-1").status_code == 404
    assert say(client, WHO) == "I do not know your name."
    assert team.histories[-1] == [WHO]


def test_a_second_request_at_once_is_refused_and_others_are_not(client: httpx2.Client, team: Team) -> None:
    """25: and the SDK, which retries a 409 on its own, is told not to"""
    sdk = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=2, timeout=20)
    with sdk, client.stream("POST", CHAT, json=asking("wait", stream=True), headers=THREAD) as first:
        pieces = first.iter_text()
        assert any("waiting" in piece for piece in pieces)
        with pytest.raises(openai.ConflictError) as refused:
            sdk.chat.completions.create(model="root", messages=asking(WHO)["messages"], extra_headers=THREAD)
        assert say(client, WHO, {"X-Conversation-Id": "my-thread-2"}) == "I do not know your name."
        assert len(team.histories) == 2
        team.go_on.set()
        assert "[DONE]" in "".join(pieces)
    assert (refused.value.status_code, refused.value.code) == (409, "conversation_busy")
    assert say(client, WHO) == "I do not know your name."
    assert team.histories[-1] == ["wait", "waiting I do not know your name.", WHO]


def test_conversations_go_when_they_are_idle_and_the_oldest_when_there_are_too_many(team: Team) -> None:
    now = [0.0]
    store = MemoryStore(max_items=2, ttl=1800, clock=lambda: now[0])
    with (
        uvicorn_socket(profile(team, store=store)) as url,
        httpx2.Client(base_url=url, timeout=20) as client,
    ):
        say(client, ALICE)
        now[0] += 1799
        assert say(client, WHO) == "Your name is Alice."
        now[0] += 1800
        assert say(client, WHO) == "I do not know your name."
        say(client, ALICE)
        for name in ("b", "c"):
            say(client, WHO, {"X-Conversation-Id": name})
        assert say(client, WHO) == "I do not know your name."


def test_nothing_new_from_the_user_is_refused_and_nothing_is_run(client: httpx2.Client, team: Team) -> None:
    """9"""
    say(client, ALICE)
    for messages in (
        [{"role": "system", "content": "x"}],
        [{"role": "user", "content": ALICE}, {"role": "assistant", "content": "Your name is Alice."}],
    ):
        answer = client.post(CHAT, json=asking("", messages=messages), headers=THREAD)
        assert error_of(answer) == (400, "invalid_request_error", "invalid_request", "messages")
    assert len(team.histories) == 1


# authentication and CORS


def test_with_a_key_everything_below_v1_needs_it(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_BEARER_TOKEN", "token")
    with uvicorn_socket(profile(team, keys=key_from_env("CHAT_BEARER_TOKEN"))) as url:
        statuses = [
            (
                httpx2.get(f"{url}/v1/models", headers=key).status_code,
                httpx2.post(f"{url}{CHAT}", json=asking("hi"), headers=key).status_code,
            )
            for key in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer token"})
        ]
    assert statuses == [(401, 401), (401, 401), (200, 200)]


def test_cors_is_off_by_default(client: httpx2.Client) -> None:
    answer = client.get("/v1/models", headers={"Origin": UI})
    assert [name for name in answer.headers if name.startswith("access-control")] == []


def test_one_origin_may_call_with_a_conversation_and_others_may_not(team: Team) -> None:
    """29: preflights need no key; the page can read refusals, too"""
    server = profile(team, keys="token", cors=Cors([UI], regex=r"https://[a-z]+\.preview\.example\.com"))
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-conversation-id,authorization",
    }
    with uvicorn_socket(server) as url, httpx2.Client(base_url=url, timeout=20) as client:
        for origin in (UI, "https://new.preview.example.com"):
            preflight = client.options(CHAT, headers={"Origin": origin, **asks})
            assert preflight.status_code == 200
            assert "x-conversation-id" in preflight.headers["access-control-allow-headers"]
            for headers in ({"Authorization": "Bearer token"}, {}):
                answer = client.post(CHAT, json=asking("hi"), headers={"Origin": origin, **THREAD, **headers})
                assert answer.headers["access-control-allow-origin"] == origin
                assert "x-conversation-id" in answer.headers["access-control-expose-headers"]
                assert "Origin" in answer.headers["vary"]
        for origin in ("https://evil.example", f"{UI}.evil.example", f"{UI}:8443", "http://my-ui.example.com", "null"):
            for answer in (
                client.options(CHAT, headers={"Origin": origin, **asks}),
                client.get("/v1/models", headers={"Origin": origin}),
            ):
                assert "access-control-allow-origin" not in answer.headers
                assert "Origin" in answer.headers["vary"]


# the table of flags


def chunked(size: int) -> Iterator[bytes]:
    for _ in range(size // 1024):
        yield b" " * 1024


@pytest.mark.parametrize("body", [b" " * (MIB + 1), chunked(2 * MIB)], ids=["announced", "chunked"])
def test_a_body_over_the_limit_is_a_413_either_way(client: httpx2.Client, body: Any) -> None:
    """24"""
    answer = client.post(CHAT, content=body, headers={"Content-Type": "application/json"})
    assert error_of(answer)[:3] == (413, "invalid_request_error", "request_too_large")


def test_every_documented_flag_is_one_of_the_command_line() -> None:
    """With the values that the table gives as defaults or shows in its examples"""
    flags = "--agent root --cors-origin https://my-ui.example.com --api-key-env CHAT_BEARER_TOKEN --request-timeout 5m "
    flags += "--max-request-size 1048576 --conversations-max 100 --conversation-ttl 30m --max-idle-runtimes 4"
    environment = {**PATH, "CHAT_BEARER_TOKEN": "token"}
    with serve("tests.clients.team:agents", *flags.split(), env=environment) as served:
        url = f"http://127.0.0.1:{served.port}"
        headers = {"Authorization": "Bearer token", "Origin": UI}
        with httpx2.Client(base_url=url, timeout=20, headers=headers) as client:
            models = client.get("/v1/models")
            said = [say(client, ALICE), say(client, WHO)]
            too_large = client.post(CHAT, content=b" " * (MIB + 1), headers={"Content-Type": "application/json"})
            refused = httpx2.get(f"{url}/v1/models")
    assert [model["id"] for model in models.json()["data"]] == ["root"]
    assert models.headers["access-control-allow-origin"] == UI
    assert said == ["Your name is Alice."] * 2
    assert (too_large.status_code, refused.status_code) == (413, 401)


@pytest.mark.parametrize("arguments", [["--api-key", "token"], ["-a", "reviewer", "--api-key", "token"]])
def test_a_key_and_an_agent_can_be_given_literally(arguments: list[str]) -> None:
    with serve("tests.clients.team:agents", *arguments, env=PATH) as served:
        url = f"http://127.0.0.1:{served.port}/v1/models"
        models = httpx2.get(url, headers={"Authorization": "Bearer token"}).json()["data"]
        assert httpx2.get(url).status_code == 401
    assert [model["id"] for model in models] == (["reviewer"] if "-a" in arguments else ["root", "reviewer"])


# Open WebUI


def test_open_webuis_first_message_with_the_chores_beside_it(team: Team) -> None:
    """Four requests at once with the same chat id: exactly one is a turn, whatever their order."""
    chores = [
        "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n",
        "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history, along with\n",
        "### Task:\nSuggest 3-5 relevant follow-up questions or prompts that the user might naturally ask next\n",
    ]
    history = f"### Chat History:\n<chat_history>\nUSER: {WHO}\n</chat_history>"
    headers = {"X-OpenWebUI-Chat-Id": "chat-1", "Authorization": "Bearer token"}
    with (
        uvicorn_socket(profile(team, keys="token")) as url,
        httpx2.Client(base_url=url, timeout=20, headers=headers) as client,
        client.stream("POST", CHAT, json=asking("wait", stream=True)) as turn,
    ):
        pieces = turn.iter_text()
        assert any("waiting" in piece for piece in pieces)
        made = [json.loads(say(client, chore + history, headers)) for chore in chores]
        team.go_on.set()
        assert "[DONE]" in "".join(pieces)
        assert client.get("/v1/chat/conversations/chat-1").json()["turns"] == 1
    assert made == [{"title": WHO}, {"tags": ["General"]}, {"follow_ups": []}]
    assert len(team.histories) == 1
