"""The routes of Ollama's API."""

from __future__ import annotations

from ...wire.ollama.errors import OllamaErrors
from ...wire.ollama.serialize import VISIBILITIES, OwnToolsShown
from ..answer_form import NDJSON
from ..routing import Api, Operation, Route
from .embed import embed, embed_one
from .endpoint import OllamaEndpoint
from .models import get_version, list_models, list_running, refuse_change, send_greeting, show_model
from .openapi import ERROR, json_or_lines, schema_content, schemas

CHANGES = ("pull", "push", "create", "copy")
"""Requests of programs to an Ollama that manages its own models."""


class Ollama(Api):
    """Ollama's API, for `Server(apis=[Ollama()])`. Its paths are at the root: `/api/chat`, and `/` itself.

    Args:
        own_tools: where clients see calls of the agent's own tools: in the thinking ("thinking"), in the text ("text"), or
            nowhere ("hidden").

    Raises ValueError for another `own_tools`.
    """

    def __init__(self, *, own_tools: OwnToolsShown = "thinking") -> None:
        if own_tools not in VISIBILITIES:
            raise ValueError("own_tools is 'thinking', 'text' or 'hidden'")
        # The requests that an Ollama with its own models answers.
        changes = [Route(f"/api/{name}", {"POST": Operation(refuse_change)}, described=False) for name in CHANGES]
        changes.append(Route("/api/delete", {"DELETE": Operation(refuse_change)}, described=False))
        super().__init__(
            name="ollama",
            routes=[*_model_routes(), *_agent_routes(OllamaEndpoint(own_tools)), *changes],
            errors=OllamaErrors(),
            framing=NDJSON,
            prefix="/api",
            schemas=schemas,
            error_schema=ERROR,
        )


def _model_routes() -> list[Route]:
    """The routes that describe the server and its models."""
    ask = Operation(
        show_model,
        "showModel",
        "Get a model's capabilities",
        schema_content("ShowAnswer"),
        body=schema_content("ModelRequest"),
    )
    return [
        # These two need no key, as they reveal nothing: programs use them to find the server.
        Route("/", {"GET": Operation(send_greeting)}, open=True, described=False),
        Route(
            "/api/version",
            {
                "GET": Operation(
                    get_version, "getVersion", "Get the version of this API", schema_content("VersionAnswer")
                )
            },
            open=True,
        ),
        Route(
            "/api/tags",
            {"GET": Operation(list_models, "listTags", "List the models", schema_content("TagsAnswer"))},
            group="models",
        ),
        Route(
            "/api/ps",
            {
                "GET": Operation(
                    list_running, "listRunning", "List the models in memory (always none)", schema_content("TagsAnswer")
                )
            },
            group="models",
        ),
        Route("/api/show", {"POST": ask}, group="models"),
    ]


def _agent_routes(answer: OllamaEndpoint) -> list[Route]:
    """The routes that run an agent, or an embed function."""
    operations = {
        "/api/chat": Operation(
            answer.chat, "chat", "Ask an agent", json_or_lines("ChatLine"), body=schema_content("ChatRequest")
        ),
        "/api/generate": Operation(
            answer.generate,
            "generate",
            "Answer a bare prompt",
            json_or_lines("GenerateLine"),
            body=schema_content("GenerateRequest"),
        ),
        "/api/embed": Operation(
            embed, "embed", "Embed texts", schema_content("EmbedAnswer"), body=schema_content("EmbedRequest")
        ),
        "/api/embeddings": Operation(
            embed_one,
            "embedOne",
            "Embed a text",
            schema_content("OldEmbedAnswer"),
            body=schema_content("OldEmbedRequest"),
        ),
    }
    return [Route(path, {"POST": operation}) for path, operation in operations.items()]
