"""A conversation in the terminal."""

from __future__ import annotations

import importlib
import select
import sys
from contextlib import suppress
from typing import Any

import click
import openai
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from openai_compat import AgentError

from .chat_client import ChatFailed, reason
from .terminal import visible

COMMANDS = {
    "/help": "shows this",
    "/new": "begins a new conversation",
    "/quit": "ends; so does Ctrl-D",
}

PASTED = 0.02
"""Seconds within which the next line counts as pasted: nobody types that fast."""


class Chat:
    """Sends each message with the whole conversation, and shows the answer as it comes.

    `hint` is added to the error of an agent that gives no reason.
    """

    def __init__(self, client: openai.OpenAI, model: str, hint: str = "") -> None:
        self._client = client
        self._model = model
        self._hint = hint
        self._messages: list[ChatCompletionMessageParam] = []
        self._within_line = False

    def ask(self, text: str) -> None:
        """Run one turn. If it is interrupted or fails, the conversation keeps the answer so far.

        Raises ChatFailed.
        """
        self._messages.append({"role": "user", "content": text})
        said: list[str] = []
        try:
            self._answer(said)
        except openai.OpenAIError as error:
            why = reason(error)
            raise ChatFailed(why + self._hint if why == AgentError().message else why) from error
        finally:
            self._end_line()
            if said:
                self._messages.append({"role": "assistant", "content": "".join(said)})
            else:  # nothing was answered: the next message replaces this one
                self._messages.pop()

    def _answer(self, said: list[str]) -> None:
        create = self._client.chat.completions.create
        with create(model=self._model, messages=self._messages, stream=True) as chunks:
            calls: dict[int, tuple[str, str]] = {}
            shown = ""
            for chunk in chunks:
                text = "".join([choice.delta.content or choice.delta.refusal or "" for choice in chunk.choices])
                status = _status(chunk)
                _add_calls(calls, chunk)
                if text:
                    said.append(text)
                    self._within_line = not text.endswith("\n")
                    click.echo(visible(text), nl=False)
                elif status and status != shown and sys.stderr.isatty():
                    self._tell(status)
                shown = status or ("" if text else shown)
        for name, arguments in calls.values():
            self._tell(f"The agent calls {name}({arguments}): a tool of its client's, and here is none.")

    def _tell(self, text: str) -> None:
        self._end_line()
        click.secho(f"· {visible(text)}", dim=True, err=True)

    def _end_line(self) -> None:
        click.echo(nl=self._within_line)
        self._within_line = False

    def talk(self) -> None:
        """Read and ask, until Ctrl-D. Ctrl-C stops an answer, or clears the line."""
        with suppress(ImportError):
            importlib.import_module("readline")  # gives `input` editing keys and a history
        click.secho(f"You talk to {self._model}. Ctrl-C stops an answer, Ctrl-D ends; /help.", dim=True, err=True)
        while (text := _typed()) is not None and text.strip() != "/quit":
            try:
                if text.strip() in COMMANDS:
                    self._obey(text.strip())
                elif text.strip():
                    self.ask(text)
            except KeyboardInterrupt:
                self._end_line()
            except ChatFailed as error:
                error.show()

    def _obey(self, command: str) -> None:
        if command == "/new":
            self._messages.clear()
        else:
            click.secho("\n".join([f"{name:8}{does}" for name, does in COMMANDS.items()]), dim=True, err=True)


def _typed() -> str | None:
    """The next line, with those that were pasted with it; None at the end."""
    try:
        lines = [input("> ")]
        while select.select([sys.stdin], [], [], PASTED)[0]:
            lines.append(input())
        return "\n".join(lines)
    except KeyboardInterrupt:
        click.echo()
        return ""
    except EOFError:
        click.echo()
        return None


def _status(chunk: ChatCompletionChunk) -> str:
    """The agent's status, which this library's servers send with the answer."""
    # A key beside an empty delta is the one place for activity that no client trips over.
    event: Any = (chunk.model_extra or {}).get("event")
    if event:
        return str(event["data"]["description"])
    thinks = any([(choice.delta.model_extra or {}).get("reasoning_content") for choice in chunk.choices])
    return "Thinking …" if thinks else ""


def _add_calls(calls: dict[int, tuple[str, str]], chunk: ChatCompletionChunk) -> None:
    """Add the chunk's pieces of tool calls: name and arguments, by index."""
    for choice in chunk.choices:
        for piece in choice.delta.tool_calls or ():
            name, arguments = calls.get(piece.index, ("", ""))
            if piece.function is not None:
                calls[piece.index] = (name + (piece.function.name or ""), arguments + (piece.function.arguments or ""))
