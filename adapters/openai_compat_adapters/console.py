"""What the program tells people on stderr: how to call the server, and what happens."""

from __future__ import annotations

import logging
import sys

import click

from openai_compat import Server, __version__
from openai_compat.policies.auth import OpenAccess

COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


def log_to_stderr(level: str) -> None:
    """Show the server's log from `level` on, unless a loaded module has set logging up in its own way."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("openai_compat").setLevel(level.upper())


class _Formatter(logging.Formatter):
    """Warnings and errors say that they are; in a terminal they have a color."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """The line, before a traceback is added to it."""
        line = super().formatMessage(record)
        if record.levelno < logging.WARNING:
            return line
        line = line.replace(" ", f" {record.levelname} ", 1)
        return click.style(line, COLORS.get(record.levelno)) if sys.stderr.isatty() else line


def banner(server: Server, host: str, port: int, key_variable: str | None) -> str:
    """What is served, where, and a command that calls it. `key_variable` is the environment variable with the key."""
    shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # noqa: S104  (not bound here)
    url = f"http://{shown}:{port}/v1"
    models = list(server.runtime.agents)
    has_key = not isinstance(server.auth, OpenAccess)
    lines = [
        f"openai-compat {__version__} serves {', '.join(models)} at {url}",
        "",
        f"  curl {url}/chat/completions \\",
        *([f'    -H "Authorization: Bearer ${key_variable or "API_KEY"}" \\'] if has_key else []),
        "    -H 'Content-Type: application/json' \\",
        f"""    -d '{{"model": "{models[0]}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'""",
        "",
        f"or: openai-compat chat --url {url}{f' --model {models[0]}' if len(models) > 1 else ''}",
    ]
    return "\n".join(lines) + "\n"
