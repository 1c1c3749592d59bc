"""The connection to the chat server, over HTTP or in this process."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, cast

import httpx2

from ..terminal import visible
from .answer_events import CONNECTION_LOST, ChatFailed
from .json_values import JsonObject, object_in, objects_in, text_in

TIMEOUT = httpx2.Timeout(600, connect=10)
"""In seconds; long, because an agent may think in silence."""


class ServerConnection:
    """Sends requests to the API at a URL. Raises errors as ChatFailed, with the server's own message if there is one.

    Args:
        url: URL of the API, with `/v1` if it has one.
        api_key: "" sends none.
        transport: replaces the network.
    """

    def __init__(self, url: str, api_key: str, transport: httpx2.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            self._client = httpx2.Client(headers=headers, transport=transport, timeout=TIMEOUT, follow_redirects=True)
        except (UnicodeEncodeError, ValueError) as error:
            raise ChatFailed("This cannot be an API key: it has other letters than keys have.") from error

    def close(self) -> None:
        """Close the keep-alive connections."""
        self._client.close()

    def models(self) -> list[JsonObject]:
        """List the server's models; also tries the URL with `/v1` appended. Raises ChatFailed."""
        try:
            return self._fetch_models(self.url)
        except ChatFailed as error:
            if error.status != 404 or self.url.endswith("/v1"):
                raise
            models = self._fetch_models(f"{self.url}/v1")
        self.url += "/v1"
        return models

    def _fetch_models(self, url: str) -> list[JsonObject]:
        try:
            response = self._client.get(f"{url}/models")
        except httpx2.TransportError as error:
            raise _connection_failure(error) from error
        if response.status_code >= 400:
            raise _response_failure(response)
        data: Any = None
        with suppress(ValueError):
            data = object_in(response.json()).get("data")
        if not isinstance(data, list):
            raise ChatFailed(
                f"{url}/models is no list of models: is this the URL of an API, as http://127.0.0.1:8083/v1?"
            )
        return [model for model in objects_in(cast("Any", data)) if text_in(model.get("id"))]

    def stream(self, path: str, body: JsonObject) -> Iterator[JsonObject]:
        """Yield the events of a streamed answer; closing the iterator disconnects. Raises ChatFailed."""
        began = False
        try:
            with self._client.stream("POST", f"{self.url}/{path}", json=body) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _response_failure(response)
                if "event-stream" not in response.headers.get("content-type", ""):
                    raise ChatFailed(f"{self.url} does not stream its answers.")
                began = True
                yield from _parse_events(response.iter_bytes())
        except httpx2.TransportError as error:
            raise (
                ChatFailed(CONNECTION_LOST, code="connection_lost") if began else _connection_failure(error)
            ) from error


def _parse_events(pieces: Iterable[bytes]) -> Iterator[JsonObject]:
    decoder, line, data = codecs.getincrementaldecoder("utf-8")("replace"), "", ""
    for piece in pieces:
        *lines, line = (line + decoder.decode(piece)).split("\n")
        for complete in lines:
            text = complete.removesuffix("\r")
            if text.startswith("data:"):
                data += text[5:].strip() + "\n"
            elif not text and data:
                if data.strip() != "[DONE]":
                    yield _parse_event(data)
                data = ""


def _parse_event(data: str) -> JsonObject:
    try:
        event: Any = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise ChatFailed("The server sent something that is no event of this API.", code="not_an_event")
    return cast("JsonObject", event)


def failure(error: Any, status: int = 0) -> ChatFailed:
    """Make a ChatFailed from the `error` of a response or of an event."""
    told = object_in(error) or {"message": error}
    words = " ".join(str(told.get("message") or "The agent failed.").split())
    return ChatFailed(visible(words), status=status, code=str(told.get("original_code") or told.get("code") or ""))


def _response_failure(response: httpx2.Response) -> ChatFailed:
    told: JsonObject = {}
    with suppress(ValueError):
        told = object_in(response.json())
    # Frameworks say "Not Found" without naming what.
    said = f": {text_in(told['detail'])}" if text_in(told.get("detail")) else ""
    error = told.get("error") or f"{response.request.url} answered {response.status_code}{said}"
    return failure(error, response.status_code)


def _connection_failure(error: httpx2.TransportError) -> ChatFailed:
    said = visible(str(error))
    reason = said.partition("] ")[2] if said.startswith("[Errno ") else said
    hint = ". Is the server running?" if "refused" in reason else ""
    return ChatFailed(f"No answer from {error.request.url.netloc.decode()}: {reason}{hint}", code="no_connection")
