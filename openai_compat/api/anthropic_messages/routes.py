"""The routes of the Messages API."""

from __future__ import annotations

from ...wire.anthropic_messages.errors import AnthropicErrors
from ...wire.anthropic_messages.events import PING
from ...wire.anthropic_messages.serialize import OwnTools
from ..answer_form import Framing
from ..routing import Api, Operation, Route
from . import openapi
from .endpoint import MessagesEndpoint
from .models import PAGING, get_model, is_anthropic, list_models
from .reconnect import ReplayableTurns
from .tokens import count_tokens


class AnthropicMessages(Api):
    """Anthropic's Messages API, for `Server(apis=[AnthropicMessages()])`.

    Args:
        own_tools: where clients see calls of the agent's own tools: in separate content blocks ("blocks", for requests to the
            beta API, such as Claude Code's; other clients see none), nowhere ("hidden"), in the thinking ("thinking"), or
            in the text ("text").
        reconnect: seconds for which an agent goes on after its connection to Claude Code broke, so that it runs only once:
            Claude Code repeats the request on its own, and gets the answer of that run. For as long after the end of an
            answer, the same request in the same session counts as a repetition. `Disconnect("finish")` and `("detach")`
            let agents go on for longer. 0: agents are stopped at once, and run again.

    Raises ValueError for another `own_tools`, or a negative `reconnect`.
    """

    def __init__(self, *, own_tools: OwnTools = "blocks", reconnect: float = 3.0) -> None:
        if own_tools not in ("blocks", "hidden", "thinking", "text"):
            raise ValueError("own_tools is 'blocks', 'hidden', 'thinking' or 'text'")
        if not reconnect >= 0:
            raise ValueError("reconnect is a number of seconds, not below 0")
        ask = Operation(
            MessagesEndpoint(own_tools, ReplayableTurns(reconnect)).create,
            "createMessage",
            "Ask an agent",
            openapi.message_or_events(),
            body=openapi.json_content("MessagesRequest"),
        )
        count = Operation(
            count_tokens,
            "countMessageTokens",
            "Count a request's tokens",
            openapi.json_content("TokensCounted"),
            body=openapi.json_content("TokenCountRequest"),
        )
        models = Operation(
            list_models, "listMessageModels", "List the agents", openapi.json_content("ModelPage"), query=PAGING
        )
        model = Operation(get_model, "retrieveMessageModel", "Retrieve an agent", openapi.json_content("Model"))
        super().__init__(
            name="anthropic messages",
            routes=[
                Route("/v1/messages", {"POST": ask}),
                Route("/v1/messages/count_tokens", {"POST": count}),
                Route("/v1/models", {"GET": models}, group="models", when=is_anthropic),
                Route("/v1/models/{model:path}", {"GET": model}, group="models", when=is_anthropic),
            ],
            errors=AnthropicErrors(),
            framing=Framing("text/event-stream; charset=utf-8", PING),
            prefix="/v1/messages",
            key_headers=("x-api-key",),
            id_header="request-id",
            schemas=openapi.schemas,
            error_schema=openapi.ERROR,
        )
