"""`POST /api/chat` and `/api/generate`, from the request body to the turn that answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ...agent_request import AgentRequest, Caller
from ...agents.compaction import conversation_tokens
from ...aio.off_loop import MANY, run_off_loop
from ...backend import AgentBackend
from ...errors import OpenAICompatError
from ...events import Finished
from ...policies.housekeeping import task_of
from ...state.agent_state import resume_state
from ...turns.slots import NoSlot
from ...wire.json import is_quick
from ...wire.ollama.parse import ParsedQuestion, check_ollama_capabilities, parse_generate, parse_ollama_chat
from ...wire.ollama.serialize import Durations, LineForm, LineWriter, OwnToolsShown
from ...wire.reducer import Usage
from ..answer_form import NDJSON, Framing
from ..detach import run_once
from ..exchange import Exchange
from ..services import Services, check_tool_names
from ..text_approvals import decisions_from_messages
from .models import own_name
from .turn import OllamaTurn


@dataclass(frozen=True, slots=True)
class OllamaEndpoint:
    """Answers chat and generate requests.

    Attributes:
        own_tools: where calls of the agent's own tools are shown.
    """

    own_tools: OwnToolsShown

    async def chat(self, services: Services, exchange: Exchange) -> None:
        """Run an agent for a conversation."""
        await self._answer(services, exchange, parse_ollama_chat, chat=True)

    async def generate(self, services: Services, exchange: Exchange) -> None:
        """Run an agent for a prompt."""
        await self._answer(services, exchange, parse_generate, chat=False)

    async def _answer(
        self, services: Services, exchange: Exchange, parse: Callable[[bytes, Caller], ParsedQuestion], *, chat: bool
    ) -> None:
        body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
        caller = services.settings.caller(exchange.principal, exchange.request)
        parsed = await run_off_loop(parse, body, caller, long=not is_quick(body))
        asked, request = parsed.request.model, parsed.request
        parsed = replace(parsed, request=replace(request, model=own_name(services.models, asked)))
        form = LineForm(
            model=asked,
            created_at=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            streams=request.stream,
            chat=chat,
            thinking=parsed.thinking,
            own_tools=self.own_tools,
            most=services.settings.limits.answer,
            estimate=lambda: conversation_tokens(request),
        )
        exchange.framing = Framing(NDJSON.content_type, form.keep_alive)
        if parsed.only is not None:
            services.models.check(parsed.request.model, exchange.principal)
            await _send_answer(exchange, form, form.empty_response(parsed.only))
            return
        housekeeping = services.settings.housekeeping
        task = None if housekeeping is None else task_of(exchange.request, parsed.request)
        if housekeeping is not None and task is not None:
            exchange.note = "housekeeping"
            await _send_answer(exchange, form, _text_answer(form, await housekeeping.answer(task, parsed.request)))
            return
        handler = _QuestionHandler(services, exchange, parsed, form, long=not is_quick(body))
        work = (
            run_once(services, exchange, body, handler.answer)
            if services.needs_run_once(exchange)
            else handler.answer()
        )
        del body  # or it would stay in memory for as long as the stream lasts
        await work


@dataclass(slots=True)
class _QuestionHandler:
    """A request that is being answered."""

    services: Services
    exchange: Exchange
    parsed: ParsedQuestion
    form: LineForm
    long: bool

    async def answer(self) -> None:
        """Run the turn; if no slot is free, answer with the busy text where the server has one, instead of a 429."""
        services, exchange, form = self.services, self.exchange, self.form
        await services.check_rate(exchange)
        agent, backend = served = services.models.agent(self.parsed.request.model, exchange.principal)
        store, can = services.state.store, backend.capabilities
        request = await self._prepare_request(backend)
        request, answers = await decisions_from_messages(store, agent, can, request)
        request, given = await resume_state(store, agent, can, request, None)
        turn = OllamaTurn(services, exchange, form, served, request, answers=answers)
        turn.given = given
        try:
            await services.live.runner.run(turn)
        except NoSlot:
            if services.settings.busy is None or exchange.agent_started:
                raise
            exchange.note = "busy"
            await _send_answer(exchange, form, _text_answer(form, await services.settings.busy_text(request)))
        except OpenAICompatError as error:
            await exchange.fail(error)

    async def _prepare_request(self, backend: AgentBackend) -> AgentRequest:
        """The request as the agent gets it. Raises InvalidRequest if the agent cannot handle it."""
        parsed, request = self.parsed, self.parsed.request
        check_ollama_capabilities(parsed, backend.capabilities)
        if parsed.tool_places:
            await check_tool_names(backend, request, parsed.tool_places.keys(), parsed.tool_places.__getitem__)
        long = self.long or len(request.messages) > MANY
        return await run_off_loop(self.services.settings.messages.apply, request, long=long)


def _text_answer(form: LineForm, text: str) -> bytes:
    """An answer with `text`, as if an agent had produced it."""
    writer = LineWriter(form, lambda _: ())
    return writer.feed([*([text] if text else []), Finished("stop")]) + writer.end(Usage(), Durations())


async def _send_answer(exchange: Exchange, form: LineForm, answer: bytes) -> None:
    if form.streams:
        await exchange.end(answer)
    else:
        await exchange.answer(200, answer)
