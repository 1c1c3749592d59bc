"""Settings of server-side conversations: where their ids are, and what a second turn at once gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeAlias, cast

from ..agents.setting_types import check_fields, check_strings
from ..errors import InvalidRequest
from ..http import HttpRequest

__all__ = ("DEFAULT_SOURCES", "KNOWN_SOURCES", "Conversations")

WhenBusy: TypeAlias = Literal["reject", "queue", "supersede"]

DEFAULT_SOURCES = ("x-conversation-id", "x-openwebui-chat-id", "body:metadata.conversation_id")
KNOWN_SOURCES = (*DEFAULT_SOURCES, "x-session-id", "session-id", "thread-id", "session_id", "body:prompt_cache_key")
"""Also opencode's, Codex's and pi's session headers. A `prompt_cache_key` may be shared by all of an app's users."""

MAX_ID = 256


@dataclass(frozen=True, slots=True)
class Conversations:
    """Keeps conversations on the server, for clients that send an id with every request.

    These are settings: several servers may have the same.

    Attributes:
        sources: where the id is looked for, first one wins: header names, or `body:` and a path in the body.
        busy: what a second turn in a conversation that has one running gets: a 409, a place in the queue, or the
            conversation, the running turn being stopped.
        queue: seconds to wait in that queue.
        by_transcript: find the conversation of requests without an id by what was said so far. A client that went
            back and said something else gets a conversation of its own, a branch.
    """

    _: KW_ONLY
    sources: Sequence[str] = DEFAULT_SOURCES
    busy: WhenBusy = "reject"
    queue: float = 30.0
    by_transcript: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", check_strings("sources", self.sources))
        check_fields(self)

    @property
    def headers(self) -> list[str]:
        """The headers among the sources, which browsers must be told about."""
        return [source.lower() for source in self.sources if not source.startswith("body:")]

    def identify(self, request: HttpRequest, body: dict[str, Any]) -> str | None:
        """The id that a request carries. Raises InvalidRequest for one that is empty, too long or not printable.

        An empty header is none: Open WebUI sends one made of a template also where it has nothing to put into it.
        """
        for source in self.sources:
            if source.startswith("body:"):
                found = _at(body, source[5:])
            else:  # ASGI has headers as Latin-1; text beyond ASCII is UTF-8, as it is in paths and bodies
                sent = request.header(source.lower().encode())
                found = sent.encode("latin-1").decode("utf-8", "replace") if sent else None
            if found is not None:
                return _checked(found, source)
        return None


def _at(body: dict[str, Any], path: str) -> Any:
    found: Any = body
    for step in path.split("."):
        found = cast("dict[str, Any]", found).get(step) if isinstance(found, dict) else None
    return found


def _checked(found: Any, source: str) -> str:
    if not isinstance(found, str) or not 0 < len(found) <= MAX_ID or not found.isprintable():
        text = f"A conversation id is text of 1 to {MAX_ID} printable characters."
        param = source.removeprefix("body:") if source.startswith("body:") else source.lower()
        raise InvalidRequest(text, param=param, code="invalid_conversation_id")
    return found
