"""OpenAI clients for `openai-compat chat`: of a served agent, or of one in this process."""

from __future__ import annotations

from typing import Any, cast

import click
import openai

from openai_compat import Server

from ..client import sync_openai
from .load_agents import Agents, as_server
from .terminal import visible

UNUSED_KEY = "none"
"""Sent if no key is given: the SDK would send the one in OPENAI_API_KEY, which is not for other servers."""


class ChatFailed(click.ClickException):
    """There was no answer. The message says why, in one line."""


def connect(url: str, api_key: str | None) -> openai.OpenAI:
    """A client for the API at `url`."""
    return openai.OpenAI(base_url=url, api_key=api_key or UNUSED_KEY)


def in_process(agents: Server | Agents, api_key: str | None) -> openai.OpenAI:
    """A client for agents in this process."""
    return sync_openai(as_server(agents), api_key=api_key or UNUSED_KEY)


def only_model(client: openai.OpenAI) -> str:
    """The server's model, if it has just one. Raises ChatFailed."""
    try:
        models = [model.id for model in client.models.list()]
    except openai.OpenAIError as error:
        raise ChatFailed(reason(error)) from error
    if len(models) != 1:
        raise ChatFailed(f"Choose one with --model: {visible(', '.join(models))}")
    return models[0]


def reason(error: openai.OpenAIError) -> str:
    """The error in one line: the server's own words where there are any."""
    if isinstance(error, openai.APIConnectionError):
        return f"No answer from {error.request.url.netloc.decode()}: {error.__cause__ or error}"
    body = getattr(error, "body", None)
    message = cast("dict[str, Any]", body).get("message") if isinstance(body, dict) else None
    return visible(" ".join(str(message or error).split()))
