"""Draws docs/img/terminal-*.svg: `openai-compat` in a terminal, as if typed.

The port is the documented one, and the times are fixed to the pace of the demo's agents: two runs give the same files.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from docs.pictures.programs import COMMAND, demo
from docs.pictures.screen import Screen

COLUMNS = 88
PATIENCE = 120
PROMPT = "\x1b[32m$\x1b[0m "


class Terminal:
    """A program in its own pseudo-terminal."""

    times: Sequence[str] = ()
    """Seconds to show in place of the measured times, in order."""

    def __init__(self, arguments: Sequence[str], *, shown: str) -> None:
        self.screen = Screen(COLUMNS)
        self.screen.write(f"{PROMPT}{shown}\r\n")
        self._here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": str(COLUMNS)}
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "CI", "OPENAI_COMPAT_API_KEY"):
            env.pop(name, None)
        program = [str(COMMAND), *arguments]
        self.process = subprocess.Popen(
            program, stdin=there, stdout=there, stderr=there, env=env, start_new_session=True
        )
        os.close(there)
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def wait(self, pattern: str) -> None:
        """Wait until the screen matches the pattern."""
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, self.screen.text):
            assert select.select([self._here], [], [], end - time.monotonic())[0], (
                f"never: {pattern}\n{self.screen.text}"
            )
            self._read()

    def type(self, keys: str) -> None:
        os.write(self._here, keys.encode())

    def _read(self) -> None:
        try:
            output = os.read(self._here, 65536)
        except OSError:  # the program has ended
            output = b""
        self.screen.write(steady(self._decoder.decode(output)))

    def end(self, title: str) -> str:
        """Stop the program, and draw the screen."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._here)
        self.screen.rewrite(r"\d+(\.\d)? s\b", [f"{seconds} s" for seconds in self.times])
        return self.screen.svg(title)


def steady(output: str) -> str:
    """The output with the documented port, and a fixed Python version."""
    return re.sub(r"Python \d+\.\d+\.\w+", "Python 3.13.9", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8083", output))


def banner() -> str:
    """The output of `openai-compat demo`."""
    terminal = Terminal(["demo", "--port", "0"], shown="openai-compat demo")
    terminal.wait("Ctrl-C")
    return terminal.end("openai-compat demo")


def chat() -> str:
    """A question to the researcher, and a decision on its request."""
    with demo() as url:
        arguments = ["chat", "--url", f"{url}/v1", "--model", "researcher", "--no-history"]
        terminal = Terminal(arguments, shown="openai-compat chat --url http://127.0.0.1:8083/v1 --model researcher")
        terminal.times = ("0.6", "0.6", "1.7", "2.9", "0.0", "0.0", "0.4")
        terminal.wait(r"›\Z")
        terminal.type("How do I get from Oslo to Bergen?\r")
        terminal.wait(r"reason to deny:\Z")
        terminal.type("y\r")
        terminal.wait(r"(?s)book early.* · .*›\Z")
        return terminal.end("openai-compat chat")


def pictures() -> dict[str, str]:
    """All pictures, by file name."""
    return {"terminal-demo.svg": banner(), "terminal-chat.svg": chat()}


def main(images: Path) -> None:
    for name, picture in pictures().items():
        (images / name).write_text(picture, "utf-8")
