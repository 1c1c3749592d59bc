"""Agno's agents for the acceptance cases, with a fake model."""

from __future__ import annotations

import importlib
import json
from typing import Any

import httpx2
import openai

from openai_compat.backends.agno import AgnoBackend
from tests.frameworks.model import (
    CACHED,
    INPUT,
    OUTPUT,
    REASONING,
    SECRET,
    Answer,
    Call,
    Model,
    RateLimited,
    Say,
    Seen,
    Shown,
    Think,
)

agent: Any = importlib.import_module("agno.agent")
base: Any = importlib.import_module("agno.models.base")
exceptions: Any = importlib.import_module("agno.exceptions")
metrics: Any = importlib.import_module("agno.metrics")
response: Any = importlib.import_module("agno.models.response")
tools: Any = importlib.import_module("agno.tools")

NAME = "Agno"
IMPOSSIBLE = {
    "their tokens": "the usage of an agent inside a tool is not reported",
}


class Fake(base.Model):
    temperature: float | None = None
    max_tokens: int | None = None
    reasoning_effort: str | None = None

    def __init__(self, model: Model) -> None:
        super().__init__(id="double")
        self.supports_json_schema_outputs = True
        self.double = model

    async def ainvoke_stream(self, messages: Any, response_format: Any = None, tools: Any = None, **_: Any) -> Any:
        names = ("temperature", "max_tokens", "reasoning_effort")
        offered = [tool["function"]["name"] for tool in tools or ()]
        schema = response_format["json_schema"]["schema"] if response_format else None
        seen = Seen(_shown(messages), offered, {name: getattr(self, name) for name in names}, schema)
        try:
            async for step in self.double.answer(seen):
                yield _piece(step)
        except RateLimited as error:
            answer = httpx2.Response(429, headers={"retry-after": "7"}, request=httpx2.Request("POST", "https://model"))
            cause = openai.RateLimitError(SECRET, response=answer, body=None)
            cause.__cause__ = error
            raise exceptions.ModelRateLimitError(SECRET) from cause
        used = {"input_tokens": INPUT, "output_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT}
        details = {"cache_read_tokens": CACHED, "reasoning_tokens": REASONING}
        yield response.ModelResponse(response_usage=metrics.MessageMetrics(**used, **details))

    async def ainvoke(self, *args: Any, **more: Any) -> Any:
        pieces = [piece async for piece in self.ainvoke_stream(*args, **more)]
        text = "".join([piece.content for piece in pieces if piece.content])
        return response.ModelResponse(role="assistant", content=text)

    def invoke(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    invoke_stream = _parse_provider_response = _parse_provider_response_delta = invoke


def agents(model: Model) -> dict[str, Any]:
    def made(**more: Any) -> Any:
        return agent.Agent(model=Fake(model), telemetry=False, **more)

    async def ask_expert(question: str) -> str:
        """Ask the expert."""
        return str((await made().arun(question)).content)

    ask = tools.tool(requires_confirmation=True)(model.get_weather)
    return {
        "plain": made(),
        "instructed": made(instructions="Be kind."),
        "weather": AgnoBackend(made(tools=[model.get_weather, model.wait])),
        "careful": made(tools=[ask, model.tell_time]),
        "expert": made(tools=[ask_expert]),
    }


def _piece(step: Any) -> Any:
    match step:
        case Say(text):
            return response.ModelResponse(content=text)
        case Answer(value):
            return response.ModelResponse(content=json.dumps(value))
        case Think(text):
            return response.ModelResponse(reasoning_content=text)
        case Call(id=call_id, name=name, arguments=arguments):
            function = {"name": name, "arguments": json.dumps(arguments)}
            return response.ModelResponse(tool_calls=[{"id": call_id, "type": "function", "function": function}])
    raise AssertionError(step)


def _shown(messages: Any) -> list[Shown]:
    return [
        Shown(
            message.role,
            message.content or "",
            tuple([call["id"] for call in message.tool_calls or ()]),
            message.tool_call_id or "",
            tuple([image.content or image.url for image in message.images or ()]),
        )
        for message in messages
    ]
