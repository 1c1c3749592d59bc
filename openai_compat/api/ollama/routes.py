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
"""What programs ask of an Ollama that has models of its own."""


class Ollama(Api):
    """Ollama's API, for `Server(apis=[Ollama()])`. It is at the root: `/api/chat`, and `/` itself.

    Args:
        own_tools: where people see which of its own tools an agent runs: in what it thinks ("thinking"), in its text
            ("text"), or nowhere ("hidden").

    Raises ValueError for another place.
    """

    def __init__(self, *, own_tools: OwnToolsShown = "thinking") -> None:
        if own_tools not in VISIBILITIES:
            raise ValueError("own_tools is 'thinking', 'text' or 'hidden'")
        # What an Ollama does that has models of its own.
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
    """What is told of the server and its models."""
    ask = Operation(show, "showModel", "Get what a model can do", named("ShowAnswer"), body=named("ModelRequest"))
    return [
        # These two without a key, as they tell nothing: programs look there whether anybody is at home.
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
            {"GET": Operation(running, "listRunning", "List the models in memory: none", named("TagsAnswer"))},
            group="models",
        ),
        Route("/api/show", {"POST": ask}, group="models"),
    ]


def _answering(answer: OllamaEndpoint) -> list[Route]:
    """What runs an agent, or an embed function."""
    operations = {
        "/api/chat": Operation(answer.chat, "chat", "Ask an agent", lines("ChatLine"), body=named("ChatRequest")),
        "/api/generate": Operation(
            answer.generate, "generate", "Ask with a bare prompt", lines("GenerateLine"), body=named("GenerateRequest")
        ),
        "/api/embed": Operation(embed, "embed", "Embed texts", named("EmbedAnswer"), body=named("EmbedRequest")),
        "/api/embeddings": Operation(
            embed_one, "embedOne", "Embed a text", named("OldEmbedAnswer"), body=named("OldEmbedRequest")
        ),
    }
    return [Route(path, {"POST": operation}) for path, operation in operations.items()]
