"""Records the first minutes in an empty folder, as text: docs/img/first_minutes.txt.

It builds the wheel, installs it into a fresh environment, and types the documented commands; a failed command ends the
recording. The seconds of each command go to stderr.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PORT = "8083"
PATIENCE = 300
"""Timeout of a command in seconds; installing takes longest."""

SHOWN_FOLDER = "/home/you/agents"
ASK = """curl -s http://127.0.0.1:8083/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "MODEL", "messages": [{"role": "user", "content": "Good morning"}]}'"""


class Recorder:
    """Runs commands in `folder`, as if typed, with the programs of `bin_folder`, and records their output."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.text = ""
        self._folder = folder
        foreign = ("OPENAI", "ANTHROPIC", "PYTHON", "VIRTUAL_ENV", "UV_", "PYTEST")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self._environment = {**kept, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
        self._environment |= {"PIP_QUIET": "2", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}  # pip's messages vary
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = str(listener.getsockname()[1])

    def type(self, command: str, expect: str = "") -> None:
        """Run a command to its end. Raises RuntimeError if it fails or does not print `expect`."""
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", self._real(command)],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        print(f"{time.monotonic() - began:6.1f} s  {command.splitlines()[0]}", file=sys.stderr)
        if done.returncode != 0 or expect not in done.stdout:
            raise RuntimeError(f"{command}\nexit code {done.returncode}\n{done.stdout}")
        self._keep(command, done.stdout)

    @contextmanager
    def serving(self, command: str, shown: str) -> Iterator[None]:
        """Run a server command in the background while the block lasts."""
        began = time.monotonic()
        with tempfile.TemporaryFile("w+b") as log:
            real = self._real(command).split()
            with subprocess.Popen(real, cwd=self._folder, env=self._environment, stdout=log, stderr=log) as program:
                try:
                    # The server listens before it prints its URL.
                    while not self._listens() or b"/v1" not in os.pread(log.fileno(), 100_000, 0):
                        if program.poll() is not None or time.monotonic() - began > PATIENCE:
                            raise RuntimeError(
                                f"{command} does not serve:\n{os.pread(log.fileno(), 100_000, 0).decode()}"
                            )
                        time.sleep(0.05)
                    print(f"{time.monotonic() - began:6.1f} s  {command}", file=sys.stderr)
                    self._keep(f"{shown} &", os.pread(log.fileno(), 100_000, 0).decode())
                    yield
                finally:
                    program.terminate()
        self.text += "$ kill %1\n\n"

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self._port))) == 0

    def _real(self, command: str) -> str:
        return command.replace(PORT, self._port)

    def _keep(self, command: str, printed: str) -> None:
        printed = printed.replace(self._port, PORT).replace(str(self._folder), SHOWN_FOLDER)
        printed = re.sub(r'"chatcmpl-[^"]+"', '"chatcmpl-…"', printed)
        printed = re.sub(r'"created":\d+', '"created":…', printed).strip()
        self.text += f"$ {command}\n{printed}\n\n" if printed else f"$ {command}\n\n"


def first_steps(recorder: Recorder) -> None:
    """The commands to type after the installation."""
    with recorder.serving(f"openai-compat demo --port {PORT}", "openai-compat demo"):
        recorder.type(ASK.replace("MODEL", "echo"), '"content":"Good morning"')
    recorder.type("openai-compat init", "openai-compat serve agent.py")
    recorder.type("cat agent.py", "async def agent(prompt: str):")
    with recorder.serving(f"openai-compat serve agent.py --listen 127.0.0.1:{PORT}", "openai-compat serve agent.py"):
        recorder.type(ASK.replace("MODEL", "agent"), '"content":"You said: Good morning"')
        url = f"--url http://127.0.0.1:{PORT}/v1"
        recorder.type(f"echo 'Good evening' | openai-compat chat {url}", "You said: Good evening")
    recorder.type("echo 'Good night' | openai-compat chat agent.py", "You said: Good night")


def main(images: Path) -> None:
    """Record, and write the text."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    extra = "cli" if "cli" in extras else "serve,client"
    python = shutil.which("python3") or sys.executable
    with tempfile.TemporaryDirectory() as made:
        folder, wheels = Path(made).resolve() / "agents", Path(made).resolve() / "dist"
        folder.mkdir()
        build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)]
        subprocess.run(build, check=True, timeout=PATIENCE)
        [wheel] = wheels.glob("*.whl")
        recorder = Recorder(folder, folder / ".venv" / "bin")
        began = time.monotonic()
        recorder.type("ls -A")
        recorder.type(f"{python} -m venv .venv && source .venv/bin/activate".replace(python, "python3", 1))
        recorder.type(f"pip install '../dist/{wheel.name}[{extra}]'")
        first_steps(recorder)
        print(f"{time.monotonic() - began:6.1f} s  all of it", file=sys.stderr)
    (images / "first_minutes.txt").write_text(recorder.text.rstrip() + "\n", "utf-8")
