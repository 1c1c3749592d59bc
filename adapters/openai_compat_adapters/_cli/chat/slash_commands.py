"""Slash commands: input for the program, not for the agent."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..terminal import visible
from .answer_events import ChatFailed
from .attachments import read_attachment, write_new_file

if TYPE_CHECKING:
    from .session import ChatSession

COMMANDS = {
    "/help": "list the commands",
    "/model": "[NAME]  switch to another agent, which gets the whole conversation; without NAME, list the agents",
    "/system": "[TEXT]  give the agent instructions; without TEXT, remove them",
    "/clear": "start a new conversation",
    "/again": "regenerate the last answer",
    "/image": "PATH  send an image with the next message",
    "/file": "PATH  send a file with the next message",
    "/tools": "show tool results in full, or shortened again",
    "/copy": "copy the last answer",
    "/save": "FILE  save the image or audio of the last answer, or else its text",
    "/quit": "exit, like Ctrl-D",
}

CLIPBOARDS = (("pbcopy",), ("wl-copy",), ("xclip", "-selection", "clipboard"), ("clip.exe",))

_WORD = re.compile(r"/[a-zA-Z]*(?=\s|$)")


def command_in(text: str) -> str | None:
    """Return the command that a message begins with, known or not; None if the message is for the agent."""
    found = _WORD.match(text)
    return None if found is None else found[0]


def run_command(session: ChatSession, text: str) -> None:
    """Run a command. Raises ChatFailed if the command is wrong."""
    word = command_in(text) or ""
    argument = text[len(word) :].strip()
    if word not in HANDLERS:
        raise ChatFailed(
            f"There is no command {word}; /help tells which there are, and /{word} … sends {word} … to the agent."
        )
    HANDLERS[word](session, argument)


def _help(session: ChatSession, argument: str) -> None:
    rows = [f"{name:9}{does}" for name, does in COMMANDS.items()]
    session.display.notify(
        "\n".join([*rows, "Alt+Enter, or \\ at the end of a line, adds a line. //x sends /x to the agent."])
    )


def _model(session: ChatSession, name: str) -> None:
    if not name:
        session.display.notify(
            f"Current agent: {visible(session.dialogue.model)}. Agents: {visible(', '.join(session.models) or 'not listed by the server')}"
        )
        return
    if session.models and name not in session.models:
        raise ChatFailed(f"There is no model {name}; there are: {visible(', '.join(session.models))}")
    session.dialogue.switch_model(name)


def _system(session: ChatSession, text: str) -> None:
    session.dialogue.system = text
    session.display.notify("The agent gets these instructions with each message." if text else "Instructions removed.")


def _clear(session: ChatSession, argument: str) -> None:
    session.clear()
    session.display.notify("New conversation.")


def _again(session: ChatSession, argument: str) -> None:
    session.answer_again()


def _attach(session: ChatSession, path: str) -> None:
    part, told = read_attachment(path, picture=False)
    session.attached.append(part)
    session.display.notify(f"{told} will be sent with your next message.")


def _picture(session: ChatSession, path: str) -> None:
    part, told = read_attachment(path, picture=True)
    session.attached.append(part)
    session.display.notify(f"{told} will be sent with your next message.")


def _tools(session: ChatSession, argument: str) -> None:
    session.display.all_results = not session.display.all_results
    session.display.notify(
        "Tool results are shown in full." if session.display.all_results else "Tool results are shortened."
    )


def _copy(session: ChatSession, argument: str) -> None:
    if not session.answer:
        raise ChatFailed("There is no answer to copy.")
    for command in CLIPBOARDS:
        if shutil.which(command[0]):
            done = subprocess.run(command, input=session.answer.encode(), capture_output=True, check=False)  # noqa: S603  (a constant)
            if done.returncode == 0:
                session.display.notify("Copied.")
                return
    # By the terminal itself, if it allows that (OSC 52): this works over ssh too.
    sys.stdout.write(f"\x1b]52;c;{base64.b64encode(session.answer.encode()).decode()}\x07")
    sys.stdout.flush()
    session.display.notify("Copied, if this terminal lets programs use the clipboard.")


def _save(session: ChatSession, name: str) -> None:
    if not name:
        raise ChatFailed("Say where to: /save FILE.")
    if session.media:
        content = session.media[-1].content
    elif session.answer:
        content = f"{session.answer}\n".encode()
    else:
        raise ChatFailed("There is no answer to save.")
    session.display.notify(write_new_file(Path(name).expanduser(), content))


def _quit(session: ChatSession, argument: str) -> None:
    raise EOFError


HANDLERS: dict[str, Callable[[ChatSession, str], None]] = {
    "/help": _help,
    "/model": _model,
    "/system": _system,
    "/clear": _clear,
    "/again": _again,
    "/image": _picture,
    "/file": _attach,
    "/tools": _tools,
    "/copy": _copy,
    "/save": _save,
    "/quit": _quit,
}
