"""A conversation in the terminal, with an agent in this process or one that is served somewhere."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlsplit

import click
import openai
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from openai_compat import AgentBackend, Server

from .client import sync_openai

UNUSED_KEY = "none"
"""Sent where no key is given: the SDK would take the one in OPENAI_API_KEY, which is not for anybody else."""


class ChatFailed(click.ClickException):
    """There was no answer; the message says why, in one line."""


class Chat:
    """Sends what is typed together with what was said before, and shows the answer as it comes."""

    def __init__(self, client: openai.OpenAI, model: str) -> None:
        self._client = client
        self._model = model
        self._messages: list[ChatCompletionMessageParam] = []

    def ask(self, text: str) -> None:
        """One turn. If it is interrupted or fails, the conversation keeps what was said until then.

        Raises ChatFailed.
        """
        self._messages.append({"role": "user", "content": text})
        said: list[str] = []
        try:
            self._answer(said)
        except openai.OpenAIError as error:
            raise ChatFailed(_reason(error)) from error
        finally:
            answer = "".join(said)
            if answer:
                self._messages.append({"role": "assistant", "content": answer})
                click.echo(nl=not answer.endswith("\n"))
            else:
                self._messages.pop()

    def _answer(self, said: list[str]) -> None:
        create = self._client.chat.completions.create
        with create(model=self._model, messages=self._messages, stream=True) as chunks:
            for chunk in chunks:
                text, status = _text(chunk), _status(chunk)
                if text:
                    said.append(text)
                    click.echo(text, nl=False)
                elif status and sys.stderr.isatty():
                    within_line = said and not said[-1].endswith("\n")
                    click.secho(("\n" if within_line else "") + status, dim=True, err=True)

    def talk(self) -> None:
        """Ask what is typed, line by line, until Ctrl-D. Ctrl-C stops an answer, or clears the line."""
        with suppress(ImportError):
            importlib.import_module("readline")  # gives `input` its editing keys and its history
        while True:
            try:
                text = input("> ")
                if text.strip():
                    self.ask(text)
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.echo()
            except ChatFailed as error:
                error.show()


def connect(url: str, api_key: str | None) -> openai.OpenAI:
    """A client for the server at `url`; "/v1" is added to one without a path."""
    base = url if urlsplit(url).path.strip("/") else url.rstrip("/") + "/v1"
    return openai.OpenAI(base_url=base, api_key=api_key or UNUSED_KEY)


def in_process(agents: Server | dict[str, AgentBackend], api_key: str | None) -> openai.OpenAI:
    """A client for agents in this process."""
    server = agents if isinstance(agents, Server) else Server(agents)
    return sync_openai(server, api_key=api_key or UNUSED_KEY)


def only_model(client: openai.OpenAI) -> str:
    """The server's model, if it has just one. Raises ChatFailed."""
    try:
        models = [model.id for model in client.models.list()]
    except openai.OpenAIError as error:
        raise ChatFailed(_reason(error)) from error
    if len(models) != 1:
        raise ChatFailed(f"Choose one with --model: {', '.join(models)}")
    return models[0]


def _text(chunk: ChatCompletionChunk) -> str:
    return "".join([choice.delta.content or choice.delta.refusal or "" for choice in chunk.choices])


def _status(chunk: ChatCompletionChunk) -> str:
    """What the agent is doing, which this library's servers tell beside the answer."""
    event: Any = (chunk.model_extra or {}).get("event")
    return str(event["data"]["description"]) if event else ""


def _reason(error: openai.OpenAIError) -> str:
    """The error in one line: the server's own words where there are any."""
    if isinstance(error, openai.APIConnectionError):
        return f"{error.request.url.host}:{error.request.url.port or ''} cannot be reached: {error.__cause__ or error}"
    body = getattr(error, "body", None)
    message = cast("dict[str, Any]", body).get("message") if isinstance(body, dict) else None
    return " ".join(str(message or error).split())
