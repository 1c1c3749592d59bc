"""The server as a WSGI application, for Flask, Django and gunicorn.

    application = create_wsgi_app(server)            gunicorn hello:application

The core runs in an event loop in its own thread, which exists only while there are responses, so that no thread is left at
interpreter exit. Streams are live: each piece is passed on as it is written. WSGI does not report disconnects; the WSGI
server notices them when it writes, and heartbeats make sure that it does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from http.client import responses
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from anyio.from_thread import BlockingPortalProvider

from openai_compat import Server
from openai_compat.http import ClientDisconnected, HttpRequest

from ._in_process_call import BlockingCall

__all__ = ("create_wsgi_app",)

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HOP_BY_HOP = (b"connection", b"upgrade")
PIECE = 64 * 1024
"""Bytes to read from the request body at once."""


def create_wsgi_app(server: Server) -> WSGIApplication:
    """Make a WSGI application. Below a prefix, it serves the path in `PATH_INFO`."""
    portals = BlockingPortalProvider()

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        call = BlockingCall(portals, server, _request(environ))
        start = call.start()
        if start is None:
            call.close()
            raise ConnectionAbortedError("the request ended before it could be answered")
        # The connection belongs to the WSGI server: PEP 3333 forbids applications to send these headers.
        fields = [(name, value) for name, value in start.headers if name not in HOP_BY_HOP]
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
        start_response(f"{start.status} {responses.get(start.status, 'Error')}", headers)
        return _Body(call)

    return application


class _Body:
    """The answer's body, read by the WSGI server's thread. Closing it early is a disconnect."""

    def __init__(self, call: BlockingCall) -> None:
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        while pieces := self._call.receive():
            for piece in pieces:
                if piece.data:
                    yield piece.data
                if not piece.more:
                    self.close()
                    return
        raise ConnectionAbortedError("the answer was cut short")  # so that the WSGI server cuts the connection

    def close(self) -> None:
        """Stop the request. WSGI servers always call this, also after a disconnect."""
        self._call.close()


def _request(environ: WSGIEnvironment) -> HttpRequest:
    root, path = [
        # PEP 3333: paths are UTF-8 bytes in a latin-1 string.
        environ.get(name, "").encode("latin-1").decode("utf-8", "replace")
        for name in ("SCRIPT_NAME", "PATH_INFO")
    ]
    return HttpRequest(
        environ["REQUEST_METHOD"],
        path or "/",
        environ.get("QUERY_STRING", ""),
        _headers(environ),
        _body(environ),
        # The event loop may end once the response is read, and no work could continue in it.
        lasting=False,
        root=root.rstrip("/"),
        scope=environ,
    )


def _headers(environ: WSGIEnvironment) -> list[tuple[bytes, bytes]]:
    names = {key: key[5:] for key in environ if key.startswith("HTTP_")}
    # CGI, whose names WSGI uses, has no `HTTP_` prefix for these two (RFC 3875, 4.1).
    names |= {key: key for key in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(key)}
    return [
        (name.replace("_", "-").lower().encode("latin-1"), str(environ[key]).encode("latin-1"))
        for key, name in names.items()
    ]


async def _body(environ: WSGIEnvironment) -> AsyncIterator[bytes]:
    stream: Any = environ["wsgi.input"]
    # Without a length the body is empty, unless the server says that the stream ends with it (chunked requests).
    left = None if environ.get("wsgi.input_terminated") else int(environ.get("CONTENT_LENGTH") or 0)
    while left is None or left > 0:
        size = PIECE if left is None else min(PIECE, left)
        # Abandoned on cancellation: a client that stops sending would otherwise block the deadline of the body.
        piece: bytes = await anyio.to_thread.run_sync(stream.read, size, abandon_on_cancel=True)
        if not piece:
            if left:  # the body is shorter than its length
                raise ClientDisconnected
            return
        left = None if left is None else left - len(piece)
        yield piece
