"""Commands as tools: a program with arguments from the model, run without a shell."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ..aio.subprocess import CommandRun, Grace, Launch, allowed_environment
from .modes import Danger
from .patterns import parse_allow
from .registry import OUTPUT_LIMIT, TIMEOUT, AgentTool, AllowWord, ToolContext
from .sandbox import Command
from .schema import Signature
from .tool_error import ToolError

GRACE = Grace(end=1.0, kill=1.0)


def command_tool(
    name: str,
    description: str,
    *,
    prefix: Sequence[str] = (),
    danger: Danger = "risky",
    allow: Iterable[AllowWord] = (),
    timeout: float = TIMEOUT,
    output_limit: int = OUTPUT_LIMIT,
    cwd: str | os.PathLike[str] | None = None,
    pass_env: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
) -> AgentTool:
    """Make a tool that runs a command: the arguments go to the program unchanged, without a shell.

    The model gets the command's output, stderr after stdout, and its exit code if that is not 0. At the end of the call, or
    on timeout, the command's whole process group is ended.

    Args:
        name: the tool's name for the model.
        description: the tool's description for the model.
        prefix: fixed first words of every command: program, subcommand. Without a prefix, the model names the program.
        danger: "safe" for commands that run without approval, "dangerous" for those that need it each time.
        allow: commands that the mode "allowlist" runs without approval: patterns ("git status"), or lists of words.
        timeout: seconds that a command may run.
        output_limit: maximum length of the output that the model gets, in characters.
        cwd: working directory; in a sandbox, it must exist there.
        pass_env: names of the server's environment variables to pass on besides harmless ones; "*" is a wildcard.
        env: further variables.

    Raises ValueError for contradictory settings.
    """
    fixed = tuple(prefix)
    environment, names = dict(env or {}), tuple(pass_env)
    directory = None if cwd is None else str(Path(cwd).resolve())

    def argv(arguments: Mapping[str, Any]) -> Sequence[str]:
        return (*fixed, *cast("list[str]", arguments.get("argv") or arguments.get("args") or ()))

    async def call(arguments: Mapping[str, Any], context: ToolContext) -> str:
        command = Command(_check_argv(argv(arguments)), allowed_environment(names, environment), directory)
        if context.sandbox is not None:
            command = context.sandbox.wrap(command)
        # A character has at most four bytes in UTF-8; `call_tool` then cuts to characters.
        return await _run_command(command, output_limit * 4)

    signature = Signature(_only_arguments if fixed else _whole_command, ToolContext)
    return AgentTool(
        name=name,
        description=description,
        parameters=signature.parameters,
        read=signature.read,
        call=call,
        danger=danger,
        timeout=timeout,
        output_limit=output_limit,
        allow=tuple([parse_allow(each) for each in allow]),
        argv=argv,
        argv_names=signature.names,
        sandboxable=True,
    )


def _only_arguments(args: list[str] = []) -> None:  # noqa: B006  (read, never called)
    """The signature of a command with a fixed prefix.

    Args:
        args: the words after the command's name, one to an entry. No shell looks at them: no quotes, pipes or globs.
    """


def _whole_command(argv: list[str]) -> None:  # read, never called
    """The signature of any command.

    Args:
        argv: the program and its arguments, one to an entry. No shell looks at them: no quotes, pipes or globs.
    """


def _check_argv(argv: Sequence[str]) -> Sequence[str]:
    if not argv or not argv[0]:
        raise ToolError("A command needs a program.")
    # The system ends words at NUL, so the program would get other words than the allowed ones.
    if any(["\0" in word for word in argv]):
        raise ToolError("A command cannot hold a NUL character.")
    return argv


async def _run_command(command: Command, limit: int) -> str:
    out, err = _BoundedOutput(limit), _BoundedOutput(limit)
    run = CommandRun(Launch(command.argv, None, command.env, command.cwd), GRACE, err.add)
    try:
        while data := await run.read():
            out.add(data)
    except OSError as error:
        raise ToolError(_start_error_text(error)) from error
    finally:
        await run.stop()
    text = "\n".join([piece for piece in (out.text, err.text) if piece])
    if run.exit_code:
        # Includes the output: a model can correct itself from an error message, but not from a number.
        raise ToolError(f"The command ended with exit code {run.exit_code}.\n{text}".rstrip())
    return text or "The command wrote nothing."


def _start_error_text(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "There is no such program."
    if isinstance(error, PermissionError):
        return "The program may not be run."
    return "The command could not be started."


class _BoundedOutput:
    """The beginning of an output, in bytes; the rest is read and dropped, so that the command does not block."""

    def __init__(self, limit: int) -> None:
        self._data = bytearray()
        self._limit = limit

    def add(self, data: bytes) -> None:
        room = self._limit - len(self._data)
        self._data += data[: max(0, room)]

    @property
    def text(self) -> str:
        return self._data.decode("utf-8", "replace").rstrip()
