"""Settings of the wrong type are refused when they are made, with a readable message."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from openai_compat import (
    Admission,
    AgentRequest,
    ChatRest,
    ChatWebSocket,
    Compaction,
    Conversations,
    Cors,
    Deadlines,
    Disconnect,
    Hooks,
    Limits,
    MessagePolicy,
    Principal,
    Rates,
    Server,
    Webhooks,
)
from openai_compat.api.services import Settings
from openai_compat.http import HttpRequest
from openai_compat_adapters.webhooks import http_post
from tests.conftest import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import CHAT, answer, ask, request


def agent(prompt: str) -> str:
    return f"said {prompt}"


def with_key(key: str) -> HttpRequest:
    return request(CHAT, ask(), (b"authorization", f"Bearer {key}".encode()))


def served(**settings: Any) -> Callable[[], Server]:
    return lambda: Server(agent, **settings)


WRONG: dict[str, Callable[[], object]] = {
    "cors as a list": served(cors=["https://app.example"]),
    "limits as a number": served(limits=5),
    "deadlines as seconds": served(deadlines=30),
    "admission as seconds": served(admission=1.5),
    "disconnect as a word": served(disconnect="detach"),
    "messages as a word": served(messages="last_user"),
    "compaction as a part": served(compaction=0.5),
    "housekeeping as a flag": served(housekeeping=False),
    "conversations as a flag": served(conversations=True),
    "the chat API as a flag": served(chat_rest=True),
    "the chat socket as a path": served(chat_websocket="/chat"),
    "bare paths as a word": served(bare_paths="yes"),
    "the page as a path": served(page="/ui"),
    "no owner": served(owned_by=None),
    "retention as a text": served(retention="30d"),
    "rates as a number": served(rates=60),
    "a store that is none": served(store=5),
    "webhooks as a URL": served(webhooks="https://app.example"),
    "webhooks as a number": served(webhooks=5),
    "embeddings as a function": served(embeddings=agent),
    "one embed function that is none": served(embeddings={"small": 5}),
    "hosts as a string": served(hosts="app.example"),
    "hosts as numbers": served(hosts=[5]),
    "public as a string": served(public="models"),
    "headers as a string": served(agent_headers="x-team"),
    "headers as nothing": served(agent_headers=None),
    "a key that is none": served(keys=5),
    "keys as bytes": served(keys=b"sk-1"),
    "keys that are bytes": served(keys=[b"sk-1"]),
    "a principal that is none": served(keys={"sk-1": 5}),
    "a principal without an id": served(keys={"sk-1": ""}),
    "an agent that is none": served(chat_websocket=ChatWebSocket(workflows={"one": 5})),
    "a limit as a text": lambda: Limits(body="20MB"),
    "a limit as a flag": lambda: Limits(slots=True),
    "a limit as a fraction": lambda: Limits(slots=1.5),
    "a deadline as a text": lambda: Deadlines(request="5m"),
    "a queue as a text": lambda: Admission(queue="5s"),
    "a grace as a text": lambda: Disconnect(grace="5s"),
    "a rate as a text": lambda: Rates("60"),
    "a part as a text": lambda: Compaction(at="0.5"),
    "a cookie as a flag": lambda: ChatRest(cookie=True),
    "admins as a string": lambda: ChatRest(admins="ann"),
    "a ring as a text": lambda: ChatWebSocket(ring="many"),
    "origins as a string": lambda: Cors("https://app.example"),
    "sources as a string": lambda: Conversations(sources="x-conversation-id"),
    "a place in the queue as a text": lambda: Conversations(queue="5s"),
    "models as a string": lambda: Principal("ann", "gpt-4o"),
    "a number for an id": lambda: Principal(5),
}

NO_SENSE: dict[str, Callable[[], object]] = {
    "another fallback": served(unknown_model="first"),
    "another visibility": served(visibility="all"),
    "another visibility of items": served(response_visibility="all"),
    "another public route": served(public=["files"]),
    "another end": lambda: Disconnect("leave"),
    "another history": lambda: MessagePolicy(history="all"),
    "another busy": lambda: Conversations(busy="wait"),
    "a limit below none": lambda: Limits(body=-1),
    "a deadline that is no number": lambda: Deadlines(request=float("nan")),
    "a key with a space": served(keys=["sk 1"]),
}


@requirement("settings.types")
@pytest.mark.parametrize("name", WRONG)
def test_a_setting_of_the_wrong_type_is_a_type_error_at_start(name: str) -> None:
    with pytest.raises(TypeError) as caught:
        WRONG[name]()
    text = str(caught.value)
    assert text
    assert "object is not" not in text  # Python's own message
    assert "0x" not in text
    assert "sk-1" not in text


@requirement("settings.types")
@pytest.mark.parametrize("name", NO_SENSE)
def test_a_setting_that_makes_no_sense_is_a_value_error_at_start(name: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        NO_SENSE[name]()


@requirement("auth.ids")
@pytest.mark.anyio
@pytest.mark.parametrize("source", [False, True], ids=["keys", "source"])
async def test_a_principal_may_be_given_by_its_id(source: bool) -> None:
    seen: list[str] = []

    def who(request: AgentRequest) -> str:
        seen.append(request.principal.id)
        return "known"

    keys = {"sk-1": "ann"}
    server = Server(who, keys=(lambda: keys) if source else keys)
    sent = await answer(server, with_key("sk-1"))
    assert (sent.status, seen) == (200, ["ann"])


@requirement("settings.types")
@pytest.mark.anyio
@pytest.mark.parametrize("keys", [{"sk-1": 5}, [5], 5, b"sk-1", {b"sk-1": "ann"}], ids=str)
async def test_a_source_of_keys_that_yields_nonsense_lets_nobody_in(keys: Any) -> None:
    server = Server(agent, keys=lambda: keys)
    sent = await answer(server, with_key("sk-1"))
    assert (sent.status, sent.error["code"]) == (500, "internal_error")
    assert "sk-1" not in str(sent.error)


def test_what_a_server_is_given_once_only_is_read_once() -> None:
    hook = Hooks()
    webhooks = Webhooks("https://app.example/hook", secret="whsec_" + "c2VjcmV0" * 4, post=http_post)
    server = Server(agent, hooks=iter([hook]), webhooks=iter([webhooks]), public=iter(["models"]), hosts=iter(["*"]))
    settings = server.services.settings
    assert list(settings.hooks) == [hook]
    assert list(settings.webhooks) == [webhooks]
    assert [*settings.public, *settings.hosts] == ["models", "*"]


def test_each_argument_of_a_server_is_a_setting_or_what_it_serves_and_by_whom_it_may_be_called() -> None:
    served = {"agents", "embeddings", "decisions", "providers", "apis", "keys", "authenticate", "store"}
    arguments = set(inspect.signature(Server).parameters)
    assert {field.name for field in dataclasses.fields(Settings)} == arguments - served
