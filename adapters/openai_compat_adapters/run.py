"""What `openai-compat serve` does once its server is made: one process that serves, or a parent with workers."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import click

from openai_compat import MemoryStore, Server

from .changes import no_changes, python_changes
from .console import banner
from .logs import log_to_stderr
from .serve import listen, serve
from .workers import Supervisor, inherited_listener


def run(server: Server, o: dict[str, Any]) -> int:
    """Serve as the options `o` say, until told to stop. Returns the exit code. Raises click.ClickException."""
    handed_down = inherited_listener()
    if handed_down is not None:
        log_to_stderr(o["log_level"], o["log_format"])
        _serve(server, handed_down, o)
        return 0
    _check(server, o)
    changes = python_changes(Path.cwd()) if o["reload"] else no_changes()
    host, port = o["listen"]
    listener = _listen(server, host, port)
    log_to_stderr(o["log_level"], o["log_format"])
    click.echo(banner(server, host, listener.getsockname()[1], o["api_key_env"]), err=True)
    if o["reload"] or o["workers"] > 1:
        return Supervisor(listener, o["workers"]).run(changes, reloads=o["reload"])
    _serve(server, listener, o)
    return 0


def _check(server: Server, o: dict[str, Any]) -> None:
    if o["workers"] == 1:
        return
    if o["reload"]:
        raise click.UsageError("--reload is for one process: leave --workers out.")
    conversations = server.runtime.conversations
    if conversations is not None and isinstance(conversations.store, MemoryStore):
        text = "Each of several workers would keep conversations of its own in its memory: leave "
        raise click.UsageError(f"{text}--workers or --conversations-max out.")


def _listen(server: Server, host: str, port: int) -> socket.socket:
    try:
        return listen(server, host, port)
    except ValueError as error:
        raise click.UsageError(f"{error} Give it one: --api-key-env NAME.") from error
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python adds the address
        raise click.ClickException(f"Cannot listen on {host}:{port}: {reason}") from error


def _serve(server: Server, listener: socket.socket, o: dict[str, Any]) -> None:
    serve(server, listener, grace=o["grace"], header_timeout=o["header_timeout"], idle_timeout=o["idle_timeout"])
