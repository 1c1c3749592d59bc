"""The database cost of a stored turn: statements and transactions are counted, each with a budget."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from openai_compat import Conversations, Server
from openai_compat.stores import postgres
from tests.support.exchanges import Recorder, request
from tests.support.sqlite_statements import traced_statements

pytestmark = pytest.mark.anyio

HEAD = (b"x-conversation-id", b"trip")


class Turn(NamedTuple):
    """A turn and its budget: statements to PostgreSQL, and transactions and all statements of SQLite."""

    path: str
    body: dict[str, Any]
    postgresql: int
    transactions: int
    sqlite: int


TURNS: Mapping[str, Turn] = {
    "response": Turn("/v1/responses", {"input": "Hello."}, 1, 1, 4),
    "in a conversation": Turn("/v1/responses", {"input": "Hello.", "conversation": "CONVERSATION"}, 2, 2, 12),
    "after another": Turn("/v1/responses", {"input": "Hello.", "previous_response_id": "RESPONSE"}, 2, 2, 7),
    "in the background": Turn("/v1/responses", {"input": "Hello.", "background": True, "stream": True}, 3, 3, 14),
    "chat": Turn("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello."}]}, 2, 2, 11),
}


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg works on asyncio only."""
    return "asyncio"


class Counted:
    """A connection to PostgreSQL that records the statements sent over it."""

    def __init__(self, connection: Any, sent: list[str]) -> None:
        self._connection = connection
        self._sent = sent

    async def fetch(self, statement: str, *parameters: Any, **options: Any) -> Any:
        self._sent.append(statement)
        return await self._connection.fetch(statement, *parameters, **options)

    async def execute(self, statement: str, **options: Any) -> Any:
        self._sent.append(statement)
        return await self._connection.execute(statement, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sent(engine: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements over all opened connections, in order."""
    monkeypatch.setattr(
        "openai_compat.state.leases.RENEW_INTERVAL", 60.0
    )  # renewals depend on the clock, not on the turn
    if engine == "sqlite":
        return traced_statements(monkeypatch)
    statements: list[str] = []
    connect = postgres._CONNECT

    async def counted(*where: Any, **options: Any) -> Counted:
        return Counted(await connect(*where, **options), statements)

    monkeypatch.setattr(postgres, "_CONNECT", counted)
    return statements


@pytest.fixture
async def server(sent: list[str], engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    url = f"sqlite:///{tmp_path}/store.db" if engine == "sqlite" else request.getfixturevalue("postgres_url")
    server = Server(lambda prompt: "Hello.", store=url, conversations=Conversations())
    yield server
    await server.services.state.store.aclose()


async def answer(server: Server, path: str, body: dict[str, Any], *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    client = Recorder()
    await server.handle(request(path, {"model": "agent", **body}, *headers), client)
    assert client.status == 200, client.data
    found: dict[str, Any] = {} if "stream" in body else json.loads(client.data)
    return found


@pytest.mark.parametrize("name", TURNS)
async def test_a_stored_turn_keeps_to_its_number_of_statements(
    server: Server, sent: list[str], engine: str, name: str
) -> None:
    turn, headers = TURNS[name], [HEAD] if name == "chat" else []
    known = {
        "CONVERSATION": (await answer(server, "/v1/conversations", {}))["id"],
        "RESPONSE": (await answer(server, "/v1/responses", {"input": "Hello."}))["id"],
    }
    body = {key: known.get(value, value) if isinstance(value, str) else value for key, value in turn.body.items()}
    await answer(server, turn.path, body, *headers)  # the first turn of a conversation has no history to read
    sent.clear()
    await answer(server, turn.path, body, *headers)
    if engine == "postgresql":
        assert len(sent) <= turn.postgresql, sent
    else:
        assert sent.count("commit") <= turn.transactions, sent
        assert len(sent) <= turn.sqlite, sent
