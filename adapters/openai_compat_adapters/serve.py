"""The server as a program: uvicorn with hardened HTTP/1.1, and a shutdown that lets running turns finish.

serve(server, listen(server, "127.0.0.1", 8083))         until SIGTERM or Ctrl-C
"""

from __future__ import annotations

import ipaddress
import signal
import socket
from contextlib import suppress
from functools import partial
from typing import Any, cast

from openai_compat import Server
from openai_compat.package import needs
from openai_compat.policies.authenticate import OpenAccess

with needs(__name__, "serve"):
    import uvicorn

    from ._serving.http1 import Http1Protocol
    from ._serving.shutdown import Runner
    from ._serving.websocket import WebSocketProtocol
    from .starlette import create_app


def listen(server: Server, host: str, port: int, *, proxy_auth: bool = False) -> socket.socket:
    """Open a listening socket; port 0 picks a free port.

    `proxy_auth` says that other machines reach the server only through a proxy that authenticates them. Raises OSError
    if the address cannot be bound, and ValueError if, without `proxy_auth`, other machines could reach a server that
    has no key.
    """
    if isinstance(server.auth, OpenAccess) and not proxy_auth and not is_loopback(host):
        raise ValueError(f"Without an API key the server listens on this machine only (127.0.0.1), not on {host}.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=2048)
    # Connections inherit this. asyncio turns off Nagle's algorithm on its own, but not for a socket without a protocol
    # number; with it, an answer on a kept-alive connection is 40 ms late, since its head and body are two writes.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def is_loopback(host: str) -> bool:
    """True if only this machine can reach `host`."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def serve(
    server: Server,
    listener: socket.socket,
    *,
    grace: float = 10.0,
    header_timeout: float = 10.0,
    idle_timeout: float = 75.0,
    ping: float = 20.0,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    It owns the process: call it in the main thread. It handles the signals, and ends the process 3 seconds after it
    has returned, 10 after the grace period, or 1.5 after a second signal, whatever still runs.

    Args:
        server: the server to run.
        listener: the socket to serve on, from `listen`; closed at the end.
        grace: seconds for running turns to end after the first signal.
        header_timeout: seconds for the arrival of a request's head.
        idle_timeout: seconds until an unused connection is closed; longer than a proxy in front keeps it (often 60).
        ping: seconds between pings to WebSocket clients, and for their answers; a late answer cuts the connection.
    """
    write_timeout = server.services.settings.deadlines.write
    config = uvicorn.Config(
        create_app(server),
        http=cast("Any", partial(Http1Protocol, header_timeout=header_timeout, write_timeout=write_timeout)),
        ws=cast("Any", partial(WebSocketProtocol, write_timeout=write_timeout)),
        ws_max_size=server.services.settings.limits.body,
        ws_per_message_deflate=False,  # a small compressed message could expand into a huge one
        ws_ping_interval=ping,
        ws_ping_timeout=ping,
        lifespan="off",  # Runner enters the server's own
        log_config=None,  # logging is the caller's
        log_level="warning",
        access_log=False,  # the core has one
        # Anybody can send `X-Forwarded-For`.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=cast("Any", idle_timeout),
    )
    runner = Runner(config, server, grace)
    # uvicorn restores the handlers that it finds: with the default ones, a late signal would kill the process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, runner.handle_exit)
    runner.run([listener])
