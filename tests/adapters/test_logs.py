"""The log, set up in one call: the same line as text and as JSON, under every server, without secrets."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from openai_compat import Disconnect, Principal, Server, ToolCallReady, ToolResult, UsageReported
from openai_compat.api.access_record import FIELDS
from openai_compat.errors import AgentError
from openai_compat.hooks import ContentLog
from openai_compat_adapters.logs import JsonFormatter, TextFormatter, configure_logging
from tests.conftest import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import answer, request
from tests.support.hooked import EVERY_API, HTTP_APIS, OWN_FORMS, EndsAs, ask, hooked_server, run_turn
from tests.transports import listen, wsgi_socket

pytestmark = pytest.mark.anyio

OUTCOMES = {"ok": "ok", "error": "failed", "pause": "paused", "cancel": "cancelled"}


class Kept(logging.Handler):
    """Collects the records of the access log, and all formatted lines."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.all: list[logging.LogRecord] = []
        self.records: list[logging.LogRecord] = []
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)
        self.lines.append(self.format(record))
        if "event" in vars(record):
            self.records.append(record)

    @property
    def turn(self) -> dict[str, Any]:
        """The fields of the only turn."""
        (record,) = [record for record in self.records if vars(record)["event"] == "turn"]
        return vars(record)


@contextmanager
def kept(formatter: logging.Formatter | None = None, level: int = logging.INFO) -> Iterator[Kept]:
    handler, ours = Kept(formatter or JsonFormatter()), logging.getLogger("openai_compat")
    ours.addHandler(handler)
    ours.setLevel(level)
    try:
        yield handler
    finally:
        ours.removeHandler(handler)


@requirement("log.turn")
@pytest.mark.parametrize("ending", OUTCOMES)
@pytest.mark.parametrize("api", EVERY_API)
async def test_each_turn_has_one_line_with_all_its_fields(api: str, ending: str) -> None:
    agent = EndsAs()
    with kept() as log:
        server = hooked_server(agent)
        async with server.lifespan():
            await run_turn(server, agent, api, ending, stream=True)
    turn = log.turn
    assert set(FIELDS) <= set(turn)
    told = {name: turn[name] for name in ("api", "agent", "model", "principal", "outcome", "tool_calls")}
    model = {} if api.startswith("chat_") else {"model": "agent"}
    assert (
        told
        == {
            "api": api,
            "agent": "agent",
            "model": turn["model"],
            "principal": "anonymous",
            "outcome": OUTCOMES[ending],
            "tool_calls": 0,
        }
        | model
    )
    assert (turn["input_tokens"], turn["output_tokens"], turn["cached_tokens"]) == (3, 2, None)
    assert turn["error"] == {"error": "broken", "cancel": turn["error"]}.get(ending)
    assert 0 <= turn["first_ms"] <= turn["ms"]
    assert turn["queue_ms"] >= 0
    assert turn["stream"] is True  # the chat WebSocket has nothing else
    assert turn["response"]


@requirement("log.turn")
async def test_what_is_not_known_is_null_and_never_nothing() -> None:
    async def silent(prompt: str) -> AsyncIterator[Any]:
        yield ToolCallReady("call_1", "look", "{}", "agent")
        yield ToolResult("call_1", "seen")

    with kept() as log:
        await ask(hooked_server(silent), "chat", "hi", stream=False)
    line = json.loads(log.lines[-1])
    assert (line["input_tokens"], line["conversation"], line["error"], line["tool_calls"]) == (None, None, None, 1)


@requirement("log.turn")
async def test_a_turn_that_was_refused_names_who_asked() -> None:
    with kept() as log:
        server = hooked_server(EndsAs(), keys={"sk-1": Principal("ann")})
        server.services.live.slots.close()
        await answer(
            server,
            request(
                "/v1/chat/completions",
                {"model": "agent", "messages": [{"role": "user", "content": "hi"}]},
                (b"authorization", b"Bearer sk-1"),
            ),
        )
    turn = log.turn
    assert (turn["outcome"], turn["error"], turn["principal"]) == ("refused", "shutting_down", "ann")
    assert (turn["queue_ms"], turn["tool_calls"]) == (None, None)


@requirement("log.turn")
async def test_a_response_in_the_background_has_a_line_when_it_ends() -> None:
    agent = EndsAs()
    with kept() as log:
        server = hooked_server(agent)
        async with server.lifespan():
            made = (await ask(server, "responses", "ok", stream=False, background=True)).json
            for _ in range(100):
                found = await answer(server, request(f"/v1/responses/{made['id']}", b"", method="GET"))
                if found.json["status"] == "completed":
                    break
    (line,) = [vars(record) for record in log.records if vars(record)["method"] == "background"]
    assert (line["outcome"], line["response"], line["output_tokens"]) == ("ok", made["id"], 2)


class Waiting:
    """An agent that says something, and ends when the test releases it."""

    def __init__(self) -> None:
        self.begun, self.let_go = anyio.Event(), anyio.Event()

    async def __call__(self, prompt: str) -> AsyncIterator[Any]:
        yield "one "
        self.begun.set()
        await self.let_go.wait()
        if prompt == "error":
            raise AgentError("It broke.", code="broken")
        yield UsageReported(3, 2)


@requirement("log.turn")
@pytest.mark.parametrize(("prompt", "outcome", "error"), [("ok", "ok", None), ("error", "failed", "broken")])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("api", HTTP_APIS | OWN_FORMS)
async def test_a_turn_that_goes_on_without_its_client_has_its_line_when_it_is_over(
    api: str, stream: bool, prompt: str, outcome: str, error: str | None
) -> None:
    agent = Waiting()
    with kept() as log:
        server = hooked_server(agent, disconnect=Disconnect("finish"))
        async with server.lifespan():
            async with anyio.create_task_group() as client:
                client.start_soon(lambda: ask(server, api, prompt, stream=stream))
                await agent.begun.wait()
                client.cancel_scope.cancel()
            assert not log.records
            agent.let_go.set()
            with anyio.fail_after(10):
                while not log.records:
                    await anyio.lowlevel.checkpoint()
    turn = log.turn
    assert (turn["outcome"], turn["error"]) == (outcome, error)
    assert turn["note"] in ("client left", error)
    assert (turn["output_tokens"], turn["agent"]) == (2 if outcome == "ok" else None, "agent")


@requirement("log.turn")
async def test_what_clients_write_begins_no_line_of_its_own() -> None:
    with kept(TextFormatter()) as log:
        server = hooked_server(EndsAs(), unknown_model="default")
        await ask(server, "chat", "ok", stream=False, model="a\nb")
        await answer(server, request("/v1/\nchat", b""))
    assert all("\n" not in line for line in log.lines)
    assert vars(log.records[0])["model"] == "a\\nb"


@requirement("log.turn")
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
async def test_what_an_agent_calls_its_failure_begins_no_line_of_its_own(formatter: logging.Formatter) -> None:
    async def agent(prompt: str) -> str:
        raise AgentError("It\nbroke.", code="bro\nken 12:00:00 200 agent" + "x" * 500)

    with kept(formatter) as log:
        await ask(hooked_server(agent), "chat", "hi", stream=False)
    assert len(log.lines) == 2
    assert all("\n" not in line and "\\nken" in line and len(line) < 1500 for line in log.lines)
    assert log.turn["note"] == log.turn["error"]
    assert log.turn["note"].startswith("bro\\nken 12")


@requirement("log.turn")
async def test_a_line_for_people_tells_what_is_known() -> None:
    with kept(TextFormatter()) as log:
        await ask(hooked_server(EndsAs()), "chat", "ok", stream=False)
    line = r"\d\d:\d\d:\d\d 200 agent +POST /v1/chat/completions +\d+\.\d\d s first \d+ ms 3→2 tok req_\w+"
    assert re.fullmatch(line, log.lines[-1])


@requirement("log.turn")
async def test_the_current_span_is_on_the_line() -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(0x0AF7, 0xB7, is_remote=False)
    with kept() as log, trace.use_span(trace.NonRecordingSpan(context)):
        await ask(hooked_server(EndsAs()), "chat", "ok", stream=False)
    line = json.loads(log.lines[-1])
    assert (line["trace_id"], line["span_id"]) == (f"{0x0AF7:032x}", f"{0xB7:016x}")


@requirement("log.events")
async def test_at_debug_the_events_of_a_turn_are_told_but_not_what_is_said() -> None:
    with kept(TextFormatter(), logging.DEBUG) as log:
        await ask(hooked_server(EndsAs()), "chat", "ok", stream=False)
    told = [line.partition(": ")[2] for line in log.lines]
    assert told[1:5] == ["4 characters", "UsageReported", "3 characters", "Finished"]
    assert "one" not in "\n".join(log.lines)


@requirement("log.content")
async def test_content_is_logged_where_it_is_asked_for_redacted_and_cut() -> None:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        yield "the answer "
        yield ToolCallReady("call_1", "pay", '{"card": "1234"}', "agent")
        yield ToolResult("call_1", "paid")
        yield "x" * 50

    def redact(text: str) -> str:
        return text.replace("1234", "****")

    with kept() as log:
        server = hooked_server(agent, ContentLog(sample=1, limit=20, redact=redact), ContentLog("other", sample=0))
        await ask(server, "responses", "pay by 1234", stream=True)
    (content,) = [vars(record)["content"] for record in log_records(log)]
    assert content["prompt"] == "pay by ****"
    assert content["tools"] == [{"name": "pay", "arguments": '{"card": "****"}'}]
    assert content["answer"] == "the answer " + "x" * 9 + "…"
    assert "1234" not in "\n".join(log.lines)


def log_records(log: Kept) -> list[logging.LogRecord]:
    return [record for record in log.all if record.name == "openai_compat.content"]


@requirement("log.content")
async def test_where_redaction_fails_nothing_is_logged_of_the_turn() -> None:
    def broken(text: str) -> str:
        raise ValueError(text)

    with kept() as log:
        made = await ask(hooked_server(EndsAs(), ContentLog(sample=1, redact=broken)), "chat", "ok", stream=False)
    assert made.text == "one two"
    assert not log_records(log)
    assert "one two" not in "\n".join(log.lines)
    assert any("content could not be redacted: ValueError" in line for line in log.lines)


@pytest.mark.parametrize("wrong", [{"sample": 2}, {"sample": "all"}, {"limit": 1.5}])
def test_a_wrong_setting_of_the_content_log_is_refused(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        ContentLog(**wrong)


def test_a_level_or_a_form_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="level has to be one of"):
        configure_logging("loud")
    with pytest.raises(ValueError, match="form has to be"):
        configure_logging("info", "xml")


@requirement("log.everywhere")
@pytest.mark.parametrize("formatter", [TextFormatter(tracebacks=False), JsonFormatter(tracebacks=False)])
async def test_without_tracebacks_the_type_of_an_exception_is_told_and_no_word_of_it(
    formatter: logging.Formatter,
) -> None:
    async def agent(prompt: str) -> str:
        raise ZeroDivisionError(prompt)

    with kept(formatter) as log:
        await ask(hooked_server(agent), "chat", "the-prompt", stream=False)
    assert "ZeroDivisionError" in log.lines[0]
    assert "the-prompt" not in "".join(log.lines)
    assert "\n" not in "".join(log.lines)


@requirement("log.everywhere")
def test_handlers_that_are_there_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = logging.NullHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [theirs])
    configure_logging("debug")
    assert logging.getLogger().handlers == [theirs]
    assert logging.getLogger("openai_compat").level == logging.DEBUG


def test_the_line_under_wsgi() -> None:
    with kept() as log, wsgi_socket(Server(lambda prompt: prompt)) as url:
        told = post(url)
    assert told == 200
    assert log.turn["outcome"] == "ok"


APP = """
from openai_compat import Server
from openai_compat_adapters.logs import configure_logging
from openai_compat_adapters.starlette import create_app
from openai_compat_adapters.wsgi import create_wsgi_app

configure_logging("info", "json")
server = Server(lambda prompt: prompt)
asgi = create_app(server)
wsgi = create_wsgi_app(server)
"""


@requirement("log.everywhere")
@pytest.mark.parametrize("program", ["uvicorn", "gunicorn"])
def test_one_call_is_all_that_other_servers_need(program: str, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(APP)
    listener = listen()
    listener.set_inheritable(True)
    number = listener.fileno()
    commands = {
        "uvicorn": [
            "uvicorn",
            "served:asgi",
            "--fd",
            str(number),
            "--app-dir",
            str(tmp_path),
            "--log-level",
            "warning",
        ],
        "gunicorn": ["gunicorn", "served:wsgi", "--bind", f"fd://{number}", "--chdir", str(tmp_path), "--threads", "2"],
    }
    command = [sys.executable, "-m", *commands[program]]
    with subprocess.Popen(command, pass_fds=[number], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert post(f"http://127.0.0.1:{listener.getsockname()[1]}") == 200
        finally:
            process.terminate()
            _, written = process.communicate(timeout=20)
            listener.close()
    (line,) = [json.loads(line) for line in written.splitlines() if '"event":"turn"' in line]
    assert (line["agent"], line["outcome"], line["path"]) == ("agent", "ok", "/v1/chat/completions")


def post(url: str) -> int:
    body = json.dumps({"model": "agent", "messages": [{"role": "user", "content": "hi"}]}).encode()
    asked = urllib.request.Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=20) as answered:
        return int(answered.status)
