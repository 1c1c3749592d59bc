"""Authentication of WebSockets: when they are opened, and before each turn."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from openai_compat import ChatWebSocket, Deadlines, Principal, Server
from openai_compat.errors import Unauthorized
from openai_compat.http import HttpRequest
from openai_compat_adapters.websocket import Closed, Refused, connect
from tests.requirements import requirement

pytestmark = pytest.mark.anyio
RESPONSES, CHAT = "/v1/responses", "/chat"
FRAMES = {
    RESPONSES: {"type": "response.create", "model": "agent", "input": "hi"},
    CHAT: {"role": "user", "content": "hi", "model": "agent", "thread_id": "t"},
}
ENDS = {"response.completed", "error", "message"}


class Login:
    """Accepts the caller until it is told otherwise."""

    def __init__(self) -> None:
        self.says: Any = Principal("user:ann")
        self.asked = 0

    async def __call__(self, request: HttpRequest) -> Principal | None:
        self.asked += 1
        if self.says == "hang":
            await anyio.sleep_forever()
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


async def whoami(request: Any) -> str:
    return request.principal.id


def served(login: Login) -> Server:
    return Server(whoami, authenticate=login, chat_websocket=ChatWebSocket(), deadlines=Deadlines(auth=0.2))


async def asked(websocket: Any, path: str) -> dict[str, Any]:
    """The last frame of a turn."""
    with anyio.fail_after(10):
        await websocket.send(json.dumps(FRAMES[path]))
        while True:
            frame = json.loads(await websocket.receive())
            if frame["type"] in ENDS:
                return frame


@requirement("auth.websocket")
@pytest.mark.parametrize("path", FRAMES)
async def test_each_turn_is_of_who_it_is_then(path: str) -> None:
    login = Login()
    async with connect(served(login), path) as websocket:
        assert "user:ann" in json.dumps(await asked(websocket, path))
        login.says = Principal("user:bob")
        assert "user:bob" in json.dumps(await asked(websocket, path))
    assert login.asked == 3


@requirement("auth.websocket")
@pytest.mark.parametrize(
    ("says", "status", "code"),
    [
        (None, 401, "invalid_api_key"),
        (Unauthorized("Expired.", code="invalid_token"), 401, "invalid_token"),
        (ValueError("the directory is down"), 503, "auth_unavailable"),
        ("hang", 503, "auth_unavailable"),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", FRAMES)
async def test_who_is_nobody_any_more_gets_no_further_turn(path: str, says: Any, status: int, code: str) -> None:
    login = Login()
    async with connect(served(login), path) as websocket:
        assert (await asked(websocket, path))["type"] != "error"
        login.says = says
        frame = await asked(websocket, path)
        assert (frame["type"], frame["status"], frame["error"]["code"]) == ("error", status, code)
        if status == 401:
            with pytest.raises(Closed) as closed, anyio.fail_after(10):
                await websocket.receive()
            assert closed.value.code == 1008


@requirement("auth.websocket")
@pytest.mark.parametrize("path", FRAMES)
async def test_a_turn_that_runs_goes_on_when_its_caller_is_nobody_any_more(path: str) -> None:
    login, begun, go = Login(), anyio.Event(), anyio.Event()

    async def agent(prompt: str) -> str:
        begun.set()
        await go.wait()
        return "still here"

    server = Server(agent, authenticate=login, chat_websocket=ChatWebSocket())
    async with connect(server, path) as websocket, anyio.create_task_group() as group:
        last: list[dict[str, Any]] = []

        async def ask() -> None:
            last.append(await asked(websocket, path))

        group.start_soon(ask)
        await begun.wait()
        login.says = None
        go.set()
    assert "still here" in json.dumps(last)
    assert login.asked == 2


@requirement("auth.websocket")
@pytest.mark.parametrize(("says", "status"), [(None, 401), (ValueError("down"), 503), ("hang", 503)])
async def test_who_is_nobody_cannot_open_one(says: Any, status: int) -> None:
    login = Login()
    login.says = says
    with pytest.raises(Refused) as refused:
        async with connect(served(login), RESPONSES):
            pass
    assert refused.value.status == status


@requirement("auth.ambient")
async def test_a_login_that_browsers_send_along_opens_none_for_another_sites_page() -> None:
    with pytest.raises(Refused) as refused:
        async with connect(served(Login()), RESPONSES, headers={"origin": "https://evil.example"}):
            pass
    assert refused.value.status == 403
