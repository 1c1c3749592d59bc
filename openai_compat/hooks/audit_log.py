"""A record of who had which agent do what: one JSON object a line, appended before the work goes on."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..agents.setting_types import check_setting
from ..events import AgentEvent, Paused, ToolCallReady, ToolResult
from ..policies.hooks import Hooks, TurnInfo, TurnOutcome
from ..wire.json import dumps


class AuditLog(Hooks):
    """Appends to a file what agents were told to do, and did: who, when, which tools, who has approved them, how it ended.

    Each line is written by one call to the end of the file, so processes on one machine can share it; and before the agent
    goes on, so that a process which is killed has told all that it has done. Prompts, answers and results are not in it.
    Lines of one run have the same `turn`, `index` and `run`; their `event` is

    - `started`: with `request_id`, `principal`, `api`, `agent`, `model`, `conversation`, `response`;
    - `decided`: what a person has decided about a call of an earlier turn: `call`, `approved`, `always`, `reason`, and `changed`
      if the arguments are theirs;
    - `tool`: a call: `call`, `name`, `executor`, and the SHA-256 of its arguments, or these;
    - `result`: `call`, and whether it is an error, or was denied;
    - `asked`: a call that waits for a person;
    - `ended`: `finish`, `error`, `cancelled`, `input_tokens`, `output_tokens`, `ms`.

    Raises TypeError for a wrong setting, OSError if the file cannot be opened.

    Args:
        path: the file; it is made for its owner alone, if it is not there. Rotate it by renaming: each line opens it anew.
        arguments: whether the arguments of tools are written as they are.
        sync: wait with each line until it is on the disk.
    """

    def __init__(self, path: str | os.PathLike[str], *, arguments: bool = False, sync: bool = False) -> None:
        check_setting("arguments", arguments, bool)
        check_setting("sync", sync, bool)
        self._path = Path(path).absolute()
        self._arguments = arguments
        self._sync = sync
        self._append(b"")  # that it cannot be written is to be known at once

    def started(self, turn: TurnInfo) -> None:
        """Who asks, and what was decided about what waits."""
        request = turn.request
        self._write(
            turn,
            "started",
            request_id=turn.request_id,
            principal=turn.principal.id,
            api=turn.api,
            agent=turn.agent,
            model=request.model,
            conversation=request.conversation_id,
            response=turn.response_id,
        )
        if request.resume is not None:
            for call_id, decision in request.resume.decisions.items():
                self._write(
                    turn,
                    "decided",
                    call=call_id,
                    approved=decision.approved,
                    always=decision.always,
                    reason=decision.reason,
                    changed=decision.arguments is not None,
                )

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        """Calls of tools, their results, and what waits for a person."""
        match item:
            case ToolCallReady(call_id, name, arguments, executor):
                told = {"arguments": arguments} if self._arguments else {"arguments_sha256": _digest(arguments)}
                self._write(turn, "tool", call=call_id, name=name, executor=executor, **told)
            case ToolResult(call_id=call_id, is_error=is_error, denied=denied):
                self._write(turn, "result", call=call_id, is_error=is_error, denied=denied)
            case Paused(pending=pending):
                for call in pending:
                    if call.waits_for == "approval":
                        told = {"arguments_sha256": _digest(call.arguments)}
                        told = {"arguments": call.arguments} if self._arguments else told
                        self._write(turn, "asked", call=call.call_id, name=call.name, **told)
            case _:
                pass

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """Write the line that tells how a run has ended."""
        usage, error = outcome.usage, outcome.error
        self._write(
            turn,
            "ended",
            finish=outcome.finish,
            error=None if error is None else error.code or error.type,
            cancelled=outcome.cancelled,
            input_tokens=None if usage is None else usage.input_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            ms=int(outcome.seconds * 1000),
        )

    def _write(self, turn: TurnInfo, event: str, **fields: Any) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "event": event, "turn": turn.id, "index": turn.index, "run": turn.run, **fields}
        self._append(dumps(line) + b"\n")

    def _append(self, line: bytes) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            written = os.write(file, line)
            if written < len(line):  # a full disk: half a line would be taken for a whole one
                raise OSError(f"only {written} of {len(line)} bytes could be written")
            if self._sync:
                os.fsync(file)
        finally:
            os.close(file)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
