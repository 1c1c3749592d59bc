"""`POST /v1/embeddings`: an embed function has a slot and a task of its own, as an agent has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio

from ..agents.embedder import Embedder
from ..agents.error_mapping import to_public_error, without_retry
from ..aio.background import Task, spawn
from ..backend import CHARACTERS_PER_TOKEN
from ..errors import DeadlineExceeded, OpenAICompatError
from ..policies.content import check_content_type
from ..turns.slots import SlotRequest
from ..wire.embeddings import EmbeddingInput, Vector, check_taken, embedding_list, parse_embedding
from .body import parse_body, read_body
from .exchange import Exchange
from .services import Services, logger


async def create(services: Services, exchange: Exchange) -> None:
    """Run an embed function and answer with its vectors."""
    check_content_type(exchange.request)
    body = await read_body(exchange, services.settings.limits, services.settings.deadlines)
    parsed = await parse_body(body, parse_embedding, body)
    await services.check_rate(exchange)
    name, embedder = services.models.embedder(parsed.model, exchange.principal)
    check_taken(parsed.asked, embedder.takes)
    async with await services.live.slots.take(SlotRequest(1, name, exchange.principal)) as seat:
        exchange.agent_started = True
        seat.borrow()
        run = EmbeddingRun(embedder, parsed.asked, exchange.request_id, seat.give_back)
        seat.close()  # the slot is free when the function has ended
        services.live.runner.running.add(run)
        try:
            vectors = await run.vectors(services.settings.deadlines.request)
            read = tokens_read(parsed.asked)
            # OpenAI's SDKs ask for base64 where their caller has not said anything.
            await exchange.answer(200, embedding_list(parsed.model, vectors, read, as_base64=parsed.base64))
        except OpenAICompatError as error:
            await exchange.fail(without_retry(error))  # at once: stopping the function may take its time
        finally:
            services.live.runner.running.discard(run)
            await run.stop(services.settings.deadlines.grace)


def tokens_read(asked: EmbeddingInput) -> int:
    """How many tokens were read: counted, or, of texts, estimated."""
    texts = sum([-(-len(text) // CHARACTERS_PER_TOKEN) for text in asked.texts])
    return texts + sum(map(len, asked.tokens))


class EmbeddingRun:
    """One call of an embed function, in a task of its own.

    It keeps its slot until it has really ended, which a plain function may do only after its client has left.
    """

    def __init__(
        self, embedder: Embedder, asked: EmbeddingInput, request_id: str, released: Callable[[], None]
    ) -> None:
        self._embedder = embedder
        self._asked = asked
        self._request_id = request_id
        self._vectors: list[Vector] = []
        self._error: OpenAICompatError | None = None
        self._settled = anyio.Event()
        self._stopping = False
        self._task: Task = spawn(self._run, "embed function", released)

    async def vectors(self, seconds: float) -> list[Vector]:
        """The function's vectors. Raises its failure, and DeadlineExceeded after so many seconds."""
        with anyio.move_on_after(seconds):
            await self._settled.wait()
        if self._error is not None:
            raise self._error
        if not self._settled.is_set():
            raise DeadlineExceeded("The embed function took too long and was stopped.", should_retry=False)
        return self._vectors

    def interrupt(self, error: OpenAICompatError) -> None:
        """End it with `error`, unless it has ended already."""
        if not self._settled.is_set():
            self._error = error
            self._settled.set()

    async def stop(self, grace: float) -> None:
        """Stop the function if it still runs; wait for its end, but no longer than `grace` seconds."""
        if self._task.done:
            return
        self._stopping = True
        self._task.cancel()
        with anyio.move_on_after(grace, shield=True):
            await self._task.wait()
            return
        text = "%s: the embed function still runs %g s after it was told to stop; it keeps its slot until it ends"
        logger.warning(text, self._request_id, grace, extra={"request_id": self._request_id})

    async def _run(self) -> None:
        try:
            self._vectors = await self._embedder.embed(self._asked)
        except anyio.get_cancelled_exc_class() as error:
            if not self._stopping:
                self._fail(error)
            if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
                raise  # trio's scope must see its own cancellation; asyncio's task ends here anyway
        except BaseException as error:  # SystemExit too, which would end the whole server
            self._fail(error)
        finally:
            self._settled.set()

    def _fail(self, error: BaseException) -> None:
        # A deadline, or the end of the server, may have come first.
        self._error = self._error or to_public_error(error)
        text = "%s: the embed function failed"
        logger.error(text, self._request_id, exc_info=error, extra={"request_id": self._request_id})
