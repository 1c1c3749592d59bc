"""Errors as Ollama writes them: a text, in an answer of their own, or as the last line of a stream."""

from __future__ import annotations

from ...errors import OpenAICompatError
from ..errors import error_headers
from ..json import dumps


class OllamaErrors:
    """The form of errors that Ollama's clients read: `{"error": text}`. The code is there for people."""

    def body(self, error: OpenAICompatError, request_id: str) -> bytes:
        """The text, and which code it has where it has one."""
        return dumps(_told(error))

    def headers(self, error: OpenAICompatError) -> list[tuple[str, str]]:
        """Retry hints, and whatever the error brings itself."""
        return error_headers(error)

    def frame(self, error: OpenAICompatError, request_id: str) -> bytes:
        """The same as a line, upon which clients raise it.

        The words are a text of the assistant's as well: Open WebUI reads no `error` in a stream, and would show half an
        answer as if it were whole.
        """
        told = _told(error)
        said = {"role": "assistant", "content": f"\n\n{told['error']}"}
        return dumps({**told, "message": said}) + b"\n"


def _told(error: OpenAICompatError) -> dict[str, str]:
    message = error.message
    # There is no field for it.
    if error.param is not None and error.param not in message:
        message = f"{error.param}: {message}"
    return {"error": message, **({} if error.code is None else {"code": error.code})}
