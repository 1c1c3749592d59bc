"""Tool calls of a Responses stream under construction: the client's, and the agent's own."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from ....events import ToolResult
from ...presentation import tool_ended_line, tool_running_line
from ..event_types import CallDeltaType, InItem, ResponseStatusEvent, Step
from ..response_types import CallExtras, McpCall, ResponseCustomToolCall, ResponseFunctionCall
from .items import Closing, EventWriter, ItemWriter


def status_event(text: str, *, done: bool) -> ResponseStatusEvent:
    """Return a status line, which Open WebUI shows above the answer."""
    return {"type": "status", "data": {"description": text, "done": done}}


class CallWriter(ItemWriter):
    """A call whose arguments may come in deltas, interleaved with other items.

    `delta_type` is the type of the delta events.
    """

    delta_type: ClassVar[CallDeltaType]

    def __init__(self, out: EventWriter, id: str, index: int, call_id: str, name: str) -> None:
        super().__init__(out, id, index)
        self.call_id = call_id
        self.name = name
        self._pieces: list[str] = []
        self._place: InItem = {"item_id": id, "output_index": index}
        self._head = out.delta_head(self.delta_type, self._place)

    @property
    def _arguments(self) -> str:
        return "".join(self._pieces)

    def add(self, arguments: str) -> bytes:
        """Append to the arguments."""
        self._pieces.append(arguments)
        return self._out.write_deltas(self._head, [arguments])

    @abstractmethod
    def end_arguments(self) -> bytes:
        """Mark the arguments as complete: the tool can be run."""


class _ClientCall(CallWriter):
    """A call for the client. Clients run every call that is done, whatever its status: a truncated call is never done."""

    def __init__(
        self,
        out: EventWriter,
        id: str,
        index: int,
        call_id: str,
        name: str,
        *,
        extras: CallExtras,
    ) -> None:
        super().__init__(out, id, index, call_id, name)
        self._extras = extras

    def end_arguments(self) -> bytes:
        # Not only at the end of the turn: the client can run the tool while the agent continues.
        return self.close("completed")

    def break_off(self) -> bytes:
        if self.open:
            self.status = "incomplete"
        return b""


class FunctionCallWriter(_ClientCall):
    """A function call for the client to run."""

    delta_type = "response.function_call_arguments.delta"

    def item(self) -> ResponseFunctionCall:
        return {
            "id": self.id,
            "type": "function_call",
            "status": self.status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self._arguments,
            **self._extras,
        }

    def _end_content(self, status: Closing) -> bytes:
        return self._out.write(
            {
                "type": "response.function_call_arguments.done",
                **self._place,
                "name": self.name,
                "arguments": self._arguments,
            }
        )


class CustomCallWriter(_ClientCall):
    """A call of a free-text tool for the client to run."""

    delta_type = "response.custom_tool_call_input.delta"

    def item(self) -> ResponseCustomToolCall:
        return {
            "id": self.id,
            "type": "custom_tool_call",
            "status": self.status,
            "call_id": self.call_id,
            "name": self.name,
            "input": self._arguments,
            **self._extras,
        }

    def _end_content(self, status: Closing) -> bytes:
        return self._out.write(
            {"type": "response.custom_tool_call_input.done", **self._place, "input": self._arguments}
        )


class McpCallWriter(CallWriter):
    """A tool call that the agent runs itself, written as a call on an MCP server with the agent's name.

    `approval` is the id of the approval request for this call, if there was one.
    """

    delta_type = "response.mcp_call_arguments.delta"
    is_answer = False

    def __init__(
        self,
        out: EventWriter,
        id: str,
        index: int,
        call_id: str,
        name: str,
        *,
        server_label: str,
        approval: str | None,
    ) -> None:
        super().__init__(out, id, index, call_id, name)
        self._server_label = server_label
        self._approval = approval
        self._ready = False
        self._result: ToolResult | None = None

    def item(self) -> McpCall:
        call: McpCall = {
            "id": self.id,
            # `function_call` would ask the client to run it: Codex, opencode and pi would call the server in an endless loop.
            "type": "mcp_call",
            "status": "failed" if self._failed else self.status,
            "server_label": self._server_label,
            "name": self.name,
            "arguments": self._arguments,
            "output": None if self._result is None or self._failed else self._result.output,
            "error": None,
        }
        if self._result is not None and self._failed:
            call["error"] = {
                "type": "mcp_tool_execution_error",
                "content": [{"type": "text", "text": self._result.output}],
            }
        if self._approval is not None:
            call["approval_request_id"] = self._approval
        return call

    def begin(self) -> bytes:
        return super().begin() + self._write_step(
            "response.mcp_call.in_progress", tool_running_line(self.name), done=False
        )

    def end_arguments(self) -> bytes:
        """Mark the arguments as complete; the result is pending."""
        # `done` is sent once, though both the end of the call and its result lead here.
        if self._ready:
            return b""
        self._ready = True
        return self._out.write(
            {"type": "response.mcp_call_arguments.done", **self._place, "arguments": self._arguments}
        )

    def add_result(self, result: ToolResult) -> bytes:
        """Return the events for the tool's result, which ends the call."""
        whole = self.end_arguments()
        self._result = result
        return whole + self.close("completed")

    @property
    def _failed(self) -> bool:
        return self._result is not None and (self._result.is_error or self._result.denied)

    def _write_step(self, step: Step, text: str, *, done: bool) -> bytes:
        return self._out.write({"type": step, **self._place, "event": status_event(text, done=done)})

    def _end_content(self, status: Closing) -> bytes:
        if status == "incomplete":
            return b""
        ended = tool_ended_line(self._result or ToolResult(self.call_id, ""), self.name)
        step: Step = "response.mcp_call.failed" if self._failed else "response.mcp_call.completed"
        return self.end_arguments() + self._write_step(step, ended, done=True)
