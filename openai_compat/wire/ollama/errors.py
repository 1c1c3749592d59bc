"""Errors in Ollama's format: as a response of their own, or as the last line of a stream."""

from __future__ import annotations

from ...errors import OpenAICompatError
from ..errors import error_headers
from ..json import dumps


class OllamaErrors:
    """The error format of Ollama's clients: `{"error": text}`. The `code` is for humans."""

    def body(self, error: OpenAICompatError, request_id: str) -> bytes:
        """Return the error's text, and its code if it has one."""
        return dumps(_error_fields(error))

    def headers(self, error: OpenAICompatError) -> list[tuple[str, str]]:
        """Return retry hints, and the headers that the error carries."""
        return error_headers(error)

    def frame(self, error: OpenAICompatError, request_id: str) -> bytes:
        """Return the error as a line, which makes clients raise it.

        The text is also sent as an assistant message: Open WebUI ignores `error` in a stream and would show a truncated answer as
        if it were complete.
        """
        fields = _error_fields(error)
        said = {"role": "assistant", "content": f"\n\n{fields['error']}"}
        return dumps({**fields, "message": said}) + b"\n"


def _error_fields(error: OpenAICompatError) -> dict[str, str]:
    message = error.message
    # The format has no field for `param`.
    if error.param is not None and error.param not in message:
        message = f"{error.param}: {message}"
    return {"error": message, **({} if error.code is None else {"code": error.code})}
