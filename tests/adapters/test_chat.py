"""`openai-compat chat` in this process: its questions, its output and its exit codes."""

from __future__ import annotations

import json
import logging
import re
import signal
import socket
import sys
import unicodedata
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import Server
from openai_compat_adapters._cli.chat.answer_events import AnswerEvent, AnswerPiece, ChatFailed
from openai_compat_adapters._cli.chat.connection import ServerConnection
from openai_compat_adapters._cli.chat.dialogue import Dialogue
from openai_compat_adapters._cli.chat.display import PlainDisplay
from openai_compat_adapters._cli.chat.questions import Answerer
from openai_compat_adapters._cli.chat.session import ChatSession
from openai_compat_adapters._cli.terminal import DIRECTIONS, visible
from openai_compat_adapters.transport import SyncTransport
from tests.adapters import chat_agents
from tests.adapters.in_process import invoke
from tests.adapters.served import serve
from tests.requirements import requirement

AGENTS = "tests.adapters.chat_agents"


def chat(agent: str, *arguments: str, **options: Any) -> Result:
    """Run the command with an agent of chat_agents."""
    return invoke("chat", f"{AGENTS}:{agent}", *arguments, **options)


class Scripted:
    """A session with agents in this process. `answers` are the user's; the prompts are in `shown`."""

    def __init__(
        self,
        model: str,
        *answers: str,
        transport: httpx2.BaseTransport | None = None,
        api: str = "auto",
        **settings: Any,
    ) -> None:
        self.shown: list[str] = []
        self._answers = list(answers)
        server = Server(chat_agents.agents, **settings)
        self.connection = ServerConnection("http://localhost/v1", "", transport or SyncTransport(server))
        self.dialogue = Dialogue(model, is_ours=transport is None)
        display = PlainDisplay(verbose=True)
        self.answerer = Answerer(display, self._answer, approve=False)
        self.session = ChatSession(
            self.connection, self.dialogue, display, self.answerer, models=[model, "told"], api=api
        )

    def _answer(self, prompt: str) -> str:
        self.shown.append(prompt)
        return self._answers.pop(0)


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    made: list[Scripted] = []

    def make(*arguments: Any, **settings: Any) -> Scripted:
        made.append(Scripted(*arguments, **settings))
        return made[-1]

    yield make
    for one in made:
        one.connection.close()


# a message and its answer


def test_a_message_is_asked_and_its_answer_shown() -> None:
    result = chat("told", "-m", "hello")
    assert (result.exit_code, result.output) == (0, "1: hello\n")


@requirement("talk.pipes")
def test_what_is_piped_in_is_the_message_or_below_it() -> None:
    assert chat("told", input="two\nlines").output == "1: two\nlines\n"
    assert chat("told", "-m", "Review this:", input="a diff").output == "1: Review this:\n\na diff\n"


@requirement("talk.pipes")
def test_stdout_has_the_answer_alone_as_it_was_written() -> None:
    result = chat("busy", "-m", "x")
    assert result.stdout == "It will **rain**.\n"


@requirement("talk.pipes")
def test_the_answer_can_be_the_servers_json_or_its_events() -> None:
    whole = json.loads(chat("busy", "-m", "x", "--json").stdout)
    assert (whole["object"], whole["status"], whole["usage"]["input_tokens"]) == ("response", "completed", 431)
    events = [json.loads(line) for line in chat("busy", "-m", "x", "--jsonl").stdout.splitlines()]
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    whole = json.loads(chat("busy", "-m", "x", "--json", "--api", "chat").stdout)
    assert (whole["object"], whole["choices"][0]["message"]["content"]) == ("chat.completion", "It will **rain**.")
    assert whole["choices"][0]["finish_reason"] == "stop"


@requirement("talk.plain")
def test_markdown_is_for_terminals_and_for_those_who_force_it_if_its_package_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "It will \x1b[1mrain\x1b[0m." in chat("busy", "-m", "x", color=True).stdout
    assert chat("busy", "-m", "x", "--plain", color=True).stdout == "It will **rain**.\n"
    monkeypatch.setitem(sys.modules, "rich", None)
    assert chat("busy", "-m", "x", color=True).stdout == "It will **rain**.\n"


def test_instructions_go_with_the_message() -> None:
    assert chat("told", "-m", "hi", "--system", "Be brief.").output == "2: hi\n"


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_conversation_goes_on_by_either_api(scripted: Callable[..., Scripted], api: str, capsys: Any) -> None:
    session = scripted("told", api=api).session
    session.ask("one")
    session.ask("two")
    assert capsys.readouterr().out == "1: one\n3: two\n"


# activity


@requirement("talk.work")
def test_thoughts_tools_sources_and_costs_are_told(scripted: Callable[..., Scripted], capsys: Any) -> None:
    scripted("busy").session.ask("x")
    out, err = capsys.readouterr()
    assert out == "It will **rain**.\n"
    lines = [line.partition("  ")[0] for line in err.splitlines()]
    assert lines[:4] == ["· Thinking …", "· Running look_up …", '· look_up(city="Oslo")', "·"]
    assert '·   {"sky": "rain"}\n' in err
    assert "·   failed: timed out\n" in err
    assert "  1. Weather  https://weather.example\n" in err
    assert err.splitlines()[-1].endswith("431 in, 212 out")


@requirement("chat.terminal")
def test_control_characters_of_an_answer_are_shown_and_not_obeyed() -> None:
    assert chat("loud", "-m", "hello", color=True).output == "a␛[31mb␇\\x9b2J␍\\u202ec␡\t😀\né␀\n"
    assert "no␛[2J\\x9b" in chat("rude", "-m", "hello", color=True).output
    assert "note: lunch [red]␛[2J<b>" in chat("buyer", "-m", "hello", color=True).output


@requirement("chat.terminal")
@given(st.text())
def test_nothing_that_reaches_the_terminal_moves_its_cursor_or_turns_its_text(text: str) -> None:
    shown = visible(text)
    assert {c for c in shown if unicodedata.category(c) in ("Cc", "Cs")} <= {"\n", "\t"}
    assert not DIRECTIONS & set(shown)
    if text.isprintable() and not DIRECTIONS & set(text):
        assert shown == text


@requirement("talk.media")
def test_pictures_are_told_of_and_kept_where_that_is_wanted(tmp_path: Path) -> None:
    assert chat("painter", "-m", "x").stderr == "A picture (png, 1 kB): save it with /save FILE or --out DIR\n"
    for number in (1, 2):
        assert f"picture-{number}.png written, 1 kB\n" in chat("painter", "-m", "x", "--out", str(tmp_path)).stderr
    assert (tmp_path / "picture-2.png").read_bytes() == b"a picture"


# questions


@requirement("talk.approvals")
@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (["y"], "paid\n"),
        (["", "  ", "Yes"], "paid\n"),
        (["a"], "paid\n"),
        (["n"], "not paid: None\n"),
        (["too dear"], "not paid: too dear\n"),
    ],
)
def test_a_person_decides_by_a_key_and_a_reason_is_a_no(
    scripted: Callable[..., Scripted], capsys: Any, answers: list[str], told: str
) -> None:
    made = scripted("buyer", *answers)
    made.session.ask("pay")
    out, err = capsys.readouterr()
    assert out == f"I pay Bob.\n{told}"
    assert "? May the agent run pay?\n    euros: 5\n    to: Bob\n    note: lunch [red]␛[2J<b>\n" in err
    assert len(made.shown) == len(answers)  # an empty line repeats the question
    assert not made.answerer.missed


@requirement("talk.approvals")
def test_where_nobody_can_be_asked_it_is_denied_with_an_exit_code_of_its_own() -> None:
    result = chat("buyer", "-m", "pay")
    assert (result.exit_code, result.stdout) == (3, "I pay Bob.\nnot paid: None\n")
    assert "--approve approves all" in result.stderr
    result = chat("buyer", "-m", "pay", "--approve")
    assert (result.exit_code, result.stdout) == (0, "I pay Bob.\npaid\n")
    result = chat("buyer", "-m", "pay", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["status"] == "completed"


@requirement("talk.approvals")
def test_an_agent_that_waits_in_the_middle_of_its_run_goes_on_when_it_is_decided() -> None:
    result = invoke("chat", "examples/approvals.py", "-m", "Luigi's", "--approve")
    assert (result.exit_code, result.stdout) == (0, "I can book that. \nBooked: Luigi's, for 2.\n")


TOOLS = [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}]
NESTED = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


@requirement("talk.tools")
@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize("tools", [TOOLS, NESTED], ids=["flat", "nested"])
def test_a_clients_tool_is_called_and_its_result_typed(
    scripted: Callable[..., Scripted], capsys: Any, tmp_path: Path, api: str, tools: list[Any]
) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps(tools))
    result = chat("caller", "-m", "x", "--tools", str(file), "--api", api)
    assert result.exit_code == 3
    assert "calls your tool get_weather:\n    city: Oslo\nNobody is here" in result.stderr
    made = scripted("caller", "rain", api=api)
    made.dialogue.tools = TOOLS
    made.session.ask("x")
    assert capsys.readouterr().out == "got: rain\n"


@pytest.mark.parametrize("text", ["{", "{}", '["a"]'])
def test_a_file_that_has_no_tools_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tools.json").write_text(text)
    result = chat("told", "-m", "x", "--tools", str(tmp_path / "tools.json"))
    assert result.exit_code == 2
    assert "tools.json' is no" in result.output


# failures


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (
            ["fails"],
            "Error: The agent failed. RuntimeError: the secret (chat_agents.py:… in fails); --log-level error shows more\n",
        ),
        (
            ["half"],
            "so far\nError: The agent failed. RuntimeError: the␛[2Jsecret (chat_agents.py:… in half); --log-level error shows more\n",
        ),
        (["refuses"], "Error: The calendar is closed.\n"),
        (["team", "--model", "nope"], "Error: The model 'nope' does not exist\n"),
        (["team"], "Error: Choose one with --model: told, fails\n"),
        (["keyed"], "Error: Missing or invalid API key. Send it as 'Authorization: Bearer KEY'.\n"),
        (["keyed", "--api-key", "é"], "Error: This cannot be an API key: it has other letters than keys have.\n"),
    ],
)
def test_a_failure_is_told_in_one_line(arguments: list[str], output: str) -> None:
    result = chat(*arguments, "-m", "hello")
    assert (result.exit_code, re.sub(r"py:\d+", "py:…", result.output)) == (1, output)


def test_ones_own_failure_is_told_with_its_traceback_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    chat("fails", "-m", "x")
    assert not caplog.records
    chat("fails", "-m", "x", "--log-level", "error")
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]
    assert logging.getLogger("openai_compat").propagate


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    with socket.socket() as bound:  # bound, but not listening
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        result = invoke("chat", "--url", f"http://{address}", "-m", "hello")
    assert result.exit_code == 1
    assert result.output == f"Error: No answer from {address}: Connection refused. Is the server running?\n"


@pytest.mark.parametrize("arguments", [[], ["x:y", "--url", "http://localhost"], ["x:y", "--json", "--jsonl"]])
def test_it_has_to_be_said_whom_to_talk_to_and_what_to_show(
    arguments: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("chat", *arguments)
    assert result.exit_code == 2
    assert "Error: Say whom to talk to" in result.output or "say one of them" in result.output


def test_a_served_agent_can_be_talked_to_but_is_not_given_a_key_that_is_openais(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-its-own")
    with serve("served_agents:keyed_server") as served:
        url = f"http://127.0.0.1:{served.port}"
        assert "Missing or invalid API key" in invoke("chat", "--url", url, "-m", "hello").output
        assert invoke("chat", "--url", url, "-m", "hello", "--api-key", "a-key-of-its-own").output == "hello\n"


def test_a_conversation_that_the_server_has_lost_is_told_again(scripted: Callable[..., Scripted], capsys: Any) -> None:
    session = scripted("told").session
    session.ask("one")
    session.dialogue.previous = "resp_of_a_server_that_was_started_anew"
    session.ask("two")
    out, err = capsys.readouterr()
    assert out == "1: one\n3: two\n"
    assert "the whole history is sent again" in err


def test_what_was_said_before_a_failure_is_known_in_the_next_turn(
    scripted: Callable[..., Scripted], capsys: Any
) -> None:
    session = scripted("half").session
    with pytest.raises(ChatFailed, match="The agent failed"):
        session.ask("one")
    session.dialogue.switch_model("told")
    session.ask("two")
    assert capsys.readouterr().out == "so far\n3: two\n"


# other servers


def completions(*deltas: dict[str, Any]) -> bytes:
    chunks = [{"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return b"".join([f"data: {json.dumps(chunk)}\r\n\r\n".encode() for chunk in chunks]) + b"data: [DONE]\n\n"


class Foreign(httpx2.BaseTransport):
    """A server that has only Chat Completions."""

    def __init__(self, answer: bytes, *, kind: str = "text/event-stream", status: int = 404) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._answer, self._kind, self._status = answer, kind, status

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append((request.url.path, json.loads(request.read() or b"{}")))
        if request.url.path == "/v1/chat/completions":
            return httpx2.Response(200, headers={"content-type": self._kind}, content=self._answer, request=request)
        return httpx2.Response(self._status, text="not here", request=request)


class Pressed(PlainDisplay):
    """A display whose user presses Ctrl-C at each piece of text, each notice, and the end of a turn."""

    @contextmanager
    def turn(self, model: str) -> Generator[None]:
        with super().turn(model):
            try:
                yield
            finally:
                signal.raise_signal(signal.SIGINT)

    def show(self, event: AnswerEvent) -> None:
        super().show(event)
        if isinstance(event, AnswerPiece):
            signal.raise_signal(signal.SIGINT)

    def notify(self, text: str, *, error: bool = False) -> None:
        super().notify(text, error=error)
        signal.raise_signal(signal.SIGINT)


class Typed:
    """The messages of a user who presses Ctrl-C before each one."""

    def __init__(self, *messages: str) -> None:
        self._left = list(messages)

    def read_message(self, model: str) -> str | None:
        signal.raise_signal(signal.SIGINT)
        return self._left.pop(0) if self._left else None


@requirement("talk.stop")
def test_ctrl_c_ends_nothing_but_an_answer_whenever_and_however_often_it_is_pressed(
    scripted: Callable[..., Scripted], capsys: Any
) -> None:
    made = scripted("half")
    made.session.display = Pressed(verbose=True)
    before = signal.getsignal(signal.SIGINT)
    made.session.talk(Typed("go", "/nonsense", "/model told", "go"))
    assert signal.getsignal(signal.SIGINT) is before
    out, err = capsys.readouterr()
    assert (out.split(), err.count("Stopped.")) == (["so", "far", "3:"], 2)


@requirement("talk.foreign")
@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_responses_is_asked_by_chat_completions(
    scripted: Callable[..., Scripted], capsys: Any, status: int
) -> None:
    foreign = Foreign(completions({"reasoning_content": "hm"}, {"content": "one"}, {"content": " two"}), status=status)
    session = scripted("m", transport=foreign).session
    session.ask("a")
    session.ask("b")
    out, err = capsys.readouterr()
    assert out == "one two\none two\n"
    assert err.count("no Responses API") == 1
    assert err.count("· Thinking …\n") == 2
    assert [path for path, _ in foreign.asked] == ["/v1/responses", "/v1/chat/completions", "/v1/chat/completions"]
    assert foreign.asked[2][1]["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "one two"},
        {"role": "user", "content": "b"},
    ]


@requirement("talk.foreign")
@pytest.mark.parametrize(
    ("foreign", "message"),
    [
        (Foreign(b"<html>", kind="text/html"), "does not stream its answers"),
        (Foreign(b"data: <html>\n\n"), "is no event of this API"),
        (Foreign(b'data: {"error": {"message": "no\\u001b[2J GPU"}}\n\n'), "no␛\\[2J GPU"),
    ],
)
def test_what_other_servers_get_wrong_is_told_in_one_line(
    scripted: Callable[..., Scripted], foreign: Foreign, message: str
) -> None:
    with pytest.raises(ChatFailed, match=message):
        scripted("m", transport=foreign, api="chat").session.ask("a")


def test_an_address_without_v1_is_looked_for_below_it() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        found = request.url.path == "/api/v1/models"
        return httpx2.Response(
            200 if found else 404,
            json={"data": [{"id": "m"}, "x"]} if found else {"detail": "Not Found"},
            request=request,
        )

    connection = ServerConnection("http://h/api/", "", httpx2.MockTransport(answer))
    assert (connection.models(), connection.url) == ([{"id": "m"}], "http://h/api/v1")
    with pytest.raises(ChatFailed, match=r"^http://h/api/v1/x answered 404: Not Found$"):
        next(connection.stream("x", {}))
    connection.close()


# commands


@requirement("talk.commands")
def test_commands_are_for_the_program_and_two_slashes_for_the_agent(
    scripted: Callable[..., Scripted], capsys: Any, tmp_path: Path
) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"x" * 2000)
    typed = [
        ("/what is this", "There is no command /what; /help tells"),
        ("/model", "Current agent: half. Agents: half, told"),
        ("/model nope", "There is no model nope; there are: half, told"),
        ("/again", "There is no message to answer again."),
        ("/save", "Say where to: /save FILE."),
        ("/save x", "There is no answer to save."),
        ("/model told", ""),
        ("//usr is one word", "1: /usr is one word"),
        ("/usr/bin is a path", "3: /usr/bin is a path"),
        ("/again", "3: /usr/bin is a path"),
        ("/system Be brief.", "The agent gets these instructions"),
        ("hi", "6: hi"),
        ("/clear", "New conversation."),
        ("/system", "Instructions removed."),
        (f"/image {picture}", "cat.png (2 kB) will be sent with your next message."),
        ("look", "1: text + image_url"),
        (f"/image {tmp_path}/notes.txt", "is no picture by its name: /file sends it"),
        ("/file nowhere.txt", "'nowhere.txt' cannot be read: No such file or directory."),
        (f"/save {tmp_path}/answer.md", "answer.md written, 1 kB"),
        (f"/save {tmp_path}/answer.md", "is there already, and stays as it is."),
        ("/tools", "Tool results are shown in full."),
        ("/help", "/image   PATH  send an image"),
        ("/quit", ""),
    ]
    session = scripted("half").session
    words = iter(typed)
    expected: list[str] = []

    class Reader:
        def read_message(self, model: str) -> str | None:
            if expected:
                assert expected.pop() in "".join(capsys.readouterr())
            text, shown = next(words)
            expected.append(shown)
            return text

    session.talk(Reader())
    assert next(words, None) is None
    assert (tmp_path / "answer.md").read_text() == "1: text + image_url\n\n"
