"""Settings of stored conversations: the sources of conversation ids, and the handling of concurrent turns."""

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
"""Also the session headers of opencode, Codex and pi. A `prompt_cache_key` may be shared by all users of an app."""

MAX_ID = 256


@dataclass(frozen=True, slots=True)
class Conversations:
    """Stores conversations on the server, for clients that send a conversation id with every request.

    Several servers may share one instance.

    Attributes:
        sources: where to find the id, in order of precedence: header names, or `body:` and a path in the body.
        busy: handling of a turn while another runs in the conversation: "reject" answers 409, "queue" waits for the
            running turn, "supersede" stops it.
        queue: seconds to wait in that queue.
        by_transcript: find the conversation of a request without an id by its earlier messages. A client that edits an
            earlier message starts a new conversation, a branch.
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
        """The headers among the sources, for the CORS headers."""
        return [source.lower() for source in self.sources if not source.startswith("body:")]

    def identify(self, request: HttpRequest, body: dict[str, Any]) -> str | None:
        """Return the request's conversation id, or None. Raises InvalidRequest if it is empty, too long or not printable.

        An empty header counts as absent: Open WebUI sends the header from a template, even without a value.
        """
        for source in self.sources:
            if source.startswith("body:"):
                found = _value_at(body, source[5:])
            else:  # ASGI headers are decoded as Latin-1, but non-ASCII ids are UTF-8, as in paths and bodies
                sent = request.header(source.lower().encode())
                found = sent.encode("latin-1").decode("utf-8", "replace") if sent else None
            if found is not None:
                return _check_id(found, source)
        return None


def _value_at(body: dict[str, Any], path: str) -> Any:
    found: Any = body
    for step in path.split("."):
        found = cast("dict[str, Any]", found).get(step) if isinstance(found, dict) else None
    return found


def _check_id(found: Any, source: str) -> str:
    if not isinstance(found, str) or not 0 < len(found) <= MAX_ID or not found.isprintable():
        text = f"A conversation id is text of 1 to {MAX_ID} printable characters."
        param = source.removeprefix("body:") if source.startswith("body:") else source.lower()
        raise InvalidRequest(text, param=param, code="invalid_conversation_id")
    return found
