"""Reads messages in a terminal, with editing keys, a history and completion of commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import clear_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output

from ..terminal import visible
from .line_reader import drop_typeahead
from .slash_commands import COMMANDS

KEY_HINTS = " · Enter sends · Alt+Enter adds a line · /help · Ctrl-D exits "


class PromptReader:
    """Reads messages and answers. `input` and `output` stand in for the terminal."""

    def __init__(self, history: History, input: Input | None = None, output: Output | None = None) -> None:
        self._messages: PromptSession[str] = PromptSession(
            history=history,
            key_bindings=_key_bindings(),
            completer=WordCompleter(list(COMMANDS), sentence=True),
            reserve_space_for_menu=4,
            input=input,
            output=output,
        )
        self._answers: PromptSession[str] = PromptSession(history=InMemoryHistory(), input=input, output=output)

    def read_message(self, model: str) -> str | None:
        """Return the next message; "" if the user aborted it, None at the end of input."""
        toolbar = f" {visible(model)}{KEY_HINTS}"
        try:
            return self._messages.prompt(
                FormattedText([("bold ansicyan", "› ")]),
                prompt_continuation="  ",
                bottom_toolbar=toolbar,
                # The prompt reads Ctrl-C as a key. The signal can only arrive before or after the prompt, and then
                # prompt_toolkit would print a traceback ("Application is not running").
                handle_sigint=False,
            )
        except KeyboardInterrupt:
            return ""
        except EOFError:
            return None

    def read_answer(self, prompt: str) -> str:
        """Read one line in answer to a question. Raises EOFError and KeyboardInterrupt."""
        drop_typeahead()
        clear_typeahead(self._answers.app.input)
        return self._answers.prompt(FormattedText([("ansiyellow", prompt)]))


def _key_bindings() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def begin_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.current_line_before_cursor.endswith("\\") and buffer.document.is_cursor_at_the_end:
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    return keys


def open_history() -> History:
    """The input history: a file in the user's state folder that nobody else can read, or memory if that fails."""
    home = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME")
    file = Path(home or "~/.local/state").expanduser() / "openai-compat" / "chat-history"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        file.chmod(0o600)
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return InMemoryHistory()
    return FileHistory(file)
