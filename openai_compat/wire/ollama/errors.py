"""Errors as Ollama writes them: a text, in an answer of their own, or as the last line of a stream."""

from __future__ import annotations

from ...errors import OpenAICompatError
from ..errors import error_headers
from ..json import dumps


class OllamaErrors:
    """The form of errors that Ollama's clients read: `{"error": text}`. The code is there for people."""

    def body(self, error: OpenAICompatError) -> bytes:
        """The text, and which code it has where it has one."""
        message = error.message
        # There is no field for it.
        if error.param is not None and error.param not in message:
            message = f"{error.param}: {message}"
        return dumps({"error": message, **({} if error.code is None else {"code": error.code})})

    def headers(self, error: OpenAICompatError) -> list[tuple[str, str]]:
        """Retry hints, and whatever the error brings itself."""
        return error_headers(error)

    def frame(self, error: OpenAICompatError) -> bytes:
        """The same as a line, upon which clients raise it."""
        return self.body(error) + b"\n"
