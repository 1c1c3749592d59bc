"""A command as an agent: Claude Code, Codex, or any program that reads a prompt and writes an answer.

    SubprocessBackend(["claude", "-p", "--output-format", "stream-json", "--verbose"], output="claude")

One process for each turn, in a separate process group, which is ended when the turn is over. POSIX only.
"""

from ...aio.subprocess import Grace
from .backend import SubprocessBackend
from .output import RecordReader
from .prompt import last_message, whole_conversation

__all__ = ("Grace", "RecordReader", "SubprocessBackend", "last_message", "whole_conversation")
