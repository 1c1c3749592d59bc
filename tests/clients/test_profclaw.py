"""profClaw's "Chat API": every example of its document, against a team served here.

The team's models are a scripted upstream, called through the anthropic and openai SDKs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from openai_compat import ChatRest, ContextQuery, Principal, Server
from openai_compat.providers import Providers, ProviderSettings
from openai_compat.tools import AskLater, ToolLoop
from tests.backends.upstream import Upstream
from tests.clients import documented
from tests.clients.running import run
from tests.providers.support import calls, claude_says_four, lists, says
from tests.transports import uvicorn_socket

ADDRESS = "http://localhost:3000"
TOKEN = "a-session-token"


def read_file(path: str) -> str:
    """Reads a file of the project."""
    return f"# {path}: a library"


def context(query: ContextQuery) -> str | None:
    return None if query.task_id is None else f"You work on {query.task_id} as {query.preset_id}."


@contextmanager
def serving(*replies: Any, keys: Any = None) -> Iterator[tuple[str, Upstream]]:
    """The team on a free port; yields its URL, and the scripted upstream with its recorded requests."""
    upstream = Upstream(*replies)
    with upstream.served() as address:
        settings = {
            "anthropic": ProviderSettings(api_key="sk-ant", base_url=address),
            "openai": ProviderSettings(api_key="sk-oai", base_url=f"{address}/v1"),
        }
        aliases = {"claude-sonnet-4-6": "anthropic/claude-sonnet-4-6", "gpt-4o": "openai/gpt-4o"}
        providers = Providers(settings, aliases=aliases)
        tools: list[Any] = [read_file]
        team = {name: ToolLoop(providers.backend(aliases[name]), tools, approver=AskLater()) for name in aliases}
        admins = frozenset(["anonymous", "owner"])
        api = ChatRest(context=context, cookie="profclaw_session", admins=admins)
        with uvicorn_socket(Server(team, keys=keys, providers=providers, chat_rest=api)) as url:
            yield url, upstream


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[httpx2.Client]:
    with serving(*getattr(request, "param", ())) as (url, _), httpx2.Client(base_url=url, timeout=20) as client:
        yield client


def test_completions() -> None:
    """With the key in the cookie, as profClaw's users send it."""
    command = documented.PROFCLAW_COMPLETIONS.replace("<token>", TOKEN)
    promised = json.loads(documented.PROFCLAW_COMPLETION)
    with serving(claude_says_four(), keys={TOKEN: Principal("owner")}) as (url, upstream):
        answer = json.loads(run(command, ADDRESS, url))
        refused = json.loads(run(documented.PROFCLAW_COMPLETIONS, ADDRESS, url))

    assert set(answer) == set(promised)
    assert {name: type(value) for name, value in answer.items()} == {
        name: type(value) for name, value in promised.items()
    }
    assert (answer["provider"], answer["model"]) == ("anthropic", "claude-sonnet-4-6")
    assert answer["message"] == {"role": "assistant", "content": "Four."}
    assert answer["usage"] == {"promptTokens": 20, "completionTokens": 2, "totalTokens": 22}
    (asked,) = upstream.requests
    assert asked["model"] == "claude-sonnet-4-6"
    assert refused["error"]["code"] == "invalid_api_key"


def test_quick() -> None:
    with serving(claude_says_four()) as (url, _):
        assert json.loads(run(documented.PROFCLAW_QUICK, ADDRESS, url))["content"] == "Four."


def test_smart() -> None:
    """Without a content type, as in the document; only the messages, which it leaves out, are filled in."""
    command = documented.PROFCLAW_SMART.replace("[...]", '[{"role": "user", "content": "What is next?"}]')
    with serving(claude_says_four()) as (url, upstream):
        answer = json.loads(run(command, ADDRESS, url))
    assert answer["context"] == {"taskId": "task_01", "presetId": "profclaw-assistant", "ticketId": None}
    assert "You work on task_01 as profclaw-assistant." in json.dumps(upstream.requests[0]["system"])


@pytest.mark.parametrize("client", [[says("The tests.")]], indirect=True)
def test_conversations(client: httpx2.Client) -> None:
    made = client.post("/api/chat/conversations", content=documented.PROFCLAW_CREATE).json()["conversation"]
    method, path = documented.PROFCLAW_LIST.split()
    listed = client.request(method, path).json()
    answer = client.post(f"/api/chat/conversations/{made['id']}/messages", content=documented.PROFCLAW_MESSAGE).json()
    found = client.get(f"/api/chat/conversations/{made['id']}").json()
    gone = client.delete(f"/api/chat/conversations/{made['id']}")
    after = client.request(method, path).json()

    assert json.loads(documented.PROFCLAW_CREATE).items() <= made.items()
    assert [one["id"] for one in listed["conversations"]] == [made["id"]]
    assert {"userMessage", "assistantMessage", "usage"} <= set(answer)
    assert answer["assistantMessage"]["content"] == "The tests."
    assert answer["assistantMessage"]["provider"] == "openai"
    assert found["messages"] == [answer["userMessage"], answer["assistantMessage"]]
    assert (gone.status_code, after["conversations"]) == (200, [])


TOOLS = [calls("read_file", {"path": "README"}), says("It is a library.")]


@pytest.mark.parametrize("client", [TOOLS], indirect=True)
def test_tools_and_approval(client: httpx2.Client) -> None:
    body = json.loads(documented.PROFCLAW_WITH_TOOLS) | {"model": "gpt-4o"}
    made = client.post("/api/chat/conversations", json={}).json()["conversation"]
    asked = client.post(f"/api/chat/conversations/{made['id']}/messages/with-tools", json=body).json()
    (pending,) = asked["pendingApprovals"]
    approve = documented.PROFCLAW_APPROVE.replace("conv_01", made["id"]).replace("approval_01", pending["id"])
    decided = client.post("/api/chat/tools/approve", content=approve)
    again = client.post("/api/chat/tools/approve", content=approve)
    found = client.get(f"/api/chat/conversations/{made['id']}").json()

    assert (decided.status_code, decided.json()["result"]) == (200, "# README: a library")
    assert again.status_code == 409
    assert found["messages"][-1]["content"].endswith("It is a library.")


@pytest.mark.parametrize("client", [[says("Yes.")] * 5], indirect=True)
def test_every_documented_mode_and_decision_is_known(client: httpx2.Client) -> None:
    made = client.post("/api/chat/conversations", json={}).json()["conversation"]
    path = f"/api/chat/conversations/{made['id']}/messages/with-tools"
    for mode in documented.PROFCLAW_MODES.split(" | "):
        body = {"content": "Hello", "model": "gpt-4o", "securityMode": mode}
        assert client.post(path, json=body).status_code == 200
    for decision in documented.PROFCLAW_DECISIONS.split(" | "):
        body = {"conversationId": made["id"], "approvalId": "approval_01", "decision": decision}
        assert client.post("/api/chat/tools/approve", json=body).json()["error"]["code"] == "approval_not_found"


@pytest.mark.parametrize("client", [[lists("gpt-4o")] * 8], indirect=True)
def test_models_and_providers(client: httpx2.Client) -> None:
    bodies = {
        "/api/chat/providers/openai/configure": {"apiKey": "sk-other"},
        "/api/chat/providers/default": {"provider": "anthropic"},
    }
    found: dict[str, Any] = {}
    for line in documented.PROFCLAW_CATALOG.splitlines():
        method, path = line.partition("#")[0].split()
        path = path.replace(":type", "openai")
        answer = client.request(method, path, json=bodies.get(path))
        assert answer.status_code == 200, answer.text
        found[path] = answer.json()

    assert [one["id"] for one in found["/api/chat/models"]["models"]] == ["claude-sonnet-4-6", "gpt-4o"]
    assert [one["id"] for one in found["/api/chat/models?provider=anthropic"]["models"]] == ["claude-sonnet-4-6"]
    assert [one["id"] for one in found["/api/chat/providers/openai/models"]["models"]] == ["gpt-4o"]
    assert found["/api/chat/providers/openai/health"]["healthy"] is True
