"""Strands' agents for the acceptance cases, with a fake model. Each is a function: an agent holds one conversation."""

from __future__ import annotations

import importlib
from typing import Any

import httpx2
import openai

from openai_compat import AgentRequest
from openai_compat.backends.strands import StrandsBackend
from tests.frameworks import model as double
from tests.frameworks.model import CACHED, INPUT, OUTPUT, Call, Model, Say, Seen, Shown, Think

strands: Any = importlib.import_module("strands")
BeforeToolCallEvent: Any = importlib.import_module("strands.hooks").BeforeToolCallEvent
BaseModel: Any = importlib.import_module("strands.models").Model
ModelThrottledException: Any = importlib.import_module("strands.types.exceptions").ModelThrottledException

NAME = "Strands"
IMPOSSIBLE = {
    "details": "it does not report them",
    "structured output": "it accepts a class, not a schema, so a request with a schema is a 400",
}
Agent: Any = strands.Agent


class Fake(BaseModel):
    def __init__(self, model: Model, settings: dict[str, Any]) -> None:
        self.double = model
        self.settings = settings

    def update_config(self, **config: Any) -> None:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {}

    def structured_output(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, tool_specs: Any = None, system_prompt: Any = None, **more: Any) -> Any:
        yield {"messageStart": {"role": "assistant"}}
        reason, block = "end_turn", None
        seen = Seen(_shown(messages, system_prompt), [spec["name"] for spec in tool_specs or ()], self.settings)
        try:
            async for step in self.double.answer(seen):
                if isinstance(step, Call) or type(step) is not block:
                    if block is not None:
                        yield {"contentBlockStop": {}}
                    yield {"contentBlockStart": {"start": _start(step)}}
                for delta in _deltas(step):
                    yield {"contentBlockDelta": {"delta": delta}}
                block = type(step)
                reason = "tool_use" if block is Call else reason
        except double.RateLimited as error:
            answer = httpx2.Response(429, headers={"retry-after": "7"}, request=httpx2.Request("POST", "https://model"))
            cause = openai.RateLimitError(double.SECRET, response=answer, body=None)
            cause.__cause__ = error
            raise ModelThrottledException(double.SECRET) from cause
        if block is not None:
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": reason}}
        usage = {"inputTokens": INPUT, "outputTokens": OUTPUT, "totalTokens": INPUT + OUTPUT}
        yield {"metadata": {"usage": {**usage, "cacheReadInputTokens": CACHED}, "metrics": {"latencyMs": 1}}}


def agents(model: Model) -> dict[str, Any]:
    weather = strands.tool(name="get_weather", description="Weather.")(model.get_weather)
    time = strands.tool(name="tell_time", description="The time.")(model.tell_time)
    wait = strands.tool(name="wait", description="Takes long.")(model.wait)

    def made(request: AgentRequest | None = None, **more: Any) -> Any:
        settings = request.sampling.given() if request is not None else {}
        return Agent(Fake(model, settings), callback_handler=None, retry_strategy=None, **more)

    def instructed() -> Agent:
        return made(system_prompt="Be kind.")

    def with_weather() -> Agent:
        return made(tools=[weather, wait])

    async def careful() -> Agent:
        return made(tools=[weather, time], hooks=[ask])

    def with_expert() -> Agent:
        expert = made(name="ask_expert", description="Ask the expert.")
        return made(tools=[_asked(expert.as_tool())])

    return {
        "plain": StrandsBackend(made, parameters=["temperature", "max_tokens", "reasoning_effort"]),
        "instructed": instructed,
        "weather": with_weather,
        "careful": careful,
        "expert": with_expert,
    }


def ask(event: BeforeToolCallEvent) -> None:
    if event.tool_use["name"] == "get_weather" and event.interrupt("approve") != "yes":
        event.cancel_tool = "denied"


def _asked(tool: Any) -> Any:
    """An agent as a tool whose argument is named `question`."""
    stream = tool.stream

    def renamed(tool_use: Any, invocation_state: Any, **more: Any) -> Any:
        return stream({**tool_use, "input": {"input": tool_use["input"]["question"]}}, invocation_state, **more)

    tool.stream = renamed
    return tool


def _start(step: Any) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": step.id, "name": step.name}} if isinstance(step, Call) else {}


def _deltas(step: Any) -> list[dict[str, Any]]:
    match step:
        case Say(text):
            return [{"text": text}]
        case Think(text):
            return [{"reasoningContent": {"text": text}}]
        case Call():
            return [{"toolUse": {"input": piece}} for piece in step.pieces]
    raise AssertionError(step)


def _shown(messages: Any, system: str | None) -> list[Shown]:
    shown = [Shown("system", system)] if system else []
    for message in messages:
        results = [one["toolResult"] for one in message["content"] if "toolResult" in one]
        calls = [one["toolUse"]["toolUseId"] for one in message["content"] if "toolUse" in one]
        text = "".join([one["text"] for one in message["content"] if "text" in one])
        media = [one["image"]["source"]["bytes"] for one in message["content"] if "image" in one]
        for result in results:  # the result of an agent ends with a newline
            shown.append(Shown("tool", result["content"][0]["text"].rstrip("\n"), call_id=result["toolUseId"]))
        if not results:
            shown.append(Shown(message["role"], text, tuple(calls), media=tuple(media)))
    return shown
