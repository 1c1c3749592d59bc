"""How `openai-compat chat` shows an answer in a terminal: Markdown in blocks, and a few rows that are redrawn."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from openai_compat import Server
from openai_compat_adapters._cli.chat.answer_events import AnswerEvent, AnswerPiece, ToolStarted
from openai_compat_adapters._cli.chat.connection import ServerConnection
from openai_compat_adapters._cli.chat.dialogue import Dialogue
from openai_compat_adapters._cli.chat.line_reader import LineReader
from openai_compat_adapters._cli.chat.markdown_blocks import BlockSplitter
from openai_compat_adapters._cli.chat.markdown_text import PLAIN_ABOVE
from openai_compat_adapters._cli.chat.prompt_reader import PromptReader, open_history
from openai_compat_adapters._cli.chat.questions import Answerer
from openai_compat_adapters._cli.chat.rich_display import TAIL_ROWS, RichDisplay
from openai_compat_adapters._cli.chat.session import ChatSession
from openai_compat_adapters.transport import SyncTransport
from tests.adapters import chat_agents
from tests.requirements import requirement

PIECES = st.lists(
    st.sampled_from(["a", "# h\n", "- x\n", "1. y\n", "   z\n", "\n", "```\n", "~~~py\n", "b c\n", "|a|\n", "  "])
)


def on_console(events: Iterable[AnswerEvent], **settings: Any) -> str:
    """Return what a console without colors shows for the events."""
    console = Console(file=io.StringIO(), width=60, markup=False, emoji=False, highlight=False)
    display = RichDisplay(console, live=False, **settings)
    with display.turn("m"):
        for event in events:
            display.show(event)
    return console.file.getvalue()


def shown(text: str) -> str:
    return on_console([AnswerPiece(text)])


def talk(agent: str, *answers: str, **settings: Any) -> str:
    """Return the output of a turn with an agent of chat_agents and these answers. Times are replaced by T."""
    console = Console(file=io.StringIO(), width=60, markup=False, emoji=False, highlight=False)
    display, left = RichDisplay(console, live=False, **settings), list(answers)
    server = ServerConnection("http://localhost/v1", "", SyncTransport(Server(chat_agents.agents)))
    answerer = Answerer(display, lambda prompt: left.pop(0), approve=False)
    with closing(server):
        ChatSession(server, Dialogue(agent, is_ours=True), display, answerer, models=[]).ask("x")
    return re.sub(r"\d+(\.\d)? s\b", "T", console.file.getvalue())


@requirement("talk.work")
def test_a_turn_shows_thoughts_tools_the_answer_its_sources_and_its_cost() -> None:
    assert talk("busy") == (
        "  Rain?\n"
        "  I look it up.\n"
        "\n"
        '● look_up(city="Oslo")  T\n'
        '  └ {"sky": "rain"}\n'
        '● read_page(url="https://weather.example")  T\n'
        "  └ timed out\n"
        "\n"
        "It will rain.\n"
        "\n"
        "  1. Weather  https://weather.example\n"
        "busy · first text T · T · 431 in, 212 out\n"
    )


@requirement("talk.work")
def test_thoughts_can_be_short_or_left_out() -> None:
    assert talk("busy", reasoning="short").startswith("Thought for T\n\n● look_up")
    assert talk("busy", reasoning="off").startswith("● look_up")


@requirement("talk.approvals")
def test_a_question_has_each_argument_on_a_line_of_its_own() -> None:
    assert talk("buyer", "y") == (
        "I pay Bob.\n"
        "buyer · first text T · T\n"
        "\n"
        "? May the agent run pay?\n"
        "    euros: 5\n"
        "    to: Bob\n"
        "    note: lunch [red]␛[2J<b>\n"
        '● pay(euros=5, to="Bob", note="lunch [red]\\u001b[2J<…  T\n'
        "  └ paid\n"
        "\n"
        "paid\n"
        "buyer · first text T · T\n"
    )


# Markdown


@requirement("chat.terminal")
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("A List<String> and <b>bold</b>", "A List<String> and <b>bold</b>"),
        ("\x1b]0;x\x07 [red]x[/red] :smile:", "␛]0;x␇ [red]x[/red] :smile:"),
        ("**&#x202e; &#27;**", "\\u202e �"),
        ("<http://a/%1b[31m>", "http://a/␛[31m (http://a/%1b%5B31m)"),
        ("![pic](http://a/b.png) [x](javascript:y)", "!pic (http://a/b.png) [x](javascript:y)"),
        ("[1]: http://a/b", "[1]: http://a/b"),
        ("`\x9b`\n\n```\n\x1b[2J\n```", "\\x9b\n\n  ␛[2J"),
        ("# One\n## Two\ntext\n\nmore", "One\nTwo\ntext\n\nmore"),
        ("1. a\n2. b\n   - c\n\n   d\n10. e\n\nf", " 1 a\n 2 b\n    • c\n   d\n 10 e\n\nf"),
        ("3 times\n14. of it", "3 times 14. of it"),
        ("|a|b|\n|---|--:|\n|1|2|\n\nx", " a  b\n ────\n 1  2\n\nx"),
        ("```py\na\n\nb\n```\nx", "  a\n\n  b\n\nx"),
    ],
)
def test_markdown_is_shown_and_nothing_of_it_is_dropped_or_obeyed(text: str, lines: str) -> None:
    assert [line.rstrip() for line in shown(text).splitlines()] == lines.splitlines()


@given(PIECES)
def test_blocks_are_the_text_whatever_the_pieces(pieces: list[str]) -> None:
    text, splitter, whole = "".join(pieces), BlockSplitter(), BlockSplitter()
    blocks = [block for piece in pieces for block in splitter.add(piece)] + splitter.end()
    assert blocks == whole.add(text) + whole.end()
    assert re.sub(r"\s", "", "".join(blocks)) == re.sub(r"\s", "", text)


@requirement("talk.linear")
def test_a_block_that_is_too_long_to_be_looked_at_is_shown_as_it_is() -> None:
    long = "*a _b " * (PLAIN_ABOVE // 6 + 1)
    assert re.sub(r"\s", "", shown(long)) == re.sub(r"\s", "", long)


@requirement("talk.linear")
def test_blocks_that_are_finished_together_are_printed_together() -> None:
    class Counted(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    file = Counted()
    display = RichDisplay(Console(file=file, width=60, force_terminal=True), live=True)
    with display.turn("m"):
        display.show(AnswerPiece("- a\n" * 1000))
    assert file.getvalue().count("•") == 1000
    assert file.flushed < 300  # ten for the blocks, and one for each redraw of the rows below


@requirement("talk.linear")
def test_the_tail_is_the_end_of_the_open_block_however_long_that_is() -> None:
    splitter = BlockSplitter()
    for number in range(1000):
        splitter.add(f"line {number}\n")
    assert splitter.tail(20) == "e 997\nline 998\nline 999\n"[-20:]


# the terminal


@requirement("talk.once")
def test_a_long_answer_stands_in_a_small_terminal_without_a_line_twice() -> None:
    screen = pyte.HistoryScreen(40, 24, history=1000)
    stream = pyte.Stream(screen)
    file = io.StringIO()
    console = Console(file=file, width=40, height=24, force_terminal=True, markup=False, emoji=False, highlight=False)
    lines = [f"- item {number} of the list" if number % 3 else f"\nParagraph {number}.\n" for number in range(300)]
    text = "\n".join(["```", *[f"code {number}" for number in range(60)], "```", *lines])
    display = RichDisplay(console, live=True)
    with display.turn("m"):
        display.show(ToolStarted(0, "look_up"))
        for start in range(0, len(text), 9):
            display.show(AnswerPiece(text[start : start + 9]))
            while not start % 50 and display._rows.changed.is_set():  # wait until it was drawn
                threading.Event().wait(0.001)
    stream.feed(file.getvalue().replace("\n", "\r\n"))
    rows = ["".join(row[column].data for column in range(40)).strip() for row in screen.history.top]
    rows = [row for row in [*rows, *[line.strip() for line in screen.display]] if row]
    expected = [line.strip("- .\n`") for line in text.split("\n") if line.strip("`\n")]
    assert [row.strip("•. ") for row in rows] == expected


@requirement("talk.once")
def test_no_more_rows_than_six_are_drawn_again() -> None:
    console = Console(file=io.StringIO(), width=20, height=24, force_terminal=True)
    display = RichDisplay(console, live=True)
    with display.turn("m"):
        display.show(AnswerPiece("word " * 1000))
        assert len(console.render_lines(display._rows)) == TAIL_ROWS
        for height in (1, 3, 5):
            console.height = height
            assert len(console.render_lines(display._rows)) <= max(1, height - 1)


# input


@requirement("cli.chat")
def test_pasted_lines_are_one_message_and_a_backslash_begins_a_line() -> None:
    with create_pipe_input() as keys:
        reader = PromptReader(InMemoryHistory(), keys, DummyOutput())
        keys.send_text("\x1b[200~one\ntwo\n\x1b[201~three\r")
        assert reader.read_message("m") == "one\ntwo\nthree"
        keys.send_text("one\\\rtwo\x1b\rthree\r")
        assert reader.read_message("m") == "one\ntwo\nthree"
        keys.send_text("given up\x03")
        assert reader.read_message("m") == ""
        keys.send_text("\x04")
        assert reader.read_message("m") is None


@requirement("cli.chat")
def test_where_nothing_tells_whether_another_line_is_there_each_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))  # like a console of Windows, not selectable
    reader = LineReader()
    assert [reader.read_message("m") for _ in range(3)] == ["one", "two", None]


@requirement("talk.approvals")
def test_what_was_typed_ahead_decides_nothing() -> None:
    with create_pipe_input() as keys:
        reader = PromptReader(InMemoryHistory(), keys, DummyOutput())
        keys.send_text("hello\ry\r")  # the second line was typed while the agent worked
        assert reader.read_message("m") == "hello"
        keys.send_text("no\r")
        assert reader.read_answer("May it? ") == "no"


def test_the_history_is_the_users_alone(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    history = open_history()
    history.append_string("hello")
    (file,) = tmp_path.rglob("chat-history")
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(open_history().load_history_strings()) == ["hello"]
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    assert isinstance(open_history(), InMemoryHistory)
