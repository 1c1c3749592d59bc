"""An API from outside the package: `POST /toy/say` with JSON lines, and its own errors and key header."""

from __future__ import annotations

import json
from typing import Any

from openai_compat.agent_request import AgentRequest
from openai_compat.api.answer_form import NDJSON
from openai_compat.api.delivery import WholeAnswer
from openai_compat.api.detach import run_once
from openai_compat.api.exchange import Exchange
from openai_compat.api.routing import Api, Operation, Route
from openai_compat.api.services import Services
from openai_compat.errors import InvalidRequest, OpenAICompatError
from openai_compat.events import Finished, TextDelta
from openai_compat.messages import TextPart, UserMessage
from openai_compat.state.ids import new_id
from openai_compat.stores.port import TurnCommit
from openai_compat.turns.plan import Taken, TurnPlan
from openai_compat.wire.json import dumps


def line(**fields: Any) -> bytes:
    return dumps(fields) + b"\n"


class ToyErrors:
    def body(self, error: OpenAICompatError, request_id: str) -> bytes:
        return dumps({"wrong": error.message, "kind": error.code or error.type})

    def headers(self, error: OpenAICompatError) -> list[tuple[str, str]]:
        return [("X-Toy-Error", error.code or error.type), *error.headers.items()]

    def frame(self, error: OpenAICompatError, request_id: str) -> bytes:
        return self.body(error, request_id) + b"\n"


class ToyTurn(TurnPlan[bytes]):
    def __init__(self, services: Services, exchange: Exchange, request: AgentRequest) -> None:
        agent, backend = services.models.agent(request.model, exchange.principal)
        delivery = exchange if request.stream else WholeAnswer(exchange)
        super().__init__(delivery, exchange, id=new_id("toy_"), agent=agent, backend=backend, requests=[request])
        self.exchange, self.open, self.lines, self.finished = exchange, False, b"", Finished()

    def feed(self, taken: Taken) -> bytes:
        out = b""
        for item in [item for _, items in taken for item in items]:
            if isinstance(item, str | TextDelta):
                self.open, out = True, out + line(text=item if isinstance(item, str) else item.text)
            elif isinstance(item, Finished):
                self.finished = item
        self.lines += out
        return out

    def idle(self) -> bytes:
        return b""

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        last = line(done=self.finished.reason, stop=self.finished.stop_sequence)
        if self.requests[0].stream:
            return None, last
        told = [json.loads(text) for text in (self.lines + last).splitlines()]  # collects a stream into a whole answer
        return None, dumps({"text": "".join([one.get("text", "") for one in told]), **told[-1]})

    async def fail(self, error: OpenAICompatError) -> None:
        await self.exchange.fail(error, line(closed=True) if self.open else b"")


async def say(services: Services, exchange: Exchange) -> None:
    body = json.loads(await exchange.read_body(services.settings.limits, services.settings.deadlines))
    if "say" not in body:
        raise InvalidRequest("Say something.", param="say")
    await services.check_rate(exchange)
    message = UserMessage((TextPart(body["say"]),))
    raw = [{"role": "user", "content": body["say"]}]
    request = AgentRequest(
        model="agent",
        messages=(message,),
        raw_messages=raw,
        stream=body.get("stream", False),
        principal=exchange.principal,
    )

    async def run() -> None:
        await services.live.runner.run(ToyTurn(services, exchange, request))

    await run_once(services, exchange, body["say"].encode(), run)


async def models(services: Services, exchange: Exchange) -> None:
    await exchange.answer(200, dumps({"toys": services.models.names}))


TOY = Api(
    name="toy",
    routes=[Route("/toy/say", {"POST": Operation(say)}, described=False)],
    errors=ToyErrors(),
    framing=NDJSON,
    prefix="/toy",
    key_headers=("x-toy-key",),
)
TOY_MODELS = Api(
    name="toy models",
    routes=[Route("/v1/models", {"GET": Operation(models)}, described=False)],
    errors=ToyErrors(),
    when=lambda request: request.header(b"toy-version") is not None,
)
