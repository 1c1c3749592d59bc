"""Handling of Ctrl-C in a conversation: it stops the current answer and never ends the program by accident."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager


def ignore() -> AbstractContextManager[None]:
    """A context in which Ctrl-C does nothing, except inside `interrupt_once`."""
    return _use_handler(_on_ignored)


def interrupt_once() -> AbstractContextManager[None]:
    """A context in which only the first Ctrl-C raises KeyboardInterrupt: users press it again while the agent stops."""
    return _use_handler(_on_interrupt)


@contextmanager
def _use_handler(handler: Callable[[int, object], None]) -> Generator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _on_ignored(number: int, frame: object) -> None:
    # Not SIG_IGN: programs that the agent starts would inherit it.
    pass


def _on_interrupt(number: int, frame: object) -> None:
    signal.signal(signal.SIGINT, _on_ignored)
    raise KeyboardInterrupt
