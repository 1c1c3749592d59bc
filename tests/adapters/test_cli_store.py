"""`openai-compat serve --store URL`: the state that processes share, and that outlives them."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.adapters.in_process import invoke, working_in
from tests.adapters.served import HERE, PATIENCE, Answer, Leash, Served, chat, head, run, serve, without_worker
from tests.requirements import requirement
from tests.stores.postgres_cluster import Cluster
from tests.transports import asgi_socket

AGENTS = "operated_agents:agents"
NOWHERE = "postgresql://ann:the-password@127.0.0.1:1/state"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with working_in(HERE, monkeypatch):
        yield


def eventually(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)


def ask(served: Served, path: str, body: dict[str, Any], *headers: str) -> Answer:
    """Send a request over a new connection, which any worker may accept."""
    content = json.dumps({"model": "remembers", **body}).encode()
    lines = ["Content-Type: application/json", f"Content-Length: {len(content)}", "Connection: close", *headers]
    (answer,) = served.exchange(head("POST", path, *lines) + content)
    return answer


def get(served: Served, path: str) -> Answer:
    (answer,) = served.exchange(head("GET", path, "Connection: close"))
    return answer


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def turn(served: Served, text: str, conversation: str = "c") -> tuple[int, list[str]]:
    """Run a turn in a conversation. Returns the process id, and the messages that its agent had seen."""
    answer = ask(served, "/v1/chat/completions", said(text), f"X-Conversation-Id: {conversation}")
    assert answer.status == 200, answer.body
    found = json.loads(answer.text)
    return found["pid"], found["seen"]


def response(served: Served, text: str, **options: Any) -> tuple[str, int, list[str]]:
    answer = ask(served, "/v1/responses", {"input": text, **options})
    assert answer.status == 200, answer.body
    [message] = answer.json["output"]
    found = json.loads(message["content"][0]["text"])
    return answer.json["id"], found["pid"], found["seen"]


# what the workers share


@requirement("store.workers")
def test_a_conversation_goes_on_whichever_worker_has_its_next_turn(tmp_path: Path) -> None:
    with serve(AGENTS, "--workers", "2", "--store", f"sqlite:///{tmp_path}/state.db") as served:
        pid, _ = turn(served, "one")
        told = ["one"]
        for text in ("two", "three"):
            told.append(text)
            with without_worker(served, pid):
                other, seen = turn(served, text)
            assert (other != pid, seen) == (True, told)
            pid = other
        kept = get(served, "/v1/chat/conversations/c").json
        served.signal(signal.SIGTERM)
        assert served.ended(10) == 0
    assert kept["turns"] == 3


@requirement("store.workers")
def test_a_response_is_continued_and_a_background_one_is_read_on_any_worker(tmp_path: Path) -> None:
    with serve(AGENTS, "--workers", "2", "--store", f"sqlite:///{tmp_path}/state.db") as served:
        previous, pid, _ = response(served, "one")
        with without_worker(served, pid):
            previous, other, seen = response(served, "two", previous_response_id=previous)
        assert (other != pid, seen) == (True, ["one", "two"])
        begun = f"/v1/responses/{ask(served, '/v1/responses', {'input': 'later', 'background': True}).json['id']}"
        for worker in (pid, other):
            with without_worker(served, worker):
                assert get(served, begun).status == 200
        eventually(lambda: get(served, begun).json["status"] == "completed")
        for worker in (pid, other):
            with without_worker(served, worker):
                assert get(served, begun).json["status"] == "completed"


@requirement("store.workers")
def test_an_idempotency_key_and_a_stored_completion_are_known_to_all_workers(tmp_path: Path) -> None:
    body = said("hi") | {"store": True}
    with serve(AGENTS, "--workers", "2", "--store", f"sqlite:///{tmp_path}/state.db") as served:
        first = ask(served, "/v1/chat/completions", body, "Idempotency-Key: k")
        with without_worker(served, json.loads(first.text)["pid"]):
            second = ask(served, "/v1/chat/completions", body, "Idempotency-Key: k")
            stored = get(served, f"/v1/chat/completions/{first.json['id']}")
    assert second.body == first.body
    assert stored.status == 200


@requirement("store.workers")
def test_rates_and_shared_slots_are_counted_over_all_workers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    options = ["--workers", "3", "--store", url, "--requests-per-minute", "6", "--shared-concurrency", "1"]
    with serve(AGENTS, *options) as served, Leash() as leash, served.connect() as connection:
        connection.send(chat("leashed", leash.prompt))
        leash.wait_for_agent()
        busy = [served.ask("pid") for _ in range(4)]
        leash.say("")
        connection.until(b"\r\n\r\n")
        ran = served.ask("pid")
        limited = [served.ask("pid") for _ in range(4)]
    refused = "Too many turns are running: at most 1 may at once (--shared-concurrency). Try again shortly."
    assert [answer.error["message"] for answer in busy] == [refused] * 4
    assert (ran.status, ran.headers["x-ratelimit-remaining-requests"]) == (200, "0")
    assert {answer.error["message"].partition(".")[0] for answer in limited} == {"More than 6 requests in a minute"}


@requirement("slots.shared")
def test_the_slot_of_a_worker_that_was_killed_comes_back(tmp_path: Path) -> None:
    module = tmp_path / "leasing.py"
    module.write_text(
        "from operated_agents import agents\n"
        "from openai_compat import Deadlines, Limits, Server\n"
        f"store = 'sqlite:///{tmp_path}/state.db'\n"
        "server = Server(agents, store=store, limits=Limits(shared_slots=1), deadlines=Deadlines(lease=1))\n"
    )
    env = {"PYTHONPATH": str(Path(__file__).parent)}
    with serve("leasing:server", "--workers", "2", env=env, cwd=tmp_path) as served, Leash() as leash:
        with served.connect() as connection:
            connection.send(chat("leashed", leash.prompt))
            leash.wait_for_agent()
            renewed = time.monotonic() + 1.5
            while time.monotonic() < renewed:
                assert served.ask("pid").status == 429
            for pid in children(served.process.pid):
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: served.ask("pid").status == 200)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# what outlives them


@requirement("store.restart")
def test_what_was_answered_is_there_after_kill_9(tmp_path: Path) -> None:
    env = {"OPENAI_COMPAT_STORE": f"sqlite:///{tmp_path}/state.db"}
    with serve(AGENTS, env=env) as served:
        turn(served, "one")
        previous, _, _ = response(served, "first")
    with serve(AGENTS, env=env) as served:  # the first one was killed
        assert turn(served, "two")[1] == ["one", "two"]
        assert response(served, "second", previous_response_id=previous)[2] == ["first", "second"]


@requirement("store.workers")
def test_two_hosts_over_one_postgresql_are_as_one(postgres_url: str) -> None:
    env = {"OPENAI_COMPAT_STORE": postgres_url}
    with serve(AGENTS, env=env) as first, serve(AGENTS, env=env) as second:
        assert [turn(served, text)[1] for served, text in ((first, "one"), (second, "two"), (first, "three"))] == [
            ["one"],
            ["one", "two"],
            ["one", "two", "three"],
        ]
        previous, _, _ = response(first, "first")
        assert response(second, "second", previous_response_id=previous)[2] == ["first", "second"]


# when it is unreachable or unusable


@requirement("store.away")
@requirement("store.secret")
def test_while_the_database_is_away_a_server_starts_and_answers_what_needs_none(tmp_path: Path) -> None:
    options = ["--requests-per-minute", "60", "--shared-concurrency", "9", "--workers", "2", "--log-level", "debug"]
    with serve(AGENTS, *options, env={"OPENAI_COMPAT_STORE": NOWHERE}) as served:
        plain = served.ask("pid")
        stateful = ask(served, "/v1/chat/completions", said("hi"), "X-Conversation-Id: c")
        ready = get(served, "/readyz")
        shown = "".join([Path(f"/proc/{pid}/cmdline").read_text() for pid in all_of(served.process.pid)])
        served.signal(signal.SIGTERM)
        assert served.ended(10) == 0
    assert (plain.status, plain.headers["x-ratelimit-remaining-requests"]) == (200, "59")
    assert (stateful.status, stateful.error["code"]) == (503, "store_unavailable")
    assert "retry-after" in stateful.headers
    assert (ready.status, ready.json["store"]) == (200, "unavailable")
    assert "WARNING the store does not answer" in served.log
    assert [text for text in (served.log, shown, stateful.body.decode()) if "the-password" in text] == []


@requirement("store.away")
def test_while_the_database_hangs_what_needs_none_is_hardly_held_up(postgres: Cluster, postgres_url: str) -> None:
    options = ["--requests-per-minute", "60", "--shared-concurrency", "9"]
    with serve(AGENTS, *options, env={"OPENAI_COMPAT_STORE": postgres_url}) as served:
        assert served.ask("pid").headers["x-ratelimit-remaining-requests"] == "59"
        with postgres.frozen():
            took: list[float] = []
            for _ in range(4):
                began = time.monotonic()
                assert served.ask("pid").status == 200
                took.append(time.monotonic() - began)
            assert get(served, "/readyz").json["store"] == "unavailable"
            stateful = ask(served, "/v1/chat/completions", said("hi"), "X-Conversation-Id: c")
        assert (stateful.status, stateful.error["code"]) == (503, "store_unavailable")
        eventually(lambda: get(served, "/readyz").json["store"] == "ok")
        eventually(lambda: turn(served, "hi")[1])
    assert took[0] < 8  # one second for each question
    assert max(took[1:]) < 3


def all_of(pid: int) -> list[int]:
    return [pid, *children(pid)]


@requirement("store.away")
def test_a_database_that_comes_later_is_used(postgres: Cluster, postgres_url: str) -> None:
    with postgres.down():
        served = Served(AGENTS, env={"OPENAI_COMPAT_STORE": postgres_url})
    try:
        eventually(lambda: get(served, "/readyz").json["store"] == "ok")
        assert turn(served, "one")[1] == ["one"]
    finally:
        served.process.kill()
        served.process.wait(PATIENCE)
        served._reader.join(PATIENCE)
        served.process.stderr.close()


def garbage(file: Path) -> str:
    file.write_bytes(b"somebody needs this " * 100)
    return "The store's file is no SQLite database."


def newer(file: Path) -> str:
    with sqlite3.connect(file) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table oc_schema (version bigint not null)")
        connection.execute("insert into oc_schema values (99)")
    connection.close()
    return "The store was written by a newer version: its schema is 99"


def foreign(file: Path) -> str:
    with sqlite3.connect(file) as connection:
        connection.execute("create table users (name text)")
    connection.close()
    return "The store's file is the database of another program."


@requirement("store.start")
@pytest.mark.parametrize("make", [garbage, newer, foreign])
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.usefixtures("here")
def test_a_file_that_will_never_do_is_told_once_and_left_as_it_is(
    make: Callable[[Path], str], workers: str, tmp_path: Path
) -> None:
    file = tmp_path / "state.db"
    message = make(file)
    before = file.read_bytes()
    result = invoke("serve", AGENTS, "-l", "127.0.0.1:0", "--workers", workers, "--store", f"sqlite:///{file}")
    assert result.exit_code == 1
    assert result.output.count(f"Error: {message}") == 1
    assert "Traceback" not in result.output
    assert "serves" not in result.output
    assert file.read_bytes() == before


@requirement("store.start")
def test_the_program_ends_as_such_a_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    message = garbage(file)
    ended = run("serve", AGENTS, "-l", "127.0.0.1:0", "--workers", "2", "--store", f"sqlite:///{file}")
    assert ended.returncode == 1
    assert ended.stderr == f"Error: {message}\n"


# settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "give them --store sqlite:///FILE or postgresql://…, or leave --workers out."),
        (["--workers", "2", "--store", "memory:"], "in its memory: give them --store sqlite:///FILE"),
        (["--store", "mysql://ann:the-password@host/x"], "not one with the scheme 'mysql'."),
        (["--store", "postgresql://ann:the/password@host/x"], "is postgresql://user:password@host:port/database."),
        (["--store", "sqlite:///x.db", "--conversations-max", "9"], "leave --conversations-max out."),
        (["--webhook", "https://app.example"], "--webhook and --webhook-secret-env go together."),
        (["--webhook", "https://app.example", "--webhook-secret-env", "NOT_SET"], "NOT_SET, which should hold"),
        (["--webhook", "app.example", "--webhook-secret-env", "HOME"], "a webhook's URL is of the form https://"),
        (["--requests-per-minute", "0"], "0.0 is not in the range x>0."),
    ],
)
@pytest.mark.usefixtures("here")
def test_settings_that_do_not_go_together_are_refused(arguments: list[str], message: str) -> None:
    result = invoke("serve", AGENTS, "-l", "127.0.0.1:0", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "the-password" not in result.output


@pytest.mark.usefixtures("here")
def test_an_option_that_the_driver_does_not_take_is_told_without_the_password() -> None:
    result = invoke("serve", AGENTS, "-l", "127.0.0.1:0", "--store", "postgresql://ann:the-password@host/x?sslmode=who")
    assert result.exit_code == 1
    assert "Error: The store's URL is not right (ClientConfigurationError)" in result.output
    assert "Traceback" not in result.output
    assert "the-password" not in result.output


def test_the_help_does_not_show_the_stores_url() -> None:
    shown = invoke("serve", "--help", env={"OPENAI_COMPAT_STORE": NOWHERE}).output
    assert "--store URL" in shown
    assert "the-password" not in shown


SECRET = "whsec_" + base64.b64encode(b"a secret of the test's own").decode()


@contextmanager
def hook() -> Iterator[tuple[list[str], list[Any]]]:
    """Yield the options for a webhook, and the events that it receives."""
    received: list[Any] = []
    client = openai.OpenAI(api_key="any", webhook_secret=SECRET)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        received.append(client.webhooks.unwrap(message["body"], headers))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with asgi_socket(app) as url:
        yield ["--webhook", f"{url}/hook", "--webhook-secret-env", "HOOK_SECRET"], received


@requirement("webhooks.background")
def test_a_webhook_tells_of_a_background_response() -> None:
    with hook() as (options, received), serve(AGENTS, *options, env={"HOOK_SECRET": SECRET}) as served:
        begun = ask(served, "/v1/responses", {"input": "hi", "background": True}).json
        eventually(lambda: received)
        served.signal(signal.SIGTERM)
        assert served.ended(10) == 0
    assert [(event.type, event.data.id) for event in received] == [("response.completed", begun["id"])]
    assert SECRET not in served.log


@requirement("webhooks.end")
def test_what_the_end_cuts_off_is_stored_and_told(tmp_path: Path) -> None:
    env = {"HOOK_SECRET": SECRET, "OPENAI_COMPAT_STORE": f"sqlite:///{tmp_path}/state.db"}
    with (
        hook() as (options, received),
        serve(AGENTS, *options, "--grace", "100ms", env=env) as served,
        Leash() as leash,
    ):
        body = {"model": "leashed", "input": leash.prompt, "background": True}
        begun = ask(served, "/v1/responses", body).json
        leash.wait_for_agent()
        served.signal(signal.SIGTERM)
        assert served.ended(10) == 0
    with serve(AGENTS, env=env) as served:
        found = get(served, f"/v1/responses/{begun['id']}").json
    assert [(event.type, event.data.id) for event in received] == [("response.failed", begun["id"])]
    assert (found["status"], found["error"]["original_code"]) == ("failed", "shutting_down")
