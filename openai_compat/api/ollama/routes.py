"""The routes of Ollama's API."""

from __future__ import annotations

from ...wire.ollama.errors import OllamaErrors
from ...wire.ollama.serialize import VISIBILITIES, OwnToolsShown
from ..answer_form import NDJSON
from ..routing import Api, Operation, Route
from .embed import embed, embed_one
from .endpoint import OllamaEndpoint
from .models import is_running, not_served, running, show, tags, version

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
        answer = OllamaEndpoint(own_tools)
        super().__init__(
            name="ollama",
            routes=[
                # Without a key, as they tell nothing: programs look there whether anybody is at home.
                Route("/", {"GET": Operation(is_running)}, open=True, described=False),
                Route("/api/version", {"GET": Operation(version)}, open=True, described=False),
                Route("/api/tags", {"GET": Operation(tags)}, group="models", described=False),
                Route("/api/ps", {"GET": Operation(running)}, group="models", described=False),
                Route("/api/show", {"POST": Operation(show)}, group="models", described=False),
                Route("/api/chat", {"POST": Operation(answer.chat)}, described=False),
                Route("/api/generate", {"POST": Operation(answer.generate)}, described=False),
                Route("/api/embed", {"POST": Operation(embed)}, described=False),
                Route("/api/embeddings", {"POST": Operation(embed_one)}, described=False),
                *[Route(f"/api/{name}", {"POST": Operation(not_served)}, described=False) for name in CHANGES],
                Route("/api/delete", {"DELETE": Operation(not_served)}, described=False),
            ],
            errors=OllamaErrors(),
            framing=NDJSON,
            prefix="/api",
        )
