"""Runs `openai-compat chat`: chooses the server, the display and the exit code."""

from __future__ import annotations

import shutil
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from io import TextIOWrapper
from os import fstat
from pathlib import Path
from typing import Any

import click

from .._terminal_colors import wants_colors
from .chat import ctrl_c
from .chat.answer_events import ChatFailed
from .chat.connection import ServerConnection
from .chat.dialogue import Dialogue
from .chat.display import Display, PlainDisplay
from .chat.json_display import JsonDisplay
from .chat.line_reader import LineReader, without_echo
from .chat.questions import Answerer
from .chat.session import ChatSession
from .chat_options import ChatOptions, read_tools
from .terminal import visible

STOPPED, UNDECIDED = 130, 3
"""Exit codes: stopped by Ctrl-C; nobody was there to decide."""

MIN_COLUMNS = 40
"""Terminals with fewer columns get plain text instead of Markdown."""


def run(options: ChatOptions, targets: list[str]) -> int:
    """Run the conversation and return the exit code. Raises click.ClickException."""
    try:
        return _chat(options, targets)
    except KeyboardInterrupt:  # before or after the conversation
        return STOPPED


def _chat(options: ChatOptions, targets: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks characters shows replacements
            stream.reconfigure(errors="replace")
    with ExitStack() as stack:
        why: Callable[[], str] = str
        if options.url is not None:
            server = ServerConnection(options.url, options.api_key or "")
        else:
            server, why = stack.enter_context(_connect_in_process(targets, options))
        stack.callback(server.close)
        models, is_ours = _chat_models(server, options)
        if options.model is None and len(models) != 1:
            raise ChatFailed(f"Choose one with --model: {visible(', '.join(models))}")
        dialogue = Dialogue(options.model or models[0], is_ours, options.system or "")
        dialogue.tools = [] if options.tools is None else read_tools(options.tools)
        display = _make_display(options)
        interactive = options.message is None and sys.stdin.isatty()
        is_rich = not isinstance(display, PlainDisplay)
        reader: Any = LineReader() if not (interactive and is_rich) else _make_prompt_reader(options)
        # Questions need a person who sees them and can type.
        ask = reader.read_answer if sys.stdin.isatty() and (is_rich or sys.stderr.isatty()) else None
        answerer = Answerer(display, ask, approve=options.approve)
        session = ChatSession(
            server,
            dialogue,
            display,
            answerer,
            models=models,
            api=options.api,
            out=None if options.out is None else Path(options.out),
            around=without_echo if is_rich else ExitStack,
            why=why,
        )
        if interactive:
            _print_welcome(session)
            session.talk(reader)
            return 0
        piped = "" if sys.stdin.isatty() or (options.message is not None and not _is_piped()) else sys.stdin.read()
        return _send_once(session, answerer, "\n\n".join([text for text in (options.message, piped) if text]))


def _send_once(session: ChatSession, answerer: Answerer, text: str) -> int:
    """Send one message and return the exit code."""
    try:
        with ctrl_c.interrupt_once():
            session.ask(text)
    except KeyboardInterrupt:
        return STOPPED
    except EOFError:
        return UNDECIDED
    except ChatFailed as error:
        raise ChatFailed(session.failure_text(error)) from error
    finally:
        if isinstance(session.display, JsonDisplay):
            session.display.close()
    return UNDECIDED if answerer.missed else 0


def _is_piped() -> bool:
    """True if stdin is a pipe or a file; a socket or a device may never end."""
    try:
        mode = fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # stdin was replaced and has no file descriptor
        return True
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


@contextmanager
def _connect_in_process(
    targets: list[str], options: ChatOptions
) -> Generator[tuple[ServerConnection, Callable[[], str]]]:
    from ..transport import SyncTransport  # noqa: PLC0415  (not needed for a remote server)
    from .chat.last_failure import last_failure  # noqa: PLC0415
    from .load_agents import as_server, load, warnings_of  # noqa: PLC0415

    agents = load(targets)
    for warning in warnings_of(agents):
        click.echo(warning, err=True)
    with last_failure(options.log_level) as why, SyncTransport.lasting(as_server(agents)) as transport:
        yield ServerConnection("http://localhost/v1", options.api_key or "", transport), why


def _chat_models(server: ServerConnection, options: ChatOptions) -> tuple[list[str], bool]:
    """Return the chat models, and True if the server is openai-compat, which lists the capabilities of its models."""
    url = server.url
    try:
        models = server.models()
    except ChatFailed as error:
        if options.model is None or error.status not in (404, 405, 501):
            raise
        return [], False
    if server.url != url:
        click.echo(f"The API is at {server.url}.", err=True)
    can_chat = [str(model["id"]) for model in models if model.get("capabilities", {}).get("chat", True)]
    return can_chat, any(["capabilities" in model for model in models])


def _make_display(options: ChatOptions) -> Display:
    if options.json or options.jsonl:
        return JsonDisplay(every_event=options.jsonl)
    is_narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < MIN_COLUMNS
    is_written = (sys.stdout.encoding or "").lower().startswith("utf")
    if options.plain or is_narrow or not is_written or not wants_colors(sys.stdout) or find_spec("rich") is None:
        return PlainDisplay(verbose=sys.stderr.isatty(), reasoning=options.reasoning)
    from rich.console import Console  # noqa: PLC0415  (not needed in a pipe)

    from .chat.rich_display import RichDisplay  # noqa: PLC0415

    console = Console(markup=False, emoji=False, highlight=False, force_terminal=True)
    return RichDisplay(console, live=sys.stdout.isatty(), reasoning=options.reasoning)


def _make_prompt_reader(options: ChatOptions) -> Any:
    if find_spec("prompt_toolkit") is None:
        return LineReader()
    from prompt_toolkit.history import InMemoryHistory  # noqa: PLC0415

    from .chat.prompt_reader import PromptReader, open_history  # noqa: PLC0415

    return PromptReader(InMemoryHistory() if options.no_history else open_history())


def _print_welcome(session: ChatSession) -> None:
    if not all([find_spec(package) for package in ("rich", "prompt_toolkit")]):
        session.display.notify("Plain text: for Markdown and a history, pip install 'openai-compat[cli]'")
    model = visible(session.dialogue.model)
    session.display.notify(f"Chatting with {model}. Ctrl-C stops an answer, Ctrl-D exits; see /help.")
