"""Checks of approvals: a call that needs approval never runs before, without, or other than as approved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio

from ...agent_request import Decision, Resume
from ...api.services import logger
from ...backend import RunContext
from ...events import Paused, ToolResult
from ...messages import UserMessage
from ..subject import ObservedExchange
from ..watch import Run
from .base import Examination, expect, skip

# `.invalid` can be nobody's host (RFC 2606), and no request may be sent there.
OTHER_PROMPT = "Leave that. What did I say last?"


@dataclass(frozen=True)
class ApprovalQuestion:
    """An answer that requests approval: its id, the approval request item, and the exchange."""

    id: str
    item: dict[str, Any]
    exchange: ObservedExchange


class ApprovalChecks(Examination):
    """Checks of an agent that requests approval before it runs its own tools. Skipped unless `approval_prompt` is set."""

    def test_the_agent_asks_before_it_acts(self) -> None:
        """The agent requests approval before it runs the tool, with a JSON object as the arguments.

        Approval of a call that has already run is worthless. To fix: end the turn with `Paused` before the call has any effect.
        """
        asked = self._ask_question()
        parsed = _parse_json(asked.item.get("arguments"))
        expect(isinstance(parsed, dict), f"the question's arguments are no JSON object: {asked.item}")
        done = _tool_results(asked.exchange.runs)
        expect(not done, f"a tool has run before anybody answered: {done}")

    def test_an_approved_call_is_run_once(self) -> None:
        """An approved call runs exactly once, and a repeated decision is refused.

        If an approved call does not run, users approve it again; if it runs twice, it costs twice. To fix: run each call of
        `request.resume` with an approval once, yield its `ToolResult`, and refuse a repeated decision with a 4xx.
        """
        asked = self._ask_question()
        told = self._decide(asked, approve=True)
        expect(told.answer.status == 200, f"the approval was answered with {told.answer.status}: {told.answer.error}")
        if told.runs:
            done = _tool_results(told.runs)
            expect(len(done) == 1, f"after the approval there should be one result, there are {len(done)}: {done}")
        again = self._decide(asked, approve=True)
        expect(400 <= again.answer.status < 500, f"the same decision again is answered with {again.answer.status}")
        expect(not again.runs, "the same decision again has run the agent")

    def test_a_denied_call_is_not_run(self) -> None:
        """A denied call does not run, and the agent continues without its result.

        To fix: check `Decision.approved`, yield `ToolResult(…, denied=True)` for a denied call, and continue.
        """
        told = self._decide(self._ask_question(), approve=False)
        expect(told.answer.status == 200, f"the refusal was answered with {told.answer.status}: {told.answer.error}")
        done = _tool_results(told.runs)
        expect(not done, f"it was denied, and has run: {done}")

    def test_edited_arguments_are_those_that_are_run(self) -> None:
        """An approved call runs with the arguments that the user has edited.

        A user who edits a call and approves it has approved the edited call only. To fix: run `Decision.arguments` if
        they are set; or, if your agent cannot, do not declare `approvals="edit"`.
        """
        watched = self.watched(self.subject())
        if watched is not None and watched.capabilities.approvals != "edit":
            skip(
                "the agent declares that it runs a call only as it has asked about it, and the server refuses all else"
            )
        if self.edited_arguments is None or self.edited_result is None:
            skip("set `edited_arguments` and `edited_result`, which the result of such a call then says")
        asked = self._ask_question()
        if watched is None or not asked.exchange.runs:
            skip("the agent cannot be watched inside an ASGI application; hand over the agent or its Server")
        paused = asked.exchange.runs[0]
        if not any([isinstance(item, Paused) for item in paused.items]):
            skip(
                "the agent waits in the middle of its run for the decision, which reaches it there, by the server alone"
            )
        items = self.run(lambda: self._resume_with_edits(paused))
        expect(self.edited_result in str(items), f"{self.edited_result!r} is not in what came of it: {items}")

    async def _resume_with_edits(self, paused: Run) -> list[Any]:
        pause = next(item for item in paused.items if isinstance(item, Paused))
        decision = Decision(approved=True, arguments=json.dumps(self.edited_arguments))
        resume = Resume({}, {call.call_id: decision for call in pause.pending}, pause.state)
        watched = self.watched(self.subject())
        request = replace(paused.request, resume=resume)
        context = RunContext("edited", "edited", anyio.current_time() + self.timeout, logger)
        return [item async for item in watched.run(request, context)] if watched is not None else []

    def test_another_message_takes_the_place_of_a_decision(self) -> None:
        """If the user sends another message instead of a decision, the call does not run, and the agent answers the message.

        Users change their minds. To fix: treat the calls of a superseded pause as denied, and answer the last message.
        """
        asked = self._ask_question()
        told = self._respond(OTHER_PROMPT, asked.id)
        expect(told.answer.status == 200, f"another message is answered with {told.answer.status}: {told.answer.error}")
        done = _tool_results(told.runs)
        expect(not done, f"nobody has approved it, and it has run: {done}")
        for run in told.runs:
            last = run.request.messages[-1]
            heard = isinstance(last, UserMessage) and last.text == OTHER_PROMPT
            expect(heard, f"the agent was not given the message, but {last!r}")

    def _ask_question(self) -> ApprovalQuestion:
        if self.approval_prompt is None:
            skip("set `approval_prompt` to one at which the agent asks before it runs a tool of its own")
        exchange = self._respond(self.approval_prompt)
        answer = exchange.answer
        if answer.status == 404:
            skip("there is no Responses API, through which these checks ask")
        output: Sequence[dict[str, Any]] = answer.json.get("output") or ()
        found = [item for item in output if item.get("type") == "mcp_approval_request"]
        expect(found, f"no question in the answer (status {answer.status}): {answer.body[:400]!r}")
        return ApprovalQuestion(answer.json["id"], found[0], exchange)

    def _decide(self, asked: ApprovalQuestion, *, approve: bool) -> ObservedExchange:
        said = {"type": "mcp_approval_response", "approval_request_id": asked.item["id"], "approve": approve}
        return self._respond([said], asked.id)

    def _respond(self, said: object, previous: str | None = None) -> ObservedExchange:
        fields = {} if previous is None else {"previous_response_id": previous}
        # With this tool, a client declares that it can show an approval request and answer it.
        approver = {"type": "mcp", "server_label": self.model_name, "server_url": "https://approver.invalid"}
        return self.respond({"input": said, "tools": [approver], **fields})


def _tool_results(runs: Sequence[Run]) -> list[ToolResult]:
    return [item for run in runs for item in run.items if isinstance(item, ToolResult) and not item.denied]


def _parse_json(arguments: object) -> object:
    try:
        return json.loads(str(arguments))
    except ValueError:
        return None
