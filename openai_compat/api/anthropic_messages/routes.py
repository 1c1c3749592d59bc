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
from .tokens import count_tokens


class AnthropicMessages(Api):
    """Anthropic's Messages API, for `Server(apis=[AnthropicMessages()])`.

    Args:
        own_tools: where people see which of its own tools an agent runs: in blocks of their own ("blocks", for requests to
            the beta API, such as those of Claude Code; others are shown nothing), nowhere ("hidden"), in what it thinks
            ("thinking"), or in its text ("text").

    Raises ValueError for another place.
    """

    def __init__(self, *, own_tools: OwnTools = "blocks") -> None:
        if own_tools not in ("blocks", "hidden", "thinking", "text"):
            raise ValueError("own_tools is 'blocks', 'hidden', 'thinking' or 'text'")
        ask = Operation(
            MessagesEndpoint(own_tools).create,
            "createMessage",
            "Ask an agent",
            openapi.answered(),
            body=openapi.named("MessagesRequest"),
        )
        count = Operation(
            count_tokens,
            "countMessageTokens",
            "Count a request's tokens",
            openapi.named("TokensCounted"),
            body=openapi.named("TokenCountRequest"),
        )
        models = Operation(
            list_models, "listMessageModels", "List the agents", openapi.named("ModelPage"), query=PAGING
        )
        model = Operation(get_model, "retrieveMessageModel", "Retrieve an agent", openapi.named("Model"))
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
