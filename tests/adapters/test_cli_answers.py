"""What a server with options of `openai-compat serve` answers, in this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from openai_compat_adapters._cli.pool_agents import backend_maker
from tests.adapters.in_process import invoke, working_in, would_serve
from tests.adapters.served import HERE, PATIENCE

AGENTS = "operated_agents:agents"
Serve = Callable[..., httpx2.Client]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with working_in(HERE, monkeypatch):
        yield


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Makes clients for the servers that the command line would run."""
    clients: list[httpx2.Client] = []

    def served(*arguments: str) -> httpx2.Client:
        clients.append(would_serve(monkeypatch, *arguments).client)
        return clients[-1]

    yield served
    for client in clients:
        client.close()


def ask(client: httpx2.Client, model: str, prompt: str = "hi", conversation: str | None = None) -> httpx2.Response:
    headers = {} if conversation is None else {"X-Conversation-Id": conversation}
    return send(client, model, [{"role": "user", "content": prompt}], headers)


def send(
    client: httpx2.Client, model: str, messages: list[dict[str, Any]], headers: dict[str, str] | None = None
) -> httpx2.Response:
    return client.post("/v1/chat/completions", json={"model": model, "messages": messages}, headers=headers)


def text(answer: httpx2.Response) -> str:
    found: str = answer.json()["choices"][0]["message"]["content"]
    return found


def say(client: httpx2.Client, prompt: str, conversation: str = "c") -> str:
    return text(ask(client, "seen", prompt, conversation))


def models(client: httpx2.Client) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json()["data"]]


# agents


def test_one_of_several_agents_is_served_alone(serve: Serve) -> None:
    client = serve(AGENTS, "-a", "seen")
    assert models(client) == ["seen"]
    assert ask(client, "pid").json()["error"]["code"] == "model_not_found"


def test_unknown_models_can_get_the_first_agent(serve: Serve) -> None:
    answer = ask(serve(AGENTS, "--agent", "seen", "--unknown-model", "default"), "gpt-4o")
    assert (text(answer), answer.json()["model"]) == ("user: hi", "gpt-4o")


class Backend:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    async def run(self, prompt: str) -> str:
        return prompt


class Declared(Backend):
    """Has the attribute that marks an AgentBackend."""

    capabilities = None


@pytest.mark.parametrize(
    ("kind", "idle", "asked_for", "pooled"),
    [
        (Backend, 4, True, True),
        (Backend, 4, False, False),
        (Declared, 4, False, True),
        (Declared, 0, True, False),
        (len, 4, True, False),
    ],
)
def test_classes_are_pooled_and_those_that_may_hold_a_conversation_only_when_asked_for(
    kind: type, idle: int, asked_for: bool, pooled: bool
) -> None:
    made = backend_maker(idle, asked_for=asked_for)(kind)
    assert (type(made).__name__ == "PooledBackend") is pooled


@pytest.mark.parametrize(("options", "made"), [([], "1 2 3"), (["--max-idle-runtimes", "1"], "1 1 1")])
def test_idle_agents_are_used_again_if_they_are_kept(serve: Serve, options: list[str], made: str) -> None:
    client = serve("operated_agents:Numbered", *options)
    assert " ".join([text(ask(client, "Numbered")) for _ in range(3)]) == made


# access and messages


def test_models_can_be_public_while_turns_need_a_key(serve: Serve) -> None:
    client = serve(AGENTS, "--api-key", "k", "--public-models")
    assert "seen" in models(client)
    assert ask(client, "seen").status_code == 401


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "system: S / user: one / assistant: two / user: three"),
        (["--history", "last-user"], "system: S / user: three"),
        (["--system", "ignore"], "user: one / assistant: two / user: three"),
        (["--system", "reject"], None),
    ],
)
def test_what_agents_get_of_the_messages_is_set(serve: Serve, options: list[str], expected: str | None) -> None:
    roles = [("system", "S"), ("user", "one"), ("assistant", "two"), ("user", "three")]
    answer = send(serve(AGENTS, *options), "seen", [{"role": role, "content": said} for role, said in roles])
    if expected is None:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages[0].role")
    else:
        assert text(answer) == expected


def test_a_message_from_the_user_can_be_demanded(serve: Serve) -> None:
    answer = send(serve(AGENTS, "--user", "required"), "seen", [{"role": "system", "content": "S"}])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")


def test_conversations_are_kept_up_to_a_number_and_only_when_asked_for(serve: Serve) -> None:
    client = serve(AGENTS)
    assert [say(client, "one"), say(client, "two")] == ["user: one", "user: two"]
    client = serve(AGENTS, "--conversations-max", "1")
    say(client, "one")
    assert say(client, "two") == "user: one / assistant: user: one / user: two"
    say(client, "other", "d")
    assert say(client, "three") == "user: three"


def test_conversations_are_forgotten_when_unused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_COMPAT_CONVERSATIONS_MAX", "9")
    monkeypatch.setenv("OPENAI_COMPAT_CONVERSATION_TTL", "1ms")
    client = serve(AGENTS)
    say(client, "one")
    end = time.monotonic() + PATIENCE
    while say(client, "two") != "user: two":
        assert time.monotonic() < end, "not in time"


# what is refused


def test_a_server_with_its_state_in_memory_is_not_served_by_several_workers() -> None:
    result = invoke("serve", "operated_agents:remembering", "--workers", "2")
    assert result.exit_code == 2
    assert "keep responses and conversations of its own in its memory" in result.output


def test_without_watchfiles_a_reload_is_refused_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = invoke("serve", AGENTS, "--reload")
    assert result.exit_code == 2
    assert "--reload needs the package watchfiles: pip install 'openai-compat[reload]'" in result.output
