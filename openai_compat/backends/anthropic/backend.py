"""Runs a model behind the Messages API for each turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...agent_request import AgentRequest, CustomTool
from ...backend import Capabilities, RunContext
from ...errors import AgentError
from ...events import AgentEvent
from ...package import needs
from ..clients import ClientPerLoop, ReadyClient
from ..refused_parameter import find_refusal
from .params import create_params
from .reply import AnthropicReply
from .reply_cache import ReplyCache

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

MAX_API_CALLS = 10
"""Maximum number of API calls per turn, since the API may pause an answer in the middle of its own tools."""


class AnthropicBackend:
    """Makes an agent of a model. The model gets the client's tools, whose calls pause the turn.

    Args:
        model: the model to ask; None asks for the one that the client names.
        client: a ready `anthropic.AsyncAnthropic`, or a function that returns the client of the running event loop; by
            default, a client is made from `options` for each event loop.
        max_tokens: maximum tokens of an answer if the client sets no limit; the API requires a limit.
        system: instructions that go before the client's.
        extra: further arguments of `messages.create`, such as `{"thinking": {"type": "adaptive"}}`. Its `tools`, which
            must be tools that Anthropic runs, are added to the client's.
        options: arguments of `anthropic.AsyncAnthropic`: `api_key`, `base_url`, `max_retries` and so on.

    A request with `temperature` or `top_p` gets a 400 if the model does not accept them. A request with `seed`, penalties
    or `logit_bias` always gets a 400, since the API does not have them.

    Raises TypeError if both a client and options are given, ImportError if the package is not installed.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        client: AsyncAnthropic | Callable[[], AsyncAnthropic] | None = None,
        max_tokens: int = 8192,
        system: str = "",
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if client is not None and options:
            raise TypeError(f"{', '.join(options)}: given for a client that is ready")
        self._model = model
        self._clients: ReadyClient[AsyncAnthropic] | ClientPerLoop[AsyncAnthropic]
        if client is not None:
            self._clients = ReadyClient(client)
        else:
            client_class = _client_class()
            self._clients = ClientPerLoop(lambda: client_class(**options))
        self._max_tokens = max_tokens
        self._system = system
        self._extra = dict(extra or {})
        self._answers = ReplyCache()
        self.capabilities = Capabilities(
            audio_input=False,
            counts_tokens=True,
            upstream=f"anthropic/{model}" if model else "anthropic",
        )

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Ask the model, and yield the events of its answer."""
        client = self._clients.current_client()
        params = self._params(request)
        custom_tools = frozenset([tool.name for tool in request.tools if isinstance(tool, CustomTool)])
        text_length = 0
        for _ in range(MAX_API_CALLS):
            reply = AnthropicReply(custom_tools, text_length)
            async with await self._create_stream(client, params, request) as stream:
                async for event in stream:
                    for item in reply.read(event):
                        yield item
            self._answers.remember(request.principal, reply.content)
            # The API pauses long turns with its own tools, and continues when the answer so far is sent back.
            if reply.stop_reason != "pause_turn":
                for item in reply.end():
                    yield item
                return
            text_length = reply.text_length
            params["messages"] = [*params["messages"], {"role": "assistant", "content": reply.content}]
        raise AgentError("The model behind the agent did not come to an end.", status=502, code="upstream_incomplete")

    async def _create_stream(self, client: AsyncAnthropic, params: dict[str, Any], request: AgentRequest) -> Any:
        try:
            return await client.messages.create(stream=True, **params)
        except Exception as error:
            refusal = find_refusal(error, request.sampling)
            if refusal is None:
                raise
            raise refusal from error

    async def aclose(self) -> None:
        """Close the client made for this event loop; a ready client is closed by its owner."""
        await self._clients.aclose()

    def _params(self, request: AgentRequest) -> dict[str, Any]:
        return create_params(
            request,
            model=self._model or request.model,
            max_tokens=self._max_tokens,
            system=self._system,
            extra=self._extra,
            recall=lambda calls: self._answers.recall(request.principal, calls),
        )


def _client_class() -> type[AsyncAnthropic]:
    """Import the SDK when the backend is made: the import takes a second, and would block the event loop in the first turn."""
    with needs("AnthropicBackend"):
        from anthropic import AsyncAnthropic  # noqa: PLC0415  (nobody else's dependency)

    return AsyncAnthropic
