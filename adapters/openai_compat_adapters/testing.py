"""Real openai clients for an agent in the same process, and recordings of their exchanges.

```python
with served(agent) as hello:
    answer = hello.client.chat.completions.create(model="agent", messages=[...])
    assert len(hello.runs) == 1
```
"""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import anyio

from openai_compat import Server
from openai_compat.http import HttpRequest, ResponseBody, ResponseStart, Send
from openai_compat.package import needs
from openai_compat.testing import Answer, Recording, Run, Watched
from openai_compat.testing.recording import record_exchange
from openai_compat.testing.wrapping import wrap_agents

with needs(__name__):
    import httpx2
    import openai

    from .client import DEFAULTS
    from .transport import AsyncTransport, SyncTransport

__all__ = ("RecordingTransport", "ServedClient", "UrlTarget", "listening", "replaying", "served")


@dataclass(frozen=True)
class ServedClient:
    """A server in this process and clients for it.

    Attributes:
        server: the server; its agents are watched.
        client: an `openai.OpenAI`. The server runs in an event loop in another thread.
        async_client: an `openai.AsyncOpenAI`. The server runs in the caller's event loop.
        watched: the agents by model name.
    """

    server: Server
    client: openai.OpenAI
    async_client: openai.AsyncOpenAI
    watched: Mapping[str, Watched]

    @property
    def runs(self) -> list[Run]:
        """All runs of all agents; those of one agent in order."""
        return [run for agent in self.watched.values() for run in agent.runs]


@contextmanager
def served(
    agent: Any, *, recording: Recording | None = None, api_key: str = "test", **options: Any
) -> Generator[ServedClient]:
    """Serve an agent, several by name, or a Server; `options` are those of Server.

    With `recording`, the clients' exchanges are added to it. At the end the plain client is closed; the async client
    has nothing to close.
    """
    server = agent if isinstance(agent, Server) else Server(agent, **options)
    server = wrap_agents(server, Watched)
    asynchronous: Any = AsyncTransport(server)
    plain: Any = SyncTransport(server)
    if recording is not None:
        asynchronous, plain = RecordingTransport(asynchronous, recording), RecordingTransport(plain, recording)
    settings: dict[str, Any] = {**DEFAULTS, "api_key": api_key}
    client = openai.OpenAI(http_client=httpx2.Client(transport=plain), **settings)
    async_client = openai.AsyncOpenAI(http_client=httpx2.AsyncClient(transport=asynchronous), **settings)
    with client:
        yield ServedClient(server, client, async_client, cast("Mapping[str, Watched]", server.services.models.agents))


@contextmanager
def listening(server: Server) -> Generator[str]:
    """Serve on a free port of this machine, in a thread, and yield the URL, without `/v1`. Needs `openai-compat[serve]`.

    For agents and programs that need a URL, such as that of a `ScriptedModel` in place of a model's API.
    """
    with needs("listening", "serve"):
        import uvicorn  # noqa: PLC0415  (not needed without a socket)

        from .starlette import endpoint  # noqa: PLC0415
    config = uvicorn.Config(endpoint(server), http="h11", log_config=None, timeout_graceful_shutdown=3)
    runner = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            runner.should_exit = True
            thread.join(10)


class UrlTarget:
    """A server on the network, for the conformance suite: `agent = UrlTarget("http://127.0.0.1:8083")`."""

    def __init__(self, origin: str) -> None:
        self._origin = origin.rstrip("/")

    async def answer(self, request: HttpRequest, send: Send, left: anyio.Event) -> None:
        """Send the request over a new connection, which is closed when the client disconnects."""
        headers = [(name, value) for name, value in request.headers if name not in CONNECTION_HEADERS]
        content = b"".join([piece async for piece in request.body])
        url = f"{self._origin}{request.path}{f'?{request.query}' if request.query else ''}"
        failures: list[httpx2.TransportError] = []
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                await left.wait()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            try:
                async with (
                    httpx2.AsyncClient(timeout=None, trust_env=False) as client,  # no proxies of the environment
                    client.stream(request.method, url, headers=headers, content=content) as response,
                ):
                    await send(ResponseStart(response.status_code, response.headers.raw))
                    async for piece in response.aiter_raw():
                        await send(ResponseBody(piece, more=True))
                await send(ResponseBody(b"", more=False))
            except httpx2.TransportError as error:  # the task group would wrap it
                failures.append(error)
            group.cancel_scope.cancel()
        if failures:
            raise failures[0]


CONNECTION_HEADERS = frozenset({b"host", b"content-length"})
"""Headers that httpx2 writes itself."""


class RecordingTransport(httpx2.AsyncBaseTransport, httpx2.BaseTransport):
    """Adds every exchange over another transport, to this process or a server on the network, to a recording.

    An exchange is added when its response has ended or was closed.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport | httpx2.BaseTransport, recording: Recording) -> None:
        self._inner: Any = inner
        self._recording = recording

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Forward `request`, and record it with its answer."""
        await request.aread()
        return self._record(request, await self._inner.handle_async_request(request))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Forward `request`, and record it with its answer."""
        request.read()
        return self._record(request, self._inner.handle_request(request))

    def _record(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        stream = _RecordedBody(self._recording, request, response)
        return httpx2.Response(response.status_code, headers=response.headers, stream=stream, request=request)


class _RecordedBody(httpx2.AsyncByteStream, httpx2.SyncByteStream):
    def __init__(self, recording: Recording, request: httpx2.Request, response: httpx2.Response) -> None:
        self._recording = recording
        self._request = request
        self._stream: Any = response.stream
        self._answer = Answer()
        self._answer.status = response.status_code
        self._answer.headers = list(response.headers.items())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._answer.pieces.append(piece)
            yield piece
        self._answer.complete = True

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._answer.pieces.append(piece)
            yield piece
        self._answer.complete = True

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._add_exchange()

    def close(self) -> None:
        self._stream.close()
        self._add_exchange()

    def _add_exchange(self) -> None:
        path = self._request.url.raw_path.decode("ascii")
        self._recording.exchanges.append(
            record_exchange(self._request.method, path, self._request.content, self._answer)
        )


def replaying(recording: Recording) -> httpx2.MockTransport:
    """Make a transport, plain and async, that replays a recording. An unknown request raises LookupError."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode("ascii")
        found = recording.answer_to(request.method, path, request.content)
        return httpx2.Response(found.status, headers=dict(found.headers), content=found.raw_body)

    return httpx2.MockTransport(answer)
