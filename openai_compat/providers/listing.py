"""Parses the model lists of providers: OpenAI's format, a bare array, and Cohere's format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urljoin

from ..errors import AgentError


def models_url(client: Any, path: str) -> str:
    """The URL of the list of models; `path` is relative to the client's base URL."""
    return urljoin(str(client.base_url), path)


def model_names(listed: object) -> Sequence[str]:
    """The model names in a provider's response. Raises AgentError if the response is no list of models."""
    # Together answers with a bare array.
    found = cast("dict[str, object]", listed) if isinstance(listed, dict) else {"data": listed}
    entries = found.get("data", found.get("models"))
    if not isinstance(entries, list):
        raise AgentError("The model provider did not list its models.", code="upstream_error")
    named = [cast("dict[str, object]", entry) for entry in cast("list[object]", entries) if isinstance(entry, dict)]
    names = [entry.get("id", entry.get("name")) for entry in named]
    return [name.removeprefix("models/") for name in names if isinstance(name, str)]  # Google's prefix
