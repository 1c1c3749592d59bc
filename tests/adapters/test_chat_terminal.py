"""`openai-compat chat` in a real terminal: keys, Ctrl-C, pasted text, and no unwanted output."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyte
import pytest

from tests.adapters.served import COMMAND, PATIENCE, Leash
from tests.docs.served import ROOT
from tests.requirements import requirement

fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

ACQUIRE = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Makes the terminal the controlling one of the process, so that Ctrl-C reaches it as a signal, even if the tests run in the
background with that signal ignored."""


class Terminal:
    """`openai-compat chat` with an agent of chat_agents, in its own terminal."""

    def __init__(self, agent: str, *arguments: str, program: Sequence[str] = (COMMAND,), **env: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        command = [*program, "chat", f"tests.adapters.chat_agents:{agent}", *arguments]
        self.process = subprocess.Popen(
            [sys.executable, "-c", ACQUIRE, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env={**kept, "TERM": "xterm-256color", **env},
            start_new_session=True,
        )
        os.close(theirs)
        self._screen = pyte.HistoryScreen(80, 40, history=1000, ratio=1)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    @property
    def text(self) -> str:
        """The text on the screen."""
        return "\n".join([line.rstrip() for line in self._screen.display]).rstrip()

    def until(self, pattern: str) -> str:
        """Wait until the screen matches `pattern`, and return its text."""
        end = time.monotonic() + 4 * PATIENCE
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, f"no {pattern!r} in:\n{self.text}"
            self._read()
        return self.text

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 1)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # EIO: the end, on Linux
            return False
        self.written += data
        self._stream.feed(data)
        for _ in range(data.count(b"\x1b[6n")):  # the query for the cursor position
            cursor = self._screen.cursor
            self.type(f"\x1b[{cursor.y + 1};{cursor.x + 1}R")
        return bool(data)

    def ended(self) -> int:
        """The exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._ours)


@contextmanager
def terminal(agent: str, *arguments: str, **options: Any) -> Iterator[Terminal]:
    made = Terminal(agent, *arguments, **options)
    try:
        yield made
    finally:
        made.close()


HIDING = "import sys; sys.modules['rich'] = sys.modules['prompt_toolkit'] = None; "
WITHOUT_CLI = (sys.executable, "-c", f"{HIDING}from openai_compat_adapters._cli.command import main; main()")
"""The program without the packages of the extra `cli`."""

READY = r"› *\n(?s:.*)Ctrl-D exits$"
"""An empty prompt."""


@requirement("talk.stop")
@pytest.mark.timeout(120)
def test_ctrl_c_stops_the_agent_in_whatever_it_does_and_the_talk_goes_on() -> None:
    with terminal("held", "--no-history") as shown:
        shown.until(READY)
        for word, seen in (
            ("think", "I wonder"),
            ("run", r"Running look_up"),
            ("write", "so far"),
            ("wait", "Waiting"),
        ):
            with Leash() as leash:
                shown.type(f"{word} {leash.prompt}\r")
                leash.wait_for_agent()
                shown.until(seen)
                shown.type("\x03")
                shown.until(r"Stopped\.\s*" + READY)
                assert leash.last_words == "finally"
            shown.type("/clear\r" if word != "write" else "hi\r")
            shown.until(r"(New conversation\.|heard: write \d+ / so far / hi\n.*)\s*" + READY)
        shown.type("\x1b[200~some\nlines\npasted\x1b[201~")
        shown.until("pasted")
        shown.type("\r")
        shown.until(r"heard: some lines pasted\n.* s\n" + READY)
        shown.type("fail\r")
        shown.until(r"Error: The agent failed\. RuntimeError: asked to \(chat_agents.py:\d+ in held\)")
        shown.until(r"shows more\n(?s:.*)" + READY)
        shown.type("given up\x03")
        shown.until(r"given up\n" + READY)
        shown.type("\x04")
        assert shown.ended() == 0


@requirement("talk.approvals")
@pytest.mark.timeout(120)
def test_a_question_is_answered_by_keys_and_what_was_typed_before_it_is_not_an_answer() -> None:
    with terminal("buyer", "--no-history") as shown:
        shown.until(READY)
        shown.type("pay\ry\r")
        shown.until("reason to deny:$")
        shown.type("\r")
        shown.until("(?s)reason to deny:.*reason to deny:$")
        shown.type("too dear\r")
        shown.until(r"not paid: too dear\n.* s\n" + READY)
        shown.type("pay\r")
        shown.until(r"(?s)not paid: too dear.*reason to deny:$")
        shown.type("\x03")
        shown.until(r"Stopped\.\s*" + READY)
        shown.type("/quit\r")
        assert shown.ended() == 0


@requirement("talk.plain")
@pytest.mark.timeout(120)
def test_no_escape_code_is_written_where_none_is_wanted_and_questions_are_asked_all_the_same() -> None:
    with terminal("buyer", "-m", "pay", NO_COLOR="1") as shown:
        shown.until("reason to deny:$")
        shown.type("y\n")
        assert shown.ended() == 0
        assert "I pay Bob.\n· buyer · first text" in shown.text
        assert re.search(r"\npaid\n", shown.text)
        assert b"\x1b" not in shown.written


@requirement("talk.plain")
@pytest.mark.timeout(120)
def test_a_bare_terminal_has_lines_and_pasted_ones_are_one_message() -> None:
    with terminal("held", program=WITHOUT_CLI, TERM="dumb") as shown:
        shown.until(r"^Plain text: .* pip install 'openai-compat\[cli\]'\nChatting with held.*\n>$")
        shown.type("one\n")
        assert shown.until(r"heard: one\n(.*\n)*>$").count("Listening …") == 1
        with Leash() as leash:
            shown.type(f"write {leash.prompt}\n")
            leash.wait_for_agent()
            shown.until("so far")
            shown.type("\x03")
            shown.until(r"Stopped\.\n>$")
            assert leash.last_words == "finally"
        shown.type("/clear\n")
        shown.until(r"New conversation\.\n>$")
        shown.type("some\nlines\npasted\n")
        shown.until(r"heard: some\nlines\npasted\n(.*\n)*>$")
        shown.type("\x04")
        assert shown.ended() == 0
        assert b"\x1b" not in shown.written


@requirement("talk.stop")
@pytest.mark.timeout(120)
def test_one_message_that_is_stopped_ends_with_an_exit_code_of_its_own() -> None:
    with Leash() as leash, terminal("held", "-m", f"write {leash.prompt}") as shown:
        leash.wait_for_agent()
        shown.until("so far")
        shown.type("\x03")
        assert shown.ended() == 130
        assert leash.last_words == "finally"
