"""Sources of a backend's SDK client: a ready one, or one made for each event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from anyio.lowlevel import RunVar


class Closable(Protocol):
    """The part of the SDKs' asynchronous clients that is used here."""

    async def close(self) -> None:
        """Close its connections, on the event loop that opened them."""
        ...


Client = TypeVar("Client", bound=Closable)


class ReadyClient(Generic[Client]):
    """A client that its owner closes, or a function that returns the client of the running event loop."""

    def __init__(self, client: Client | Callable[[], Client]) -> None:
        self._client = client

    def current_client(self) -> Client:
        """The client, or the result of the function."""
        return self._client() if callable(self._client) else self._client

    async def aclose(self) -> None:
        """Do nothing: the owner closes the client."""


class ClientPerLoop(Generic[Client]):
    """One client per event loop, since connections cannot move between loops; behind WSGI there are many loops."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._client_of_loop: RunVar[Client | None] = RunVar("client", None)

    def current_client(self) -> Client:
        """This event loop's client, made on first use."""
        client = self._client_of_loop.get()
        if client is None:
            client = self._make()
            self._client_of_loop.set(client)
        return client

    async def aclose(self) -> None:
        """Close this event loop's client."""
        client = self._client_of_loop.get()
        if client is not None:
            self._client_of_loop.set(None)
            await client.close()
