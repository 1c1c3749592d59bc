"""The operators' options of `openai-compat serve`, as seen by a client and in the log."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import pytest

from openai_compat import Deadlines, Server
from openai_compat_adapters._serving.supervisor import LISTENER
from openai_compat_adapters.starlette import endpoint
from tests.adapters.served import PATIENCE, Leash, Served, chat, held_worker, run, serve
from tests.transports import AsgiTransport

AGENTS = "operated_agents:agents"


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)


# turns


def test_more_turns_can_wait_for_a_place() -> None:
    with (
        serve(AGENTS, "--max-concurrency", "1", "--queue", "15s", "--log-format", "json") as served,
        Leash() as leash,
        served.connect() as first,
        served.connect() as second,
    ):
        first.send(chat("leashed", leash.prompt, close=True))
        leash.wait_for_agent()
        second.send(chat("seen", close=True))
        second.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            second.until(b"HTTP")
        second.socket.settimeout(PATIENCE)
        leash.say("")
        assert second.until(b"\r\n") == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("then", ["cancel", "finish", "detach"])
def test_a_turn_whose_client_has_left_ends_or_goes_on(then: str) -> None:
    with serve(AGENTS, "--on-disconnect", then, "--heartbeat", "50ms") as served, Leash() as leash:
        with served.connect() as connection:
            connection.send(chat("leashed", leash.prompt, stream=True))
            leash.wait_for_agent()
            leash.say("one")
            connection.until(b'"content":"one"')
        if then == "cancel":
            assert leash.last_words == "finally"
        else:
            leash.say("two")
            leash.say("")
            assert leash.last_words == "the end"


# the log


def test_the_log_can_be_json_with_the_fields_of_every_request_and_tracebacks() -> None:
    with serve(AGENTS, "--log-format", "json", "--api-key", "the-key") as served:
        failed = served.ask("fails", "the-prompt", key="the-key")
        refused = served.ask("seen")
        served.signal(signal.SIGTERM)
        assert served.ended(5) == 0
    log = served.log
    began, error, first, second, stopped = [json.loads(line) for line in log.splitlines()]
    assert re.fullmatch(r"openai-compat \S+ serves .* at http://127\.0\.0\.1:\d+/v1", began["message"])
    assert set(error) == {"time", "level", "request_id", "message", "pid", "traceback"}
    assert "RuntimeError: on purpose" in error["traceback"]
    assert error["request_id"] == first["request_id"] == failed.headers["x-request-id"]
    assert {k: first[k] for k in ("level", "method", "path", "status", "note")} == {
        "level": "info",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 500,
        "note": first["note"],
    }
    assert isinstance(first["ms"], int)
    assert (second["status"], second["note"]) == (401, "invalid_api_key")
    assert second["request_id"] == refused.headers["x-request-id"]
    assert stopped["message"] == "stopped"
    assert datetime.fromisoformat(error["time"]).tzinfo is not None
    assert "the-key" not in log
    assert "the-prompt" not in log


def test_an_access_line_ends_with_its_last_word() -> None:
    with serve(AGENTS) as served:
        served.ask("seen")
        served.wait_for(r" 200 seen +POST /v1/chat/completions .* req_\w+$")


# processes


def workers(served: Served, number: int) -> list[int]:
    return [int(served.wait_for(r"worker (\d+) started")[1]) for _ in range(number)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return not re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except ProcessLookupError:  # the process has ended since the file was opened
        return False


def test_several_workers_share_the_port_and_each_lets_its_turns_end(tmp_path: Path) -> None:
    with serve(AGENTS, "--workers", "2", "--store", f"sqlite:///{tmp_path}/state.db") as served:
        pids = workers(served, 2)
        with held_worker(served) as one, held_worker(served) as other:
            assert {one, other} == set(pids)
        with Leash() as leash, served.connect() as connection:
            connection.send(chat("leashed", leash.prompt, stream=True))
            leash.wait_for_agent()
            served.signal(signal.SIGTERM)
            eventually(lambda: sum(map(alive, pids)) == 1)
            leash.say("last")
            leash.say("")
            assert b'"content":"last"' in connection.until(b"data: [DONE]\n\n")
        assert served.ended(5) == 0
        assert not any(map(alive, pids))


def test_a_worker_that_dies_is_replaced_and_the_log_says_so(tmp_path: Path) -> None:
    with serve(AGENTS, "--workers", "2", "--store", f"sqlite:///{tmp_path}/state.db") as served:
        first, second = workers(served, 2)
        os.kill(first, signal.SIGKILL)
        served.wait_for(f"ERROR worker {first} ended with exit code -9")
        (third,) = workers(served, 1)
        with held_worker(served) as one, held_worker(served) as other:
            assert {one, other} == {second, third}
        served.signal(signal.SIGINT)
        assert served.ended(5) == 0


def test_workers_do_not_outlive_their_parent(tmp_path: Path) -> None:
    with serve(AGENTS, "--workers", "2", "--store", f"sqlite:///{tmp_path}/state.db") as served:
        pids = workers(served, 2)
        assert int(served.ask("pid").text) in pids
        served.process.kill()
        eventually(lambda: not any(map(alive, pids)))


def test_workers_that_cannot_start_end_the_parent(tmp_path: Path) -> None:
    module = f"import os\nif '{LISTENER}' in os.environ: raise OSError('no')\ndef agent(prompt): return prompt"
    (tmp_path / "picky.py").write_text(module)
    env = {"PYTHONPATH": str(tmp_path), "OPENAI_COMPAT_STORE": f"sqlite:///{tmp_path}/state.db"}
    ended = run("serve", "picky:agent", "--workers", "2", "-l", "127.0.0.1:0", env=env)
    assert ended.returncode == 1
    assert "Importing 'picky' failed: OSError: no" in ended.stderr


@pytest.mark.skipif(importlib.util.find_spec("watchfiles") is None, reason="needs watchfiles")
def test_a_changed_file_is_served_anew_and_a_broken_one_waits_for_the_next_change(tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    module.write_text("def agent(prompt): return 'first'")
    with serve("changing:agent", "--reload", env={"PYTHONDONTWRITEBYTECODE": "1"}, cwd=tmp_path) as served:
        workers(served, 1)
        assert served.ask("agent").text == "first"
        module.write_text("def agent(")
        served.wait_for(r"changing\.py changed, starting anew")
        served.wait_for(r"worker \d+ ended with exit code 2")
        module.write_text("def agent(prompt): return 'third'")
        workers(served, 1)
        assert served.ask("agent").text == "third"
        served.signal(signal.SIGTERM)
        assert served.ended(5) == 0


@pytest.mark.skipif(importlib.util.find_spec("watchfiles") is None, reason="needs watchfiles")
def test_a_changed_team_is_served_anew(tmp_path: Path) -> None:
    (tmp_path / "bots.py").write_text("def agent(prompt): return 'hello'")
    team = tmp_path / "openai-compat.toml"
    team.write_text('[agents.first]\nagent = "bots:agent"\n')
    with serve("--reload", env={"PYTHONDONTWRITEBYTECODE": "1"}, cwd=tmp_path) as served:
        workers(served, 1)
        assert served.ask("first").text == "hello"
        team.write_text('[agents.second]\nagent = "bots:agent"\n')
        served.wait_for(r"openai-compat\.toml changed, starting anew")
        workers(served, 1)
        assert served.ask("second").text == "hello"
        served.signal(signal.SIGTERM)
        assert served.ended(5) == 0


# the end


@pytest.mark.anyio
async def test_a_second_drain_does_not_wait_again_for_a_stuck_agent() -> None:
    started, released = threading.Event(), threading.Event()

    def stuck(prompt: str) -> None:
        started.set()
        released.wait(PATIENCE)

    server = Server({"stuck": stuck}, deadlines=Deadlines(grace=0.05))
    body = {"model": "stuck", "messages": [{"role": "user", "content": "hi"}]}
    async with httpx2.AsyncClient(transport=AsgiTransport(endpoint(server)), base_url="http://localhost") as client:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.post("/v1/chat/completions", json=body))
            assert await anyio.to_thread.run_sync(started.wait, PATIENCE)
            await server.drain(0)
            assert server.services.live.slots.used == 1
            with pytest.raises(StopIteration):  # returns without waiting for anything
                server.drain(0).send(None)
            released.set()
