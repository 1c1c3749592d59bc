"""Runs a command for each turn."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from ...agent_request import AgentRequest
from ...aio.subprocess import CommandRun, Grace, Launch, allowed_environment
from ...backend import Capabilities, RunContext
from ...errors import AgentError, InvalidRequest
from ...events import AgentEvent
from .output import Output, OutputFormat, make_output
from .prompt import last_message
from .redaction import Redact, Redaction
from .stderr import StderrLog

PROMPT_ARGUMENT = "{prompt}"
"""The argument that the prompt replaces; without this argument, the prompt is written to stdin."""

Command: TypeAlias = Sequence[str] | Callable[[AgentRequest], Sequence[str]]


class SubprocessBackend:
    """Makes an agent of a command: one process for each turn, whose output is the answer.

    The turn fails (502) if the command cannot be started, exits with anything but 0, or ends before its output is
    complete. When the turn is over, for whatever reason, the whole process group is ended.

    Args:
        command: the program and its arguments, never run through a shell; or a function of the request that returns
            them, for instance to choose by `request.model`. The prompt replaces an argument "{prompt}", which other users
            of the machine can see; without that argument, the prompt is written to stdin.
        output: the format of stdout: "text", "claude" (`claude -p --output-format stream-json --verbose`), "codex"
            (`codex exec --json`), or a function that makes a RecordReader for one JSON object per line.
        prompt: makes the prompt: `last_message`, `whole_conversation` (as text), or any function of the request.
        pass_env: names of the server's environment variables that the command gets besides harmless ones such as PATH
            and HOME; "*" matches any characters ("ANTHROPIC_*").
        env: further variables for the command.
        cwd: the working directory of the command.
        redact: removes secrets from a text. Applied to every line of the answer, of tools' arguments and results, and of
            stderr, before they are sent or logged; the answer is then streamed line by line.
        line_limit: maximum bytes of a line of JSON output; a longer line fails the turn.
        grace: how long to wait for the command to end.
        capabilities: the capabilities of the agent, if it accepts more than text.

    Raises TypeError for a command that is a single string, ValueError for an empty one.
    """

    def __init__(
        self,
        command: Command,
        *,
        output: OutputFormat = "text",
        prompt: Callable[[AgentRequest], str] = last_message,
        pass_env: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        redact: Redact | None = None,
        line_limit: int = 1024 * 1024,
        grace: Grace | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        if isinstance(command, str):
            raise TypeError("a command is a list of arguments, not one string: there is no shell that would split it")
        if not callable(command) and not command:
            raise ValueError("a command needs at least the name of a program")
        make_output(output, line_limit, lambda line: None)  # fail on a wrong format now, not in the first turn
        self._command = command
        self._output: OutputFormat = output
        self._prompt = prompt
        self._pass_env = tuple(pass_env)
        self._env = dict(env or {})
        self._cwd = cwd
        self._redact = redact
        self._line_limit = line_limit
        self._grace = grace or Grace()
        self.capabilities = capabilities or _text_capabilities(prompt)

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Start the command, and yield the events in its output."""
        # `str` leaves text unchanged.
        redact = self._redact or str
        stderr = StderrLog(context, redact)
        output = make_output(self._output, self._line_limit, lambda line: stderr.feed(f"stdout: {line}\n".encode()))
        view = Redaction(redact).apply if self._redact else iter
        command = CommandRun(self._launch(request), self._grace, stderr.feed)
        try:
            while data := await _read_output(command):
                for item in view(output.feed(data)):
                    yield item
                # The output is complete: do not wait for anything that still runs, such as a server left in the
                # background.
                if output.complete:
                    command.expect_end()
        finally:
            await command.stop()
        self._check_exit(command, output, stderr, context)
        for item in view(output.end()):
            yield item

    def _launch(self, request: AgentRequest) -> Launch:
        prompt = self._prompt(request)
        argv = list(self._command(request) if callable(self._command) else self._command)
        # With the prompt in the arguments, stdin is empty, so that a command that reads stdin does not hang.
        stdin = None if PROMPT_ARGUMENT in argv else prompt.encode("utf-8", "replace")
        argv = [
            _as_argument(prompt, argv, index) if word == PROMPT_ARGUMENT else word for index, word in enumerate(argv)
        ]
        return Launch(argv, stdin, allowed_environment(self._pass_env, self._env), self._cwd)

    def _check_exit(self, command: CommandRun, output: Output, stderr: StderrLog, context: RunContext) -> None:
        """Raise AgentError unless the command exited with 0, or did not exit on its own but completed its output."""
        code, last_lines = command.exit_code, stderr.last_lines()
        if code is None:
            context.logger.warning("%s: the command did not exit, and was ended", context.request_id)
        if code == 0 or (code is None and output.complete):
            return
        outcome = "did not exit" if code is None else f"exited with {code}"
        context.logger.warning(
            "%s: the command %s; its last words: %s", context.request_id, outcome, last_lines or "none"
        )
        raise AgentError("The agent's command failed.", status=502, code="agent_command_failed")


def _text_capabilities(prompt: Callable[[AgentRequest], str]) -> Capabilities:
    return Capabilities(
        history="last_user" if prompt is last_message else "full",
        client_tools=False,
        vision=False,
        audio_input=False,
        files=False,
        structured_output=False,
        parameters=frozenset(),
    )


def _as_argument(prompt: str, argv: list[str], index: int) -> str:
    """The prompt as an argument that no program takes for an option, since the client must not choose options."""
    if "\0" in prompt:
        raise InvalidRequest("This agent cannot take a prompt with a NUL character.", code="invalid_value")
    option = prompt.startswith("-") and "--" not in argv[:index]
    return " " + prompt if option else prompt


async def _read_output(command: CommandRun) -> bytes:
    """Read the next output. Raises an error for the client if the command cannot be started."""
    try:
        return await command.read()
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise InvalidRequest("The prompt is too long for this agent.", code="context_length_exceeded") from error
        text = "The agent's command could not be started."
        raise AgentError(text, status=502, code="agent_command_failed") from error
