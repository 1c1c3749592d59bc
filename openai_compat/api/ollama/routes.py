"""The routes of Ollama's API."""

from __future__ import annotations

from ...wire.ollama.errors import OllamaErrors
from ...wire.ollama.serialize import VISIBILITIES, OwnToolsShown
from ..answer_form import NDJSON
from ..routing import Api, Operation, Route
from .embed import embed, embed_one
from .endpoint import OllamaEndpoint
from .models import is_running, not_served, running, show, tags, version
from .openapi import ERROR, lines, named, schemas

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
        changes = [Route(f"/api/{name}", {"POST": Operation(not_served)}, described=False) for name in CHANGES]
        changes.append(Route("/api/delete", {"DELETE": Operation(not_served)}, described=False))
        super().__init__(
            name="ollama",
            routes=[*_about(), *_answering(OllamaEndpoint(own_tools)), *changes],
            errors=OllamaErrors(),
            framing=NDJSON,
            prefix="/api",
            schemas=schemas,
            error_schema=ERROR,
        )


def _about() -> list[Route]:
    """The routes that describe the server and its models."""
    ask = Operation(show, "showModel", "Get a model's capabilities", named("ShowAnswer"), body=named("ModelRequest"))
    return [
        # These two need no key, as they reveal nothing: programs use them to find the server.
        Route("/", {"GET": Operation(is_running)}, open=True, described=False),
        Route(
            "/api/version",
            {"GET": Operation(version, "getVersion", "Get the version of this API", named("VersionAnswer"))},
            open=True,
        ),
        Route(
            "/api/tags",
            {"GET": Operation(tags, "listTags", "List the models", named("TagsAnswer"))},
            group="models",
        ),
        Route(
            "/api/ps",
            {"GET": Operation(running, "listRunning", "List the models in memory (always none)", named("TagsAnswer"))},
            group="models",
        ),
        Route("/api/show", {"POST": ask}, group="models"),
    ]


def _answering(answer: OllamaEndpoint) -> list[Route]:
    """The routes that run an agent, or an embed function."""
    operations = {
        "/api/chat": Operation(answer.chat, "chat", "Ask an agent", lines("ChatLine"), body=named("ChatRequest")),
        "/api/generate": Operation(
            answer.generate, "generate", "Answer a bare prompt", lines("GenerateLine"), body=named("GenerateRequest")
        ),
        "/api/embed": Operation(embed, "embed", "Embed texts", named("EmbedAnswer"), body=named("EmbedRequest")),
        "/api/embeddings": Operation(
            embed_one, "embedOne", "Embed a text", named("OldEmbedAnswer"), body=named("OldEmbedRequest")
        ),
    }
    return [Route(path, {"POST": operation}) for path, operation in operations.items()]
