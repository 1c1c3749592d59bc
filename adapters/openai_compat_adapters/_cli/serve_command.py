"""What `openai-compat serve` does once its server is made: one process that serves, or a parent with workers."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import click

from openai_compat import Server
from openai_compat.errors import Unavailable
from openai_compat.stores.schema import UnusableStore

from .._serving.file_changes import file_changes, no_changes
from .._serving.supervisor import Supervisor, inherited_listener
from ..serve import listen, serve
from .banner import banner, summary
from .log_format import log_to_stderr

logger = logging.getLogger("openai_compat")

PATIENCE = 5.0
"""Seconds for the store's answer before anything is served."""


def run(server: Server, o: dict[str, Any], warnings: Sequence[str], folder: Path) -> int:
    """Serve as the options `o` say, given in `folder`, until told to stop. Returns the exit code. Raises click.ClickException."""
    handed_down = inherited_listener()
    if handed_down is not None:
        log_to_stderr(o["log_level"], o["log_format"])
        _serve(server, handed_down, o)
        return 0
    _check(server, o)
    _check_store(server)
    changes = file_changes(Path.cwd()) if o["reload"] else no_changes()
    host, port = o["listen"]
    listener = _listen(server, host, port, proxy_auth=o["proxy_auth"])
    log_to_stderr(o["log_level"], o["log_format"])
    _announce(server, host, listener.getsockname()[1], o, warnings)
    if o["reload"] or o["workers"] > 1:
        return Supervisor(listener, o["workers"], folder).run(changes, reloads=o["reload"])
    _serve(server, listener, o)
    return 0


def _announce(server: Server, host: str, port: int, o: dict[str, Any], warnings: Sequence[str]) -> None:
    """Tell what is served: to people at length, to programs in a line."""
    as_json = o["log_format"] == "json"
    for warning in warnings:
        if as_json:
            logger.warning("%s", warning)
        else:
            click.echo(warning, err=True)
    if as_json:
        logger.info("%s", summary(server, host, port))
    else:
        click.echo(banner(server, host, port, o["api_key_env"]), err=True)


def _check(server: Server, o: dict[str, Any]) -> None:
    if o["workers"] == 1:
        return
    if o["reload"]:
        raise click.UsageError("--reload is for one process: leave --workers out.")
    if not server.services.state.store.shared:
        text = "Each of several workers would keep responses and conversations of its own in its memory: give them "
        raise click.UsageError(f"{text}--store sqlite:///FILE or postgresql://…, or leave --workers out.")


def _check_store(server: Server) -> None:
    """Tell at once, and once, what each worker would find. A database that is away may come yet."""
    if not server.opens_store:
        return

    async def check() -> None:
        try:
            with anyio.move_on_after(PATIENCE):
                await server.services.state.store.check()
        finally:
            await server.services.state.store.aclose()

    try:
        anyio.run(check)
    except UnusableStore as error:
        raise click.ClickException(error.message) from error
    except Unavailable:
        pass
    except Exception as error:  # a driver's own, whose text may have a piece of the password in it
        text = f"The store's URL is not right ({type(error).__name__}); is its password percent-encoded?"
        raise click.ClickException(text) from error


def _listen(server: Server, host: str, port: int, *, proxy_auth: bool) -> socket.socket:
    try:
        return listen(server, host, port, proxy_auth=proxy_auth)
    except ValueError as error:
        raise click.UsageError(
            f"{error} Give it one: --api-key-env NAME; or, behind a proxy with a login of its own: --proxy-auth."
        ) from error
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python adds the address
        raise click.ClickException(f"Cannot listen on {host}:{port}: {reason}") from error


def _serve(server: Server, listener: socket.socket, o: dict[str, Any]) -> None:
    times = {name: o[name] for name in ("grace", "header_timeout", "idle_timeout", "ping")}
    try:
        serve(server, listener, **times)
    except UnusableStore as error:
        raise click.ClickException(error.message) from error
