"""One response: written as events, stored with them, and repaired or shortened if the request asks for that.

    prepared = await prepare_response(…) resolves the request and its history; may lock a conversation
    seat = await seated(…)               takes one slot for the whole answer; begins the log if the store is to know it
    await run_response(services, prepared, delivery, seat)

The last call releases the conversation and the slot, on every path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import anyio

from ...agent_request import AgentRequest
from ...agents.compaction import drop_oldest_half
from ...agents.structured_output import OutputFormat, repair_request
from ...aio.background import drop_tracebacks
from ...aio.off_loop import run_off_loop
from ...errors import AgentError, OpenAICompatError
from ...events import Finished, FinishReason, Paused, UsageReported
from ...http import ClientDisconnected, ClientTooSlow
from ...state.approvals import approval_records, record_decisions
from ...state.conversation_locks import to_stored_items
from ...stores.port import AgentState, ConversationTurn, TurnCommit, WebhookNotice
from ...turns.plan import Delivery, Taken, TurnPlan
from ...turns.run import commit
from ...turns.slots import Seat
from ...wire.json import from_stored_json
from ...wire.reducer import Item, Reducer
from ..services import Services, logger, now
from .prepare import PreparedResponse

Items: TypeAlias = Sequence[dict[str, Any]]


class ResponseDelivery(Delivery[bytes], Protocol):
    """Accepts a response's events: `event: …`, `data: …`, blank line. It only gets whole events."""

    async def fail(self, error: OpenAICompatError, frames: bytes) -> None:
        """Send the last events of a response that failed."""
        ...


class ResponseTurn(TurnPlan[bytes]):
    """Writes a response's events, and stores it with its conversation and questions, as its request says."""

    api = "responses"

    def __init__(self, services: Services, work: PreparedResponse, delivery: ResponseDelivery) -> None:
        super().__init__(
            delivery,
            work.requester,
            id=work.id,
            agent=work.agent,
            backend=work.backend,
            requests=work.requests,
            draft=work.draft,
            background=work.parsed.background,
        )
        self.work = work
        self.given = work.given
        self.single = False  # a repair or a shortened request may follow, in the same slot
        self.bounded = work.log is not None or not work.parsed.stream
        self._services = services
        self._delivery = delivery
        self._state: Mapping[str, Any] | None = None
        self._finish_reason: FinishReason | None = None
        self._request = work.request
        self._last = b""
        self._repairs = work.output_format if work.backend.capabilities.repairs_output else None
        self._unchecked: list[Item] = []
        # The SDK's accumulator raises unless `response.created` comes first.
        self._held = b"" if work.stream.sequence >= 0 else work.stream.begin()

    async def before_start(self) -> None:
        """Record the decisions: from now on the agent acts on them."""
        if self.work.answers is not None:
            await record_decisions(self._services.state.store, self.requester.principal.id, self.work.answers)

    def feed(self, taken: Taken) -> bytes:
        """The events for the agent's output, after those that were held back."""
        events = b""
        for _, items in taken:
            events += self._feed_items(items)
        return self.idle() + events if events else b""

    def _feed_items(self, items: list[Item]) -> bytes:
        last = items[-1]
        if isinstance(last, Paused):
            self._state = last.state
        elif isinstance(last, Finished):
            self._finish_reason = last.reason
        if self._repairs is not None:  # an answer that may need a repair is not shown before it was checked
            self._unchecked += items
            return b""
        return self.work.stream.feed(items)

    def idle(self) -> bytes:
        """The first events, and those that a repair has held back; each once."""
        held, self._held = self._held, b""
        return held

    def snapshot(self) -> dict[str, Any]:
        """The Response object as it stands."""
        return self.work.stream.response()

    async def next_requests(self) -> Sequence[AgentRequest]:
        """Call the agent once more if its answer is not the requested JSON, and the agent can repair it."""
        wanted, self._repairs = self._repairs, None
        if wanted is None:
            return ()
        reducer = Reducer()
        reducer.feed(self._unchecked)
        message = reducer.message()
        # An answer that was cut short, or waits for somebody, is incomplete rather than wrong.
        complete = message.finish_reason == "stop" and not message.approvals
        problem = await wanted.problem(message.text) if complete else None
        if problem is None:
            return ()
        self._held += self.work.stream.feed([item for item in self._unchecked if isinstance(item, UsageReported)])
        self._unchecked = []
        state = None if self.last_state is None else from_stored_json(self.last_state.body)
        return [replace(repair_request(self.work.request, message.text, problem), state=state)]

    def retry(self, error: OpenAICompatError) -> Sequence[AgentRequest]:
        """With `truncation: "auto"`, retry without the beginning of an input that is too long, if there is no output yet."""
        too_long = error.code == "context_length_exceeded" and self.work.parsed.wire.truncation == "auto"
        if not too_long or self._repairs is not None or self.work.stream.output:
            return ()
        shorter = drop_oldest_half(self._request)
        if shorter is None:
            return ()
        self._request = shorter
        return [shorter]

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """The last events. Raises AgentError for an answer that is not the requested JSON."""
        stream = self.work.stream
        if self._unchecked:
            self._held += stream.feed(self._unchecked)
        if self.work.output_format is not None:
            await self._check_format(self.work.output_format)
        self._last = self.idle() + stream.finish()
        return await self._outcome(self._last, conversation=True), self._last

    async def _check_format(self, wanted: OutputFormat) -> None:
        """Raise AgentError if the answer is not the requested JSON; an answer that was cut off need not be."""
        output = self.work.stream.response()["output"]
        texts = [
            part["text"] for item in output if item["type"] == "message" for part in item["content"] if "text" in part
        ]
        if self._finish_reason == "stop" and texts and await wanted.problem("".join(texts)) is not None:
            text = "The agent's answer does not have the form that 'text.format' asks for."
            raise AgentError(text, status=502, code="invalid_output")

    def not_committed(self) -> None:
        """Take back the last event: the outcome was not stored, but everything before it stands."""
        self.work.stream.undo_end()
        # Drop the last event, which reports success; the failure gets its number.
        self._held = self._last.rpartition(b"event: ")[0]

    async def fail(self, error: OpenAICompatError) -> None:
        """Report an error: to the store first, if it can be reached, then to the client."""
        drop_tracebacks(error)  # at once: the client may leave in the meantime
        stream = self.work.stream
        events = self.idle() + (stream.cancel() if error.code == "cancelled" else stream.fail(error))
        # A turn that was lost must not write to the store any more: the response is another turn's.
        if error.code != "turn_lost":
            await self._services.state.late.run_shielded(lambda: self._store_failure(events), "failure of a response")
        await self._delivery.fail(error, events)

    async def abandon(self) -> None:
        """Cancel the response: its client has left, and nobody else can get it."""
        log = self.work.log
        if log is not None and self.work.stream.status in ("queued", "in_progress"):
            events = self.idle() + self.work.stream.cancel()
            await self._services.state.late.run_shielded(lambda: self._store_failure(events), "response abandoned")
            log.record(events)

    async def _store_failure(self, events: bytes) -> None:
        try:
            outcome = await self._outcome(events, conversation=False)
            if outcome is not None:
                await commit(self._services.state.store, outcome)
                self._services.state.outbox.wake()
        except OpenAICompatError as error:
            logger.warning("%s: the failure could not be stored: %s", self.requester.request_id, error.code)

    async def _outcome(self, last: bytes, *, conversation: bool) -> TurnCommit | None:
        """The outcome to store; a failed turn adds nothing to its conversation."""
        work, stream = self.work, self.work.stream
        turn, many = None, work.parsed.long
        if conversation and work.draft is not None:
            new_items = [*work.parsed.conversation_items, *stream.response()["output"]]
            items = await run_off_loop(to_stored_items, new_items) if many else to_stored_items(new_items)
            turn = ConversationTurn(work.draft.key.id, items)
        keep = work.parsed.store and (work.log is not None or conversation)
        states = self._states() if conversation and self.last_state is not None else ()
        asked = stream.approvals if conversation else None
        if turn is None and not keep and not asked and not states:
            return None
        response = None
        if keep:
            response = await run_off_loop(work.to_stored_response) if many else work.to_stored_response()
        notices: tuple[WebhookNotice, ...] = ()
        if self.background:  # OpenAI's webhooks report these only: the client has seen other responses itself
            event = f"response.{stream.status}"
            notices = self._services.state.outbox.notices(event, self.id, self.requester.principal.id)
        return TurnCommit(
            principal=self.requester.principal.id,
            token=work.token,
            conversation=turn,
            response=response,
            events=None if work.log is None else await work.log.final_batch(last),
            approvals=approval_records(asked, self._state, work.id, work.binding, now()) if asked else (),
            states=states,
            notices=notices,
        )

    def _states(self) -> tuple[AgentState, ...]:
        """The agent's last state, as far as the store keeps it."""
        work = self.work
        if work.parsed.store or not work.local:
            return self.states(work.id if work.parsed.store else None)
        # The connection keeps the state that the store would keep with a response.
        kept = self.states(work.id)
        work.final_state = next((state for state in kept if state.of == "response"), None)
        return tuple([state for state in kept if state is not work.final_state])

    async def committed(self) -> None:
        """Note that the outcome is in the store."""
        await super().committed()
        if self.background:
            self._services.state.outbox.wake()


async def run_response(services: Services, work: PreparedResponse, delivery: ResponseDelivery, seat: Seat) -> None:
    """Run the agent, write its output, store the outcome.

    Raises OpenAICompatError for errors before the agent is started; the delivery reports later ones.
    """
    turn = ResponseTurn(services, work, delivery)
    is_known = work.log is not None or work.draft is not None  # to the store, which holds something for it
    try:
        if is_known:
            services.state.leases.hold(work.token, turn.interrupt)
        services.live.responses[work.key] = turn
        if work.log is not None:
            services.state.logs.live[work.key] = work.log.log
        await services.live.runner.run_seated(turn, seat)
    except (anyio.get_cancelled_exc_class(), ClientDisconnected, ClientTooSlow):
        await turn.abandon()
        raise
    finally:
        if is_known:
            services.state.leases.drop(work.token)
        services.live.responses.remove(work.key)
        if work.log is not None:
            work.log.log.end()
            services.state.logs.live.pop(work.key, None)
        if seat.is_open:
            seat.close()
        if work.draft is not None:
            await work.draft.close()
        if services.live.slots.are_shared:
            await services.live.slots.wait_released()
