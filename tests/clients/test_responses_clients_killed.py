"""Clients whose server, or whose server's database, is killed with -9 in mid-stream and restarted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from websockets.exceptions import ConnectionClosedError

from tests.adapters.served import PATIENCE, Served, serve
from tests.clients.programs import HERE, need_node_packages, need_python_packages
from tests.stores.postgres_cluster import Cluster, wait_until

BROKEN = (openai.APIConnectionError, httpx2.TransportError)
"""Exceptions that the SDK raises when a connection ends too early."""


def server(store: str, *arguments: str, lease: float = 1.0) -> AbstractContextManager[Served]:
    """A server in its own process, killed with -9 on exit. Its leases expire after `lease` seconds."""
    return serve("response_agents:served", *arguments, env={"STORE": store, "LEASE": str(lease)}, cwd=HERE)


def again(store: str, killed: Served) -> AbstractContextManager[Served]:
    """The same server at the same address."""
    return server(store, "--listen", f"127.0.0.1:{killed.port}")


def sdk(served: Served, **options: Any) -> OpenAI:
    return OpenAI(
        base_url=f"http://127.0.0.1:{served.port}/v1", api_key="none", timeout=20, **{"max_retries": 0, **options}
    )


def begun(stream: Any) -> int:
    """Read up to the first text; returns the sequence number of that event."""
    return next(event.sequence_number for event in stream if event.type == "response.output_text.delta")


def accepted(ask: Callable[[], Any]) -> Any:
    """The answer, once no 409 is raised any more; at most 10 seconds."""
    for _ in wait_until("it is accepted", 10):
        with suppress(openai.ConflictError):
            return ask()
    raise AssertionError


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state.db'}"


def test_a_conversation_is_as_before_the_turn_and_a_background_response_has_failed(store: str) -> None:
    with server(store) as killed, sdk(killed) as client:
        conversation = client.conversations.create().id
        client.responses.create(model="echo", input="one", conversation=conversation)
        turn = client.responses.create(model="waiting", input="nobody", conversation=conversation, stream=True)
        begun(turn)
        followed = client.responses.create(model="waiting", input="nobody", background=True, stream=True)
        identifier = next(iter(followed)).response.id
        last = begun(followed)
    for stream in (turn, followed):
        with pytest.raises(BROKEN):
            list(stream)

    with again(store, killed) as served, sdk(served) as client:
        told = accepted(lambda: client.responses.create(model="echo", input="two", conversation=conversation))
        assert told.output_text == "heard: one / heard: one / two"
        assert len(list(client.conversations.items.list(conversation))) == 4
        for _ in wait_until("the response has failed", 10):
            if (found := client.responses.retrieve(identifier)).status == "failed":
                break
        assert found.error is not None
        with pytest.raises(openai.APIError) as failed:
            list(client.responses.retrieve(identifier, stream=True))
        assert failed.value.code == found.error.code
        with pytest.raises(openai.BadRequestError) as unknown:
            client.responses.retrieve(identifier, stream=True, starting_after=last + 50)
        assert (unknown.value.code, unknown.value.param) == ("events_not_kept", "starting_after")


def test_a_client_that_tries_again_does_not_notice_a_restart_between_its_requests(store: str) -> None:
    with server(store) as killed:
        client = sdk(killed, max_retries=8)
        first = client.responses.create(model="echo", input="one")
    with client, ThreadPoolExecutor(1) as threads:
        second = threads.submit(client.responses.create, model="echo", input="two", previous_response_id=first.id)
        with again(store, killed):
            assert second.result(PATIENCE).output_text == "heard: one / heard: one / two"


@pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")
def test_a_websocket_client_connects_again_and_goes_on_from_what_was_stored(store: str) -> None:
    def read(connection: Any, *types: str) -> Any:
        return next(event for event in iter(connection.recv, None) if event.type in types)

    with server(store) as killed:
        client = sdk(killed)
        with client.responses.connect() as connection:
            connection.response.create(model="echo", input="one")
            first = read(connection, "response.completed").response
            connection.response.create(model="waiting", input="nobody", previous_response_id=first.id)
            read(connection, "response.output_text.delta")
            killed.process.kill()
            with pytest.raises(ConnectionClosedError):
                read(connection, "response.completed")
    with again(store, killed), client, client.responses.connect() as connection:
        connection.response.create(model="echo", input="two", previous_response_id=first.id)
        told = read(connection, "response.completed", "error").response
    assert told.output_text == "heard: one / heard: one / two"


def javascript() -> list[list[str]]:
    need_node_packages()
    return [["node", str(HERE / "responses_client.mjs")]]


def python() -> list[list[str]]:
    interpreter = str(need_python_packages())
    return [[interpreter, str(HERE / program)] for program in ("agents_client.py", "langchain_client.py")]


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(240)  # may have to install packages first
@pytest.mark.parametrize("programs", [javascript, python])
def test_other_clients_go_on_from_the_response_before(store: str, programs: Callable[[], list[list[str]]]) -> None:
    commands = programs()
    with ExitStack() as stack:
        with server(store) as killed:
            url = f"http://127.0.0.1:{killed.port}/v1"
            clients = [stack.enter_context(running(*command, url, "killed")) for command in commands]
            for client in clients:
                assert client.stdout is not None
                assert client.stdout.readline() == "begun\n"
        stack.enter_context(again(store, killed))
        for client in clients:
            said, complaint = client.communicate("go on\n", timeout=PATIENCE)
            assert client.returncode == 0, complaint
            assert json.loads(said) == {"broke": True, "text": "heard: one / heard: one / two"}


def test_a_stream_outlives_its_engine(postgres: Cluster, postgres_url: str) -> None:
    """PostgreSQL is killed in mid-turn: new turns are refused meanwhile, and the running one is stored in the end."""
    with server(postgres_url, lease=20) as served, sdk(served) as client:
        first = client.responses.create(model="echo", input="one")
        chain: Any = {"previous_response_id": first.id}
        turn = client.responses.create(model="waiting", input="through it all", stream=True, **chain)
        begun(turn)
        with postgres.down():
            with pytest.raises(openai.InternalServerError) as refused:
                client.responses.create(model="echo", input="two", **chain)
            assert (refused.value.status_code, refused.value.code) == (503, "store_unavailable")
            assert client.responses.create(model="echo", input="alone", store=False).output_text == "heard: alone"
        client.responses.create(model="opener", input="through it all", store=False)
        completed = next(event.response for event in turn if event.type == "response.completed")
        told = client.responses.create(model="echo", input="three", previous_response_id=completed.id)

    assert completed.output_text == "one two"
    assert told.output_text == "heard: one / heard: one / through it all / one two / three"
