"""The WSGI adapter: validated, below a prefix of a Flask application, and under gunicorn."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import httpx2
import openai
import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from openai_compat import AgentError, Deadlines, Server
from openai_compat_adapters.wsgi import create_wsgi_app
from tests.transports import listen
from tests.trust.probe import CHAT, Endless, EndlessThread, ask, eventually, frames, text_of
from tests.trust.wire import RawClient

HI: Any = [{"role": "user", "content": "Bob"}]


async def greeter(prompt: str) -> AsyncIterator[str]:
    yield "Hello, "
    yield prompt


class Answer:
    """A call of a WSGI application, like a server's."""

    def __init__(self, app: Any, **fields: Any) -> None:
        body = json.dumps(ask(**fields)).encode()
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": CHAT,
            "HTTP_HOST": "localhost",
            "CONTENT_TYPE": "application/json",
        }
        environ |= {
            "CONTENT_LENGTH": str(len(body)),
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "wsgi.input": io.BytesIO(body),
        }
        setup_testing_defaults(environ)
        self.environ = environ
        self.app = app

    def with_environ(self, **changes: Any) -> Answer:
        for key, value in changes.items():
            self.environ.pop(key, None)
            if value is not None:
                self.environ[key.replace("wsgi_", "wsgi.")] = value
        return self

    def start(self) -> Iterator[bytes]:
        """Call the application, and return the body unread."""
        self.body = self.app(self.environ, self._start_response)
        return iter(self.body)

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.status, self.headers = status, dict(headers)
        return lambda data: None

    def read(self) -> bytes:
        """Read the whole body, and close it as servers do."""
        pieces = self.start()
        try:
            return b"".join(pieces)
        finally:
            self.close()

    def close(self) -> None:
        """Do what a server does after the body, or after its client has disconnected."""
        close = getattr(self.body, "close", None)
        if close is not None:
            close()


# the protocol


@pytest.mark.parametrize("stream", [False, True])
def test_the_application_is_valid_wsgi(stream: bool) -> None:
    """The standard library's validator checks every call in both directions."""
    answer = Answer(validator(create_wsgi_app(Server(greeter))), stream=stream)
    body = answer.read()
    assert answer.status == "200 OK"
    assert "Hello, " in (text_of(frames(body)) if stream else body.decode())


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"REQUEST_METHOD": "GET", "PATH_INFO": "/v1/models"}, "200 OK"),
        ({"REQUEST_METHOD": "PUT"}, "405 Method Not Allowed"),
        ({"PATH_INFO": "/unknown"}, "404 Not Found"),
        ({"SCRIPT_NAME": "/ai", "PATH_INFO": ""}, "404 Not Found"),
        ({"HTTP_HOST": "evil.example"}, "403 Forbidden"),
        ({"CONTENT_LENGTH": "3"}, "400 Bad Request"),
        ({"CONTENT_LENGTH": None}, "400 Bad Request"),
        ({"CONTENT_LENGTH": ""}, "400 Bad Request"),
        ({"CONTENT_TYPE": "text/plain", "HTTP_ORIGIN": "null"}, "415 Unsupported Media Type"),
    ],
)
def test_errors_are_valid_wsgi_too(changes: dict[str, Any], status: str) -> None:
    answer = Answer(validator(create_wsgi_app(Server(greeter)))).with_environ(**changes)
    body = answer.read()
    assert answer.status == status
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("status", [418, 499, 529, 599])
def test_a_status_without_a_name_is_a_status(status: int) -> None:
    """An agent may choose any from 400 to 599; Anthropic's "overloaded" is 529."""

    async def agent(prompt: str) -> str:
        raise AgentError("no", status=status)

    answer = Answer(validator(create_wsgi_app(Server(agent))))
    answer.read()
    assert answer.status.startswith(f"{status} ")
    assert len(answer.status) > 4


def test_paths_are_decoded_as_utf_8_and_queries_are_ignored() -> None:
    app = create_wsgi_app(Server({"köln/der agent": greeter}))
    path = "/v1/models/köln/der agent".encode().decode("latin-1")
    answer = Answer(app).with_environ(REQUEST_METHOD="GET", PATH_INFO=path, QUERY_STRING="a=%00&b")
    assert json.loads(answer.read())["id"] == "köln/der agent"


def test_a_body_whose_end_the_server_knows_needs_no_length() -> None:
    """`wsgi.input_terminated`: chunked uploads, where the server supports them"""
    body = json.dumps(ask()).encode()
    answer = Answer(create_wsgi_app(Server(greeter)))
    answer.environ["wsgi.input_terminated"] = True
    answer.environ["wsgi.input"] = io.BytesIO(body)
    del answer.environ["CONTENT_LENGTH"]
    assert b"Hello, hi" in answer.read()


def test_no_more_than_the_announced_length_is_read() -> None:
    """The next bytes on the connection belong to another request."""
    answer = Answer(create_wsgi_app(Server(greeter)))
    body = answer.environ["wsgi.input"]
    body.seek(0, io.SEEK_END)
    body.write(b"GET /next")
    body.seek(0)
    assert b"Hello, hi" in answer.read()
    assert body.read() == b"GET /next"


def test_a_body_that_ends_too_early_starts_nothing() -> None:
    """140: the client disconnected while sending"""
    agent = Endless()
    answer = Answer(create_wsgi_app(Server(agent)))
    answer.environ["wsgi.input"] = io.BytesIO(b'{"model"')
    with pytest.raises(ConnectionAbortedError):
        answer.start()
    assert agent.runs == 0


# streams


def test_a_piece_is_handed_on_before_the_next_is_made() -> None:
    go = threading.Event()

    def patient(prompt: str) -> Iterator[str]:
        yield "first"
        assert go.wait(20)
        yield "second"

    answer = Answer(create_wsgi_app(Server(patient)), stream=True)
    pieces = answer.start()
    assert any(b"first" in piece for piece in pieces)
    assert not go.is_set()
    go.set()
    assert any(b"second" in piece for piece in pieces)
    answer.close()


@pytest.mark.parametrize("agent_type", [Endless, EndlessThread])
def test_closing_the_answer_stops_the_agent(agent_type: type[Endless]) -> None:
    agent = agent_type("begun")
    server = Server(agent)
    answer = Answer(create_wsgi_app(server), stream=True)
    pieces = answer.start()
    assert any(b"begun" in piece for piece in pieces)
    answer.close()
    assert agent.stopped.is_set()
    eventually(lambda: server.services.live.slots.used == 0)
    answer.close()  # some servers do it twice


def test_an_answer_that_was_cut_is_not_taken_for_a_whole_one() -> None:
    """A slow reader is cut off; the server must see an error, so that it cuts its own connection."""
    agent = Endless(*["x" * 100_000] * 10)
    server = Server(agent, deadlines=Deadlines(write=0.1))
    answer = Answer(create_wsgi_app(server), stream=True)
    pieces = answer.start()
    next(pieces)
    assert agent.stopped.wait(10)
    with pytest.raises(ConnectionAbortedError):
        list(pieces)
    answer.close()


def test_nothing_runs_when_nothing_is_answered() -> None:
    """The event loop's thread exists while it is needed, and ends afterwards."""
    before = threading.active_count()
    app = create_wsgi_app(Server({"agent": greeter, "thread": lambda prompt: "x"}))
    for model in ("agent", "thread"):
        for stream in (False, True):
            assert Answer(app, model=model, stream=stream).read()
    eventually(lambda: threading.active_count() <= before)


def test_responses_in_the_background_are_refused_since_nothing_would_run_them() -> None:
    app = create_wsgi_app(Server(greeter))
    answer = Answer(app, input="Bob", messages=None, background=True).with_environ(PATH_INFO="/v1/responses")
    error = json.loads(answer.read())["error"]
    assert (answer.status, error["param"]) == ("400 Bad Request", "background")


def test_many_threads_are_answered_side_by_side() -> None:
    """The agents wait for each other: they only finish if all of them are running."""
    barrier = threading.Barrier(12)

    def agent(prompt: str) -> str:
        barrier.wait(20)
        return "together"

    app, said = create_wsgi_app(Server(agent)), list[bytes]()
    threads = [threading.Thread(target=lambda: said.append(Answer(app).read())) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len([answer for answer in said if b"together" in answer]) == 12


# Flask


@contextmanager
def served_by_werkzeug(app: Any) -> Iterator[str]:
    runner = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=runner.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.port}"
    finally:
        runner.shutdown()
        thread.join(10)
        runner.server_close()


def flask_with(server: Server) -> Flask:
    app = Flask(__name__)

    @app.get("/own")
    def own_page() -> str:
        return "my own page"

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/ai": create_wsgi_app(server)})
    return app


def test_the_sdk_reaches_an_agent_below_a_prefix_of_a_flask_application() -> None:
    server = Server({"greeter": greeter, "thread": lambda prompt: f"Hello, {prompt}"}, keys="sk-right")
    with (
        served_by_werkzeug(flask_with(server)) as url,
        openai.OpenAI(base_url=f"{url}/ai/v1", api_key="sk-right", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["greeter", "thread"]
        for model in ("greeter", "thread"):
            answer = client.chat.completions.create(model=model, messages=HI)
            assert answer.choices[0].message.content == "Hello, Bob"
            stream = client.chat.completions.create(model=model, messages=HI, stream=True)
            assert "".join([chunk.choices[0].delta.content or "" for chunk in stream]) == "Hello, Bob"
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="other", messages=HI)
        assert httpx2.get(f"{url}/own").text == "my own page"
        assert httpx2.get(f"{url}/ai/unknown").json()["error"]["code"] == "invalid_api_key"
        assert "error" not in httpx2.get(f"{url}/v1/models").text


def test_flasks_own_test_client_reaches_an_agent() -> None:
    client = flask_with(Server(greeter)).test_client()
    answer = client.post(f"/ai{CHAT}", json=ask())
    assert answer.get_json()["choices"][0]["message"]["content"] == "Hello, hi"
    streamed = client.post(f"/ai{CHAT}", json=ask(stream=True))
    assert text_of(frames(streamed.data)) == "Hello, hi"


# gunicorn

GUNICORN = '''
import threading

from openai_compat import Deadlines, Server
from openai_compat_adapters.wsgi import create_wsgi_app
from tests.trust.probe import Endless, EndlessThread

go = threading.Event()
endless = {"async": Endless("begun"), "thread": EndlessThread("begun")}


def patient(prompt):
    yield "first"
    assert go.wait(30)
    yield "second"


def release(prompt):
    go.set()
    return "released"


def stopped(prompt):
    """Says whether the agent of that name has begun, and has been stopped."""
    agent = endless[prompt]
    return f"{agent.runs} {agent.stopped.wait(10)}"


agents = {**endless, "patient": patient, "release": release, "stopped": stopped}
application = create_wsgi_app(Server(agents, deadlines=Deadlines(heartbeat=0.1, head=0.1)))
'''


@contextmanager
def gunicorn(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A gunicorn with one worker that has threads; yields its URL and its process."""
    (folder / "served.py").write_text(GUNICORN, "utf-8")
    root = Path(__file__).parents[2]
    with listen() as listener, (folder / "log").open("wb") as log:
        listener.set_inheritable(True)
        command = [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", "--chdir", str(folder)]
        command += ["--worker-class", "gthread", "--threads", "8", "--graceful-timeout", "2", "--no-control-socket"]
        command += [*options, "served"]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        process = subprocess.Popen(
            command, pass_fds=[listener.fileno()], cwd=folder, env=environment, stdout=log, stderr=log
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield url, process
    finally:
        process.terminate()
        try:
            process.wait(15)
        finally:
            process.kill()
            process.wait()


def said_by(url: str, model: str, prompt: str = "hi") -> str:
    body = ask(model=model, messages=[{"role": "user", "content": prompt}])
    answer = httpx2.post(f"{url}{CHAT}", json=body, timeout=30)
    return str(answer.json()["choices"][0]["message"]["content"])


def test_gunicorn_streams_live_takes_chunked_bodies_and_stops_agents_whose_clients_left(tmp_path: Path) -> None:
    with gunicorn(tmp_path) as (url, process):
        with RawClient(url) as client:
            client.chat(model="patient", stream=True)
            client.read_until(b"first")
            assert said_by(url, "release") == "released"
            assert b"[DONE]" in client.read_until(b"[DONE]")

        with RawClient(url) as client:
            body = json.dumps(ask(model="release")).encode()
            client.head("Transfer-Encoding: chunked", "Content-Type: application/json")
            for at in range(0, len(body), 7):
                client.chunk(body[at : at + 7])
            client.chunk(b"")
            status, answer = client.answer()
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "released")

        leave: list[Callable[[RawClient], None]] = [RawClient.reset, lambda client: client.socket.close()]
        for agent, how in zip(("async", "thread"), leave, strict=True):
            client = RawClient(url)
            client.chat(model=agent, stream=True)
            client.read_until(b"begun")
            how(client)
            assert said_by(url, "stopped", agent) == "1 True"
        assert httpx2.get(f"{url}/readyz").json() == {"status": "ready", "running": 0, "store": "ok"}
        assert process.poll() is None
    assert process.returncode == 0


def test_gunicorn_may_load_the_application_before_it_forks_and_ends_while_a_stream_is_open(tmp_path: Path) -> None:
    """The event loop's thread is started on demand, because threads do not survive a fork."""
    with gunicorn(tmp_path, "--preload") as (url, process):
        assert said_by(url, "release") == "released"
        with RawClient(url) as client:
            client.chat(model="async", stream=True)
            client.read_until(b"begun")
            process.terminate()
            process.wait(20)
    assert process.returncode == 0


# the end of the interpreter

UNCLOSED = """
import io, json, sys, time
import anyio
from openai_compat import Deadlines, RunContext, Server


async def asynchronous(prompt):
    yield "begun"
    await anyio.sleep_forever()


def thread(context: RunContext):
    yield "begun"
    context.wait_cancelled(60)


def blocked(prompt):
    yield "begun"
    time.sleep(60)


agents = {"asynchronous": asynchronous, "thread": thread, "blocked": blocked}
server = Server(agents, deadlines=Deadlines(grace=0.2))
messages = [{"role": "user", "content": "hi"}]


def by_sdk(model):
    from openai_compat_adapters.client import sync_openai
    stream = sync_openai(server).chat.completions.create(model=model, messages=messages, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content == "begun":
            return stream


def by_wsgi(model):
    from openai_compat_adapters.wsgi import create_wsgi_app
    body = json.dumps({"model": model, "messages": messages, "stream": True}).encode()
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/chat/completions", "HTTP_HOST": "localhost"}
    environ |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    pieces = iter(create_wsgi_app(server)(environ, lambda status, headers: None))
    while b"begun" not in next(pieces):
        pass
    return pieces


kept = [globals()[sys.argv[1]](model) for model in agents]
print("leaving")
"""


@pytest.mark.parametrize("way", ["by_sdk", "by_wsgi"])
def test_the_interpreter_ends_even_with_streams_that_nobody_closed(way: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", UNCLOSED, way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "leaving\n")
    (complaint,) = done.stderr.splitlines()  # the agent that blocks cannot be stopped, and the log says so
    assert "the agent still runs" in complaint
