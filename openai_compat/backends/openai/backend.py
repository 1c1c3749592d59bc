"""Runs a model behind the Chat Completions API for each turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from ...agent_request import AgentRequest
from ...backend import Capabilities, RunContext
from ...events import AgentEvent
from ...package import needs
from ..clients import ClientPerLoop, ReadyClient
from ..refused_parameter import find_refusal
from .params import LimitName, create_params
from .reply import OpenAIReply

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk


class OpenAIBackend:
    """Makes an agent of a model. The model gets the client's messages unchanged; its tool calls pause the turn.

    Args:
        model: the model to ask; None asks for the one that the client names.
        client: a ready `openai.AsyncOpenAI`, or a function that returns the client of the running event loop; by default, a
            client is made from `options` for each event loop.
        system: instructions that go before the client's messages.
        limit_name: the parameter that limits the length of an answer; older servers know only "max_tokens".
        pass_fields: request fields to pass on that the model's server has but OpenAI's API does not ("top_k").
        extra: further arguments of `chat.completions.create`, which override the client's.
        options: arguments of `openai.AsyncOpenAI`: `api_key`, `base_url`, `max_retries` and so on.

    Raises TypeError if both a client and options are given, ImportError if the package is not installed.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        client: AsyncOpenAI | Callable[[], AsyncOpenAI] | None = None,
        system: str = "",
        limit_name: LimitName = "max_completion_tokens",
        pass_fields: Iterable[str] = (),
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if client is not None and options:
            raise TypeError(f"{', '.join(options)}: given for a client that is ready")
        self._model = model
        self._clients: ReadyClient[AsyncOpenAI] | ClientPerLoop[AsyncOpenAI]
        if client is not None:
            self._clients = ReadyClient(client)
        else:
            client_class = _client_class()
            self._clients = ClientPerLoop(lambda: client_class(**options))
        self._system = system
        self._limit_name: LimitName = limit_name
        self._pass_fields = tuple(pass_fields)
        self._extra = dict(extra or {})
        self.capabilities = Capabilities(
            logprobs=True,
            web_search=True,
            prediction=True,
            counts_tokens=True,
            upstream=f"openai/{model}" if model else "openai",
        )

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Ask the model, and yield the events of its answer."""
        params = create_params(
            request,
            model=self._model or request.model,
            system=self._system,
            limit_name=self._limit_name,
            pass_fields=self._pass_fields,
            extra=self._extra,
        )
        reply = OpenAIReply(context.turn_id)
        async with await self._create_stream(params, request) as stream:
            async for chunk in stream:
                for item in reply.read(chunk):
                    yield item
        for item in reply.end():
            yield item

    async def _create_stream(self, params: dict[str, Any], request: AgentRequest) -> AsyncStream[ChatCompletionChunk]:
        create = self._clients.current_client().chat.completions.create
        try:
            return cast("AsyncStream[ChatCompletionChunk]", await create(**params))
        except Exception as error:
            refusal = find_refusal(error, request.sampling)
            if refusal is None:
                raise
            raise refusal from error

    async def aclose(self) -> None:
        """Close the client made for this event loop; a ready client is closed by its owner."""
        await self._clients.aclose()


def _client_class() -> type[AsyncOpenAI]:
    """Import the SDK when the backend is made: the import takes a second, and would block the event loop in the first turn."""
    with needs("OpenAIBackend", "openai"):
        from openai import AsyncOpenAI  # noqa: PLC0415  (nobody else's dependency)

    return AsyncOpenAI
