"""Every refusal before an agent is started has one reason, the same for hooks, metrics and the log."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest

from openai_compat import (
    Admission,
    Budget,
    Hooks,
    Limits,
    MemoryStore,
    Principal,
    Rates,
    RefusalInfo,
    Server,
)
from openai_compat.errors import Unavailable
from openai_compat.http import HttpRequest
from openai_compat_adapters.websocket import connect
from tests.requirements import requirement
from tests.support.exchanges import answer, request
from tests.support.hooked import HTTP_APIS, OWN_FORMS, EndsAs, TurnInfo, ask, hooked_server

pytestmark = pytest.mark.anyio

SOCKETS = {
    "/v1/responses": {"type": "response.create", "model": "agent", "input": "ok"},
    "/chat": {"role": "user", "content": "ok", "model": "agent", "thread_id": "t"},
}


class Refusals(Hooks):
    """Records refusals; fails for turns of the principal `unlucky`."""

    def __init__(self) -> None:
        self.told: list[RefusalInfo] = []

    def refused(self, refusal: RefusalInfo) -> None:
        self.told.append(refusal)

    async def admit(self, turn: TurnInfo) -> None:
        if turn.principal.id == "unlucky":
            raise ValueError("a bug")


class Away(MemoryStore):
    """A store that does not answer."""

    async def spent(self, principal: str, period: str, unit: str) -> int:
        raise Unavailable("Not now.", code="store_unavailable")


def fails(request: HttpRequest) -> Principal | None:
    raise ValueError("the login is broken")


# Settings that make a server refuse the first or second request of a caller with a key, with reason and error code.
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "no key": ("auth", "invalid_api_key", {"keys": {"sk-other": Principal("bob")}}),
    "a login that is broken": ("auth", "auth_unavailable", {"keys": None, "authenticate": fails}),
    "requests": ("rate_limit", "rate_limit_exceeded", {"rates": Rates(0.01)}),
    "tokens": ("rate_limit", "rate_limit_exceeded", {"rates": Rates(tokens_per_minute=0.01)}),
    "budget": ("budget", "insufficient_quota", {"budgets": Budget(5)}),
    "slots": ("slots", "rate_limit_exceeded", {"limits": Limits(slots_per_principal=0)}),
    "store": ("store", "store_unavailable", {"store": Away(), "budgets": Budget(5, without_store="refuse")}),
    "hook": ("hook", "hook_failed", {"keys": {"sk-ann": Principal("unlucky")}}),
    "shutdown": ("shutting_down", "shutting_down", {}),
}


def made(case: str, hook: Refusals) -> Server:
    settings = {"keys": {"sk-ann": Principal("ann")}, **CASES[case][2]}
    server = hooked_server(EndsAs(), hook, **settings)
    if case == "shutdown":
        server.services.live.slots.close()
    return server


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [vars(record) for record in caplog.records if getattr(record, "reason", None) is not None]
    assert {record["outcome"] for record in found} <= {"refused"}
    return [record["reason"] for record in found]


@requirement("hooks.refused")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("api", HTTP_APIS | OWN_FORMS)
async def test_a_refused_request_has_one_reason_for_hooks_and_the_log(
    api: str, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "openai_compat")
    hook, (path, body) = Refusals(), (HTTP_APIS | OWN_FORMS)[api]
    server = made(case, hook)
    key = (b"authorization", b"Bearer sk-ann")
    for _ in range(2):
        await answer(server, request(path, {"model": "agent", **body("ok")}, key))
        if hook.told:
            break
    reason, code, _ = CASES[case]
    [told] = hook.told
    assert (told.reason, told.code) == (reason, code)
    assert reasons(caplog) == [reason]
    assert told.principal == {"auth": "", "hook": "unlucky"}.get(reason, "ann")


@requirement("hooks.refused")
@pytest.mark.parametrize("case", ["requests", "tokens", "budget", "slots", "hook"])
@pytest.mark.parametrize("path", SOCKETS)
async def test_so_has_each_turn_that_is_refused_on_a_websocket(
    path: str, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "openai_compat")
    hook = Refusals()
    headers = {"Authorization": "Bearer sk-ann"}
    with anyio.fail_after(20):
        async with connect(made(case, hook), path, headers=headers) as websocket:
            ended = ""
            while ended != "error":
                await websocket.send(json.dumps(SOCKETS[path]))
                while (ended := json.loads(await websocket.receive())["type"]) not in (
                    "response.completed",
                    "error",
                    "message",
                ):
                    pass
            while not hook.told:
                await anyio.sleep(0.01)
    reason, code, _ = CASES[case]
    assert [(told.reason, told.code, told.principal[:2]) for told in hook.told] == [
        (reason, code, "un" if case == "hook" else "an")
    ]
    assert reasons(caplog) == [reason]


@requirement("hooks.refused")
async def test_words_instead_of_a_429_are_a_refusal_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "openai_compat")
    hook = Refusals()
    settings = {"limits": Limits(slots_per_principal=0), "admission": Admission(busy="I am busy.")}
    assert (await ask(hooked_server(EndsAs(), hook, **settings), "chat", "ok", stream=False)).status == 200
    assert [told.reason for told in hook.told] == ["slots"]
    assert reasons(caplog) == ["slots"]


@requirement("hooks.refused")
@pytest.mark.parametrize("ending", ["error", "ok"])
async def test_what_an_agent_says_or_a_wrong_request_is_no_refusal(ending: str) -> None:
    hook = Refusals()
    server = hooked_server(EndsAs(), hook)
    await ask(server, "chat", ending, stream=False)
    await ask(server, "chat", ending, stream=False, temperature="hot")
    assert hook.told == []
