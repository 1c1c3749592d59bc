"""Runs `openai-compat serve` with a server: in one process, or as the parent of workers."""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import anyio
import click

from openai_compat import Server
from openai_compat.errors import Unavailable
from openai_compat.policies.authenticate import OpenAccess
from openai_compat.stores.schema import UnusableStore

from .._serving.file_changes import file_changes, no_changes
from .._serving.supervisor import Supervisor, inherited_listener
from .._terminal_colors import wants_colors
from ..logs import configure_logging
from ..serve import listen, serve
from .banner import banner, page_url, summary
from .observers import shared_metrics_folder
from .serve_options import OLLAMA_ADDRESS, ServeOptions

logger = logging.getLogger("openai_compat")

ONE_CALLER = (
    "Everyone behind the proxy counts as one caller, with shared conversations, responses and files. To tell users apart, "
    "pass --user-header NAME, or give a Server of your own authenticate=from_header(…)."
)

PATIENCE = 5.0
"""Timeout of the store's check at startup, in seconds."""


def run(server: Server, options: ServeOptions, warnings: Sequence[str], folder: Path) -> int:
    """Serve until a signal stops it; `folder` is where the command was started. Returns the exit code.

    Raises click.ClickException.
    """
    handed_down = inherited_listener()
    # A worker: its parent has done the checks below, and holds the port.
    if handed_down is not None:
        configure_logging(options.log_level, options.log_format, tracebacks=not options.no_tracebacks)
        _serve(server, handed_down, options)
        return 0
    _check_workers(server, options)
    if options.open_page and not server.has_page:
        raise click.UsageError("--open is for the page, which is not served here: --page.")
    _check_store(server)
    changes = file_changes(Path.cwd()) if options.reload else no_changes()
    host, port = options.listen
    # Before logging is set up: errors up to here are one line, printed by click.
    listener = _listen(server, options)
    port = listener.getsockname()[1]
    configure_logging(options.log_level, options.log_format, tracebacks=not options.no_tracebacks)
    if options.proxy_auth and isinstance(server.auth, OpenAccess):
        warnings = [*warnings, ONE_CALLER]
    if options.log_format == "json":
        for warning in warnings:
            logger.warning("%s", warning)
        logger.info("%s", summary(server, host, port))
    else:
        for line in (*warnings, banner(server, host, port, options)):
            click.echo(line, err=True, color=wants_colors(sys.stderr))
    if options.open_page:
        # In a thread, since a terminal browser would block; the port is already open.
        threading.Thread(target=webbrowser.open, args=(page_url(host, port),), daemon=True).start()
    if options.reload or options.workers > 1:
        with shared_metrics_folder(options):
            return Supervisor(listener, options.workers, folder).run(changes, reloads=options.reload)
    _serve(server, listener, options)
    return 0


def _check_workers(server: Server, options: ServeOptions) -> None:
    if options.workers == 1:
        return
    if options.reload:
        raise click.UsageError("--reload is for one process: leave --workers out.")
    # A client's next request may reach another worker, which would not know its conversation.
    if not server.services.state.store.shared:
        text = "Each of several workers would keep responses and conversations of its own in its memory: give them "
        raise click.UsageError(f"{text}--store sqlite:///FILE or postgresql://…, or leave --workers out.")


def _check_store(server: Server) -> None:
    """Refuse a store that can never work, before each worker does. An unreachable database may come back."""
    if not server.opens_store:
        return

    async def check() -> None:
        try:
            with anyio.move_on_after(PATIENCE):
                await server.services.state.store.check()
        finally:
            await server.services.state.store.aclose()  # its connections belong to this event loop

    # The one-line error repeats what the store logs; without a handler Python would print both.
    quiet = logging.NullHandler()
    logger.addHandler(quiet)
    try:
        anyio.run(check)
    except UnusableStore as error:
        raise click.ClickException(error.message) from error
    # The database may be starting too: requests that need it get 503 until it answers.
    except Unavailable:
        pass
    except Exception as error:  # a driver's error, whose text may contain part of the password
        text = f"The store's URL is not right ({type(error).__name__}); is its password percent-encoded?"
        raise click.ClickException(text) from error
    finally:
        logger.removeHandler(quiet)


def _listen(server: Server, options: ServeOptions) -> socket.socket:
    host, port = options.listen
    try:
        return listen(server, host, port, proxy_auth=options.proxy_auth)
    except ValueError as error:
        raise click.UsageError(
            f"{error} Give it one: --api-key-env NAME; or, behind a proxy with a login of its own: --proxy-auth."
        ) from error
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python adds the address
        there = "If an Ollama runs there, stop it, or take" if options.ollama and port == OLLAMA_ADDRESS[1] else "Take"
        other = "--port PORT" if options.is_demo else "--listen HOST:PORT"
        hint = f". {there} another port: {other}" if error.errno == errno.EADDRINUSE else ""
        raise click.ClickException(f"Cannot listen on {host}:{port}: {reason}{hint}") from error


def _serve(server: Server, listener: socket.socket, options: ServeOptions) -> None:
    try:
        serve(
            server,
            listener,
            grace=options.grace,
            header_timeout=options.header_timeout,
            idle_timeout=options.idle_timeout,
            ping=options.ping,
        )
    except UnusableStore as error:
        raise click.ClickException(error.message) from error
