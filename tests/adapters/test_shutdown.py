"""How `openai-compat serve` ends: running turns may finish, and nothing keeps the process alive."""

from __future__ import annotations

import re
import signal
import socket
from signal import SIGINT, SIGTERM

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from openai_compat import Server
from openai_compat_adapters.starlette import create_app, endpoint
from tests.adapters.served import PATIENCE, Answer, Leash, Served, answers, chat, head, post, run, serve
from tests.transports import AsgiTransport

AGENTS = "served_agents:agents"


def drained(served: Served) -> Answer:
    """Wait until the server refuses new turns."""
    while True:
        (answer,) = served.exchange(head("GET", "/readyz", "Connection: close"))
        if answer.status == 503:
            return answer


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_an_idle_server_ends_at_once_with_a_clean_log(number: signal.Signals) -> None:  # 198
    with serve(AGENTS) as served, served.connect() as unused:
        served.ask("echo")
        served.signal(number)
        assert unused.rest() == b""
        assert served.ended(3) == 0
        *_, request, last = served.log.splitlines()
        assert re.search(r" 200 echo +POST /v1/chat/completions ", request)
        assert last.endswith("stopped")


def test_a_running_stream_may_end_and_new_turns_are_told_to_come_back() -> None:  # 199, 201
    with serve(AGENTS) as served, Leash() as leash, served.connect() as connection:
        connection.send(chat("leashed", leash.prompt, stream=True))
        leash.wait_for_agent()
        leash.say("one")
        connection.until(b'"content":"one"')
        served.signal(SIGTERM)
        assert drained(served).error["code"] == "shutting_down"
        refused = served.ask("echo")
        assert refused.status == 503
        assert refused.error["code"] == "shutting_down"
        assert float(refused.headers["retry-after"]) > 0
        leash.say("two")
        leash.say("")
        assert b'"content":"two"' in connection.until(b"data: [DONE]\n\n")
        assert served.ended(3) == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_turn_that_does_not_end_is_stopped_after_the_grace_period(stream: bool) -> None:  # 200
    with serve(AGENTS, "--grace", "0.3") as served, Leash() as leash, served.connect() as connection:
        connection.send(chat("leashed", leash.prompt, stream=stream))
        leash.wait_for_agent()
        leash.say("one")
        if stream:
            connection.until(b'"content":"one"')
        served.signal(SIGTERM)
        if stream:
            assert b"[DONE]" not in (received := connection.rest())
            assert b'"finish_reason":"stop"' not in received
            assert b'"code":"shutting_down"' in received
        else:
            (answer,) = answers(connection.rest())
            assert (answer.status, answer.error["code"]) == (503, "shutting_down")
            assert answer.headers["x-should-retry"] == "false"
        assert leash.last_words == "finally"
        assert served.ended(3) == 0
        assert "Traceback" not in served.log


@pytest.mark.parametrize("numbers", [(SIGTERM, SIGINT), (SIGINT, SIGTERM), (SIGINT, SIGINT)])
def test_a_second_signal_stops_what_runs_at_once(numbers: tuple[signal.Signals, signal.Signals]) -> None:  # 202
    with serve(AGENTS, "--grace", "60") as served, Leash() as leash, served.connect() as connection:
        connection.send(chat("leashed", leash.prompt, stream=True))
        leash.wait_for_agent()
        served.signal(numbers[0])
        drained(served)
        served.signal(numbers[1])
        assert b'"code":"shutting_down"' in connection.rest()
        assert served.ended(2.5) == 0
        assert leash.last_words == "finally"
        assert "Traceback" not in served.log


@pytest.mark.parametrize("agent", ["stuck_thread", "stuck_executor"])
def test_a_thread_that_never_returns_does_not_survive_a_second_signal(agent: str) -> None:
    with serve(AGENTS, "--grace", "60") as served, Leash() as leash, served.connect() as connection:
        connection.send(chat(agent, leash.prompt, stream=True))
        leash.wait_for_agent()
        served.signal(SIGTERM)
        drained(served)
        served.signal(SIGINT)
        assert served.ended(2.5) == 0
        assert "Traceback" not in served.log


def test_an_agent_that_blocks_the_event_loop_does_not_survive_a_second_signal() -> None:
    with serve(AGENTS, "--grace", "60") as served, Leash() as leash, served.connect() as connection:
        connection.send(chat("stuck_loop", leash.prompt, stream=True))
        leash.wait_for_agent()
        served.signal(SIGTERM)
        served.signal(SIGINT)
        assert served.ended(2.5) == 0


def test_a_thread_that_never_returns_does_not_survive_the_grace_period_for_long() -> None:
    with serve(AGENTS, "--grace", "0") as served, Leash() as leash, served.connect() as connection:
        connection.send(chat("stuck_executor", leash.prompt, stream=True))
        leash.wait_for_agent()
        served.signal(SIGTERM)
        assert served.ended(5) == 0


def test_a_port_is_free_again_as_soon_as_its_server_was_killed() -> None:  # 203
    with serve(AGENTS) as first, first.connect() as connection:
        connection.send(head("GET", "/healthz"))
        connection.until(b"ok")
        first.process.kill()
        first.process.wait(PATIENCE)
        with serve(AGENTS, "--listen", f"127.0.0.1:{first.port}") as second:
            assert second.port == first.port
            assert second.ask("echo").text == "hi"


def test_half_a_request_holds_nothing_up() -> None:  # 205
    with serve(AGENTS) as served, served.connect() as no_head, served.connect() as no_body:
        no_head.send(b"POST /v1/chat/comple")
        no_body.send(post(b"x" * 100)[:-50])
        served.ask("echo")
        served.signal(SIGTERM)
        (refused,) = answers(no_body.rest())
        assert refused.status == 503
        assert refused.error["code"] == "shutting_down"
        assert no_head.rest() == b""
        assert served.ended(3) == 0


def test_a_client_that_does_not_read_its_answer_to_the_end_is_left_behind() -> None:
    with serve(AGENTS, "--grace", "0.5") as served, served.connect() as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.send(chat("big", "20000000"))
        served.wait_for(" 200 big +POST /v1/chat/completions")
        served.signal(SIGTERM)
        assert served.ended(4) == 0


def test_a_taken_port_is_told_in_one_line() -> None:  # 206
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run("serve", AGENTS, "--listen", address)
    assert ended.returncode == 1
    assert (
        ended.stderr
        == f"Error: Cannot listen on {address}: Address already in use. Take another port: --listen HOST:PORT\n"
    )


@pytest.mark.anyio
async def test_inside_another_app_no_signal_is_touched_and_the_parents_lifespan_drains() -> None:  # 208
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in (SIGINT, SIGTERM)]

    before = handlers()
    server = Server({"echo": lambda prompt: prompt})
    parent = Starlette(routes=[Mount("/ai", endpoint(server))], lifespan=lambda app: server.lifespan())
    request = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    async with httpx2.AsyncClient(transport=AsgiTransport(parent), base_url="http://localhost/ai") as client:
        with anyio.fail_after(PATIENCE):
            async with parent.router.lifespan_context(parent):
                assert (await client.post("/v1/chat/completions", json=request)).status_code == 200
                assert handlers() == before
            late = await client.post("/v1/chat/completions", json=request)
    assert late.status_code == 503
    assert late.json()["error"]["code"] == "shutting_down"


@pytest.mark.anyio
async def test_an_app_of_our_own_drains_with_its_lifespan() -> None:
    server = Server({"echo": lambda prompt: prompt})
    app = create_app(server)
    async with httpx2.AsyncClient(transport=AsgiTransport(app), base_url="http://localhost") as client:
        with anyio.fail_after(PATIENCE):
            async with app.router.lifespan_context(app):
                assert (await client.get("/readyz")).status_code == 200
            assert (await client.get("/readyz")).status_code == 503
