"""Checks of tool calls: client tool calls and results are passed on, and the agent's own calls are never shown."""

from __future__ import annotations

import json
from typing import Any

from ..answer import NOTHING, Answer
from ..subject import ObservedExchange
from .base import Examination, expect, skip


class ToolChecks(Examination):
    """Checks of tool calls. Those for client tools are skipped for agents that do not accept them."""

    @property
    def tool_exchanges(self) -> dict[str, ObservedExchange]:
        """The plain and the streamed answer to `tool_prompt`."""
        watched = self.watched(self.subject())
        if watched is not None and not watched.capabilities.client_tools:
            skip("the agent does not take the client's tools (`Capabilities.client_tools`)")
        body = self.body(self.tool_prompt, tools=list(self.tools))
        return self.once("calling", lambda: {"plain": self.ask(body), "streamed": self.ask(body | {"stream": True})})

    @property
    def calls(self) -> dict[str, Answer]:
        """The answers with a tool call."""
        answers = {how: exchange.answer for how, exchange in self.tool_exchanges.items()}
        found = {how: answer for how, answer in answers.items() if answer.tool_calls}
        if not found:
            skip("the agent called no tool; set `tool_prompt` and `tools` so that it does")
        return found

    def test_the_agent_calls_the_clients_tool(self) -> None:
        """The agent calls a tool of the client for `tool_prompt`.

        If it does not, the prompt does not lead to a call, or the call is lost between agent and client. To fix: set a
        `tool_prompt` that needs one of `tools`, pass `request.tools` to the model, and yield its calls.
        """
        answers = {how: exchange.answer for how, exchange in self.tool_exchanges.items()}
        if self.tool_prompt == Examination.tool_prompt and not any([a.tool_calls for a in answers.values()]):
            skip("the agent called no tool; set `tool_prompt` and `tools` so that it does")
        for how, answer in answers.items():
            shown = answer.body[:300].decode("utf-8", "replace")
            expect(answer.tool_calls, f"no tool call in the {how} answer (status {answer.status}): {shown}")

    def test_the_pieces_of_a_tool_call_fit_together(self) -> None:
        """The pieces of a tool call fit together: `index` in each piece; id, type and name in the first one only.

        Clients join pieces by `index`, and concatenate id, name and arguments: a value that is sent twice is there
        twice. To fix: send `index` with every piece, and `id`, `type` and the name with the first piece of a call only.
        Give each call its own id.
        """
        for how, answer in self.calls.items():
            wrong = _pieces_fault(answer.tool_call_pieces, streamed=how == "streamed")
            expect(not wrong, f"{how}: {wrong}: {json.dumps(answer.tool_call_pieces)[:400]}")

    def test_a_tool_calls_arguments_are_a_json_object(self) -> None:
        """The arguments of a tool call are the text of a JSON object.

        Clients parse `arguments`, and drop the call or the whole answer if they cannot. To fix: serialize a JSON object, and send
        all of it.
        """
        for how, answer in self.calls.items():
            for call in answer.tool_calls:
                parsed = _parse_json(call["arguments"])
                expect(isinstance(parsed, dict), f"{how}: {call['name']} was called with {call['arguments']!r}")

    def test_an_answer_with_tool_calls_finishes_for_tool_calls(self) -> None:
        """An answer with tool calls has the finish_reason "tool_calls".

        Clients only run the tools for this reason; with "stop" the conversation just ends. To fix: send "tool_calls" whenever the
        answer contains calls of client tools.
        """
        for how, answer in self.calls.items():
            reasons = answer.finish_reasons
            expect(reasons[-1:] == ["tool_calls"], f"{how}: finish_reason is {reasons}, there are calls")

    def test_streamed_and_plain_answers_call_the_same(self) -> None:
        """Streamed and plain answers have the same tool calls, in the same order, with the same arguments.

        They must not depend on `stream`. To fix: make both answers from the same events. If the agent's calls vary from run to
        run, set `repeatable = False`.
        """
        if not self.repeatable:
            skip("the agent is declared not `repeatable`")
        calls = {how: [(c["name"], _parse_json(c["arguments"])) for c in a.tool_calls] for how, a in self.calls.items()}
        if len(calls) == 2:
            expect(calls["plain"] == calls["streamed"], f"plain {calls['plain']}, streamed {calls['streamed']}")

    def test_only_tools_that_may_be_called_are_called(self) -> None:
        """The agent only calls tools that the client offers, and none with `tool_choice: "none"`.

        A client cannot run a tool that it did not offer; with `tool_choice: "none"` it expects an answer without calls.
        To fix: pass `request.tools` and `request.tool_choice` on to the model.
        """
        offered = {tool[tool["type"]]["name"] for tool in self.tools}
        for how, answer in self.calls.items():
            called = {call["name"] for call in answer.tool_calls}
            expect(called <= offered, f"{how}: called {sorted(called)}, offered were {sorted(offered)}")
        answer = self.ask(self.body(self.tool_prompt, tools=list(self.tools), tool_choice="none")).answer
        shown = answer.body[:300].decode("utf-8", "replace")
        expect(answer.status == 200, f'with `tool_choice: "none"` the answer is {answer.status}: {shown}')
        expect(not answer.tool_calls, f'called {answer.tool_calls} in spite of `tool_choice: "none"`')

    def test_a_tools_result_reaches_the_agent(self) -> None:
        """The result of a tool call reaches the agent, which uses it in its answer.

        If it does not, the user waits for nothing. To fix: read the result from the last message of the request (role
        "tool"; also in `AgentRequest.resume`). If your agent uses the result in other words, set `tool_answer`.
        """
        first = next(iter(self.calls.values()))
        body = self.body(self.tool_prompt, tools=list(self.tools))
        results = [{"role": "tool", "tool_call_id": c["id"], "content": self.tool_result} for c in first.tool_calls]
        body["messages"] += [_assistant_message(first), *results]
        answer = self.ask(body).answer
        shown = answer.body[:400].decode("utf-8", "replace")
        expect(answer.status == 200, f"the tool's result was answered with {answer.status}: {shown}")
        expect(self.tool_answer in answer.said(), f"{self.tool_answer!r} of the result is not in the answer: {shown}")

    def test_the_agents_own_tools_are_not_shown_as_tool_calls(self) -> None:
        """Calls of the agent's own tools are not shown to the client as tool calls.

        Clients run every call that they see: a call of an unknown tool ends in an error, or in an endless loop. To fix:
        show such a call as a status line, or not at all; `tool_calls` is for the client's tools only.
        """
        for how, answer in self._answers_without_tools().items():
            expect(not answer.tool_call_pieces, f"{how}: {answer.tool_call_pieces} without any tool in the request")
            expect("tool_calls" not in answer.finish_reasons, f"{how}: finish_reason is tool_calls without any tool")

    def _answers_without_tools(self) -> dict[str, Answer]:
        if self.own_tool_prompt is None:
            return {"plain": self.plain.answer, "streamed": self.streamed.answer}
        body = self.body(self.own_tool_prompt)
        return {"plain": self.ask(body).answer, "streamed": self.ask(body | {"stream": True}).answer}


def _pieces_fault(pieces: list[dict[str, Any]], *, streamed: bool) -> str:
    begun: set[object] = set()
    ids: list[object] = []
    for position, piece in enumerate(pieces):
        if streamed and type(piece.get("index")) is not int:
            return "a piece without `index`"
        key = piece["index"] if streamed else position
        if key in begun:
            if piece.get("id") or "name" in _call_body(piece):
                return "`id` or name sent again"
        else:
            begun.add(key)
            ids.append(piece.get("id"))
            # The body of a call is stored under the name of its type.
            if not (piece.get("id") and str(piece.get("type")) in piece and "name" in _call_body(piece)):
                return "a call must begin with `id`, `type` and its name"
    return "two calls with one id" if len(set(ids)) < len(ids) else ""


def _call_body(piece: dict[str, Any]) -> dict[str, Any]:
    return piece.get("function") or piece.get("custom") or NOTHING


def _parse_json(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _assistant_message(answer: Answer) -> dict[str, Any]:
    calls = [
        {"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}}
        for c in answer.tool_calls
    ]
    return {"role": "assistant", "content": answer.said() or None, "tool_calls": calls}
