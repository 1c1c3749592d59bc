"""Where the frames of a response go: to its client as a stream, or, where only the outcome counts, nowhere."""

from __future__ import annotations

from ...errors import OpenAICompatError
from ...wire.json import DONE, KEEP_ALIVE
from ..exchange import Exchange


class StreamSink:
    """Writes frames to an HTTP client. What fails before the first one is left to the status of the answer."""

    eager = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def started(self) -> None:
        """The agent must not be run for this request again in secret."""
        self._exchange.agent_started = True

    async def write(self, frames: bytes) -> None:
        """More frames."""
        if not self._exchange.status:
            await self._exchange.start_stream()
        await self._exchange.write(frames)

    async def keep_alive(self) -> None:
        """A comment, which every client skips."""
        await self.write(KEEP_ALIVE)

    async def end(self, frames: bytes) -> None:
        """The last frames, and the end mark, which OpenAI leaves out but Open Responses asks for."""
        if not self._exchange.status:
            await self._exchange.start_stream()
        await self._exchange.end(frames + DONE)

    async def fail(self, error: OpenAICompatError, frames: bytes) -> None:
        """The last frames of a response that failed. Raises `error` if nothing was written before."""
        if not self._exchange.status:
            raise error
        self._exchange.has_failed(error)
        await self._exchange.end(frames + DONE)


class NoSink:
    """For responses whose client waits for the outcome, or for nothing: the log, if there is one, has it all."""

    def __init__(self, exchange: Exchange, *, eager: bool = False) -> None:
        self._exchange = exchange
        self.eager = eager
        self.error: OpenAICompatError | None = None

    def started(self) -> None:
        """The agent must not be run for this request again in secret."""
        self._exchange.agent_started = True

    async def write(self, frames: bytes) -> None:
        """Nobody listens."""

    async def keep_alive(self) -> None:
        """Nobody waits."""

    async def end(self, frames: bytes) -> None:
        """It is over."""

    async def fail(self, error: OpenAICompatError, frames: bytes) -> None:
        """Keep the error."""
        self.error = error
