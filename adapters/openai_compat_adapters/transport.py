"""httpx2 transports to a server in the same process, without a socket. Streams are live; closing one stops the agent.

    httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost")

httpx2's own ASGITransport returns an answer only when it is complete, so it cannot stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager

from anyio.from_thread import BlockingPortalProvider

from openai_compat import Server
from openai_compat.http import HttpRequest, ResponseStart
from openai_compat.package import needs

from ._in_process_call import BlockingCall, InProcessCall

with needs(__name__):
    import httpx2

__all__ = ("AsyncTransport", "SyncTransport")


class AsyncTransport(httpx2.AsyncBaseTransport):
    """Passes requests to a server. Read timeouts apply: until the head arrives, and between pieces of the body."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request`, and return as soon as the answer's head is there."""
        call = InProcessCall(self._server, _http_request(request, await request.aread(), lasting=True))
        seconds = _read_timeout(request)
        try:
            with _translate_timeout(request):
                return _response(request, await call.start(seconds), _AsyncBody(call, request, seconds))
        except BaseException:
            await call.aclose()
            raise


class SyncTransport(httpx2.BaseTransport):
    """An AsyncTransport for blocking clients. The server runs in an event loop in another thread for the time of a request."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._portals = BlockingPortalProvider()
        self._lasting = False

    @classmethod
    @contextmanager
    def lasting(cls, server: Server) -> Generator[SyncTransport]:
        """A transport whose event loop and server lifespan last until the end, so that work continues between requests."""
        transport = cls(server)
        with transport._portals as portal, portal.wrap_async_context_manager(server.lifespan()):
            transport._lasting = True
            yield transport

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request`, and return as soon as the answer's head is there."""
        # Without `lasting`, the event loop may end once the response is read, and no work could continue in it.
        call = BlockingCall(self._portals, self._server, _http_request(request, request.read(), lasting=self._lasting))
        seconds = _read_timeout(request)
        try:
            with _translate_timeout(request):
                return _response(request, call.start(seconds), _SyncBody(call, request, seconds))
        except BaseException:
            call.close()
            raise


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, call: InProcessCall, request: httpx2.Request, seconds: float | None) -> None:
        self._call = call
        self._request = request
        self._seconds = seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translate_timeout(self._request):
            while pieces := await self._call.receive(self._seconds):
                for piece in pieces:
                    yield piece.data
                    if not piece.more:
                        return
        raise _truncation_error(self._request)  # without a last piece, the server has cut the connection

    async def aclose(self) -> None:
        await self._call.aclose()


class _SyncBody(httpx2.SyncByteStream):
    def __init__(self, call: BlockingCall, request: httpx2.Request, seconds: float | None) -> None:
        self._call = call
        self._request = request
        self._seconds = seconds

    def __iter__(self) -> Iterator[bytes]:
        with _translate_timeout(self._request):
            while pieces := self._call.receive(self._seconds):
                for piece in pieces:
                    yield piece.data
                    if not piece.more:
                        return
        raise _truncation_error(self._request)

    def close(self) -> None:
        self._call.close()


def _http_request(request: httpx2.Request, content: bytes, *, lasting: bool) -> HttpRequest:
    async def body() -> AsyncIterator[bytes]:
        yield content

    _, _, query = request.url.raw_path.partition(b"?")
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    return HttpRequest(request.method, request.url.path, query.decode("ascii"), headers, body(), lasting=lasting)


def _response(request: httpx2.Request, start: ResponseStart | None, body: _AsyncBody | _SyncBody) -> httpx2.Response:
    if start is None:
        raise _truncation_error(request)
    return httpx2.Response(start.status, headers=list(start.headers), stream=body, request=request)


def _read_timeout(request: httpx2.Request) -> float | None:
    seconds: float | None = request.extensions.get("timeout", {}).get("read")
    return seconds


@contextmanager
def _translate_timeout(request: httpx2.Request) -> Generator[None]:
    try:
        yield
    except TimeoutError:
        raise httpx2.ReadTimeout("the agent took longer than the client waits", request=request) from None


def _truncation_error(request: httpx2.Request) -> httpx2.RemoteProtocolError:
    return httpx2.RemoteProtocolError("the answer was cut short", request=request)
