"""A chat session: turns, and the user's actions between them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from . import ctrl_c
from .answer_events import (
    AnswerEvent,
    AnswerPiece,
    ApprovalRequest,
    ChatFailed,
    ClientToolCall,
    GeneratedMedia,
    Question,
)
from .attachments import size_of, write_media
from .completions_talk import completions_turn
from .connection import ServerConnection
from .dialogue import Dialogue, Item
from .display import Display
from .questions import Answerer
from .responses_talk import responses_turn
from .slash_commands import command_in, run_command

Talk: TypeAlias = Callable[[ServerConnection, Dialogue, list[Item]], Generator[AnswerEvent]]

NO_RESPONSES = frozenset({404, 405, 501})
"""Statuses from a server without the Responses API."""


class MessageReader(Protocol):
    """The source of the user's messages and answers: an editor in the terminal, or lines of stdin."""

    def read_message(self, model: str) -> str | None:
        """Return the next message; "" if the user aborted it, None at the end of input."""
        ...


class ChatSession:
    """Talks to one agent at a time.

    Attributes:
        models: the available models; empty if the server does not list them.
        attached: files for the next message.
        media: pictures and sounds of the last answer.

    Args:
        api: "chat", "responses", or "auto", which tries Responses and falls back to Chat Completions.
        out: the folder for pictures and sounds.
        around: makes the context in which each turn runs.
        why: returns more about the last failure; "" if nothing is known.
    """

    def __init__(
        self,
        server: ServerConnection,
        dialogue: Dialogue,
        display: Display,
        answerer: Answerer,
        *,
        models: list[str],
        api: str = "auto",
        out: Path | None = None,
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
        why: Callable[[], str] = str,
    ) -> None:
        self.dialogue = dialogue
        self.display = display
        self.models = models
        self.attached: list[Item] = []
        self.media: list[GeneratedMedia] = []
        self._answer_pieces: list[str] = []
        self._server = server
        self._answerer = answerer
        self._talk: Talk = completions_turn if api == "chat" else responses_turn
        self._may_fall_back = api == "auto"
        self._out = out
        self._around = around
        self._why = why
        self._before: tuple[Dialogue, list[Item]] | None = None

    @property
    def answer(self) -> str:
        """The text of the last answer."""
        return "".join(self._answer_pieces)

    def ask(self, text: str) -> None:
        """Send a message, show the answer, and ask the user for the decisions that it needs. Raises ChatFailed."""
        parts = [{"type": "input_text", "text": text}, *self.attached] if self.attached else text
        self.attached = []
        self._run_turns([{"role": "user", "content": parts}])

    def answer_again(self) -> None:
        """Request another answer to the last message. Raises ChatFailed."""
        if self._before is None:
            raise ChatFailed("There is no message to answer again.")
        before, items = self._before
        system, model = self.dialogue.system, self.dialogue.model
        self.dialogue = before.copy()
        self.dialogue.system = system
        if model != self.dialogue.model:
            self.dialogue.switch_model(model)
        self._run_turns(items)

    def clear(self) -> None:
        """Drop the conversation and its attachments, and start a new one with the same model."""
        self.dialogue.clear()
        self._before, self._answer_pieces, self.media, self.attached = None, [], [], []

    def _run_turns(self, items: list[Item]) -> None:
        self._before = (self.dialogue.copy(), items)
        self._answer_pieces, self.media = [], []
        while items:
            questions = self._run_turn(items)
            items = self._answerer.ask_all(questions)

    def _run_turn(self, items: list[Item]) -> list[Question]:
        try:
            return self._show_turn(items)
        except ChatFailed as error:
            unknown_model = "model" in error.code or self.dialogue.previous
            if not self._may_fall_back or error.status not in NO_RESPONSES or unknown_model:
                raise
        finally:
            self._may_fall_back = False
        self._talk = completions_turn
        self.display.notify("The server has no Responses API, so the agent's own tool calls are not shown.")
        return self._show_turn(items)

    def _show_turn(self, items: list[Item]) -> list[Question]:
        questions: list[Question] = []
        made: list[GeneratedMedia] = []
        events = self._talk(self._server, self.dialogue, items)
        with self._around(), self.display.turn(self.dialogue.model), closing(events):
            for event in events:
                self.display.show(event)
                match event:
                    case AnswerPiece(text):
                        self._answer_pieces.append(text)
                    case GeneratedMedia():
                        made.append(event)
                    case ApprovalRequest() | ClientToolCall():
                        questions.append(event)
                    case _:
                        pass
        self.media += made
        for one in made:
            kept = "save it with /save FILE or --out DIR" if self._out is None else write_media(self._out, one)
            self.display.notify(f"A {one.kind} ({one.suffix}, {size_of(one.content)}): {kept}")
        return questions

    def talk(self, reader: MessageReader) -> None:
        """Read and send messages until the end of input. Ctrl-C stops an answer, or leaves a question open."""
        with ctrl_c.ignore():
            while (text := reader.read_message(self.dialogue.model)) is not None:
                try:
                    with ctrl_c.interrupt_once():
                        self._handle_input(text)
                except KeyboardInterrupt:
                    self.display.notify("Stopped.")
                except EOFError:
                    return
                except ChatFailed as error:
                    self.display.notify(f"Error: {self.failure_text(error)}", error=True)

    def _handle_input(self, text: str) -> None:
        if command_in(text) is not None:
            run_command(self, text)
        elif text.strip():
            self.ask(text[1:] if text.startswith("//") else text)

    def failure_text(self, error: ChatFailed) -> str:
        """Return the error message, with more about the failure if known."""
        return " ".join(filter(None, [error.message, self._why()]))
