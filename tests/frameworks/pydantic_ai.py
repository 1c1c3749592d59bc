"""Pydantic AI's agents for the acceptance cases, with its `FunctionModel` as the model."""

from __future__ import annotations

import importlib
from contextlib import asynccontextmanager
from typing import Any

from tests.frameworks import model as double
from tests.frameworks.model import CACHED, INPUT, OUTPUT, REASONING, Answer, Call, Model, Say, Seen, Shown, Think

ai: Any = importlib.import_module("pydantic_ai")
function: Any = importlib.import_module("pydantic_ai.models.function")
exceptions: Any = importlib.import_module("pydantic_ai.exceptions")
usage: Any = importlib.import_module("pydantic_ai.usage")

NAME = "Pydantic AI"
IMPOSSIBLE: dict[str, str] = {}


def agents(model: Model) -> dict[str, Any]:
    async def stream(messages: list[Any], info: Any) -> Any:
        try:
            calls = 0
            async for step in model.answer(_seen(messages, info)):
                match step:
                    case Say(text):
                        yield text
                    case Think(text):
                        yield {0: function.DeltaThinkingPart(content=text)}
                    case Call(id=call_id, name=name):
                        calls += 1
                        first, second = step.pieces
                        yield {calls: function.DeltaToolCall(name, first, tool_call_id=call_id)}
                        yield {calls: function.DeltaToolCall(None, second, tool_call_id=call_id)}
                    case Answer():
                        name = info.output_tools[0].name
                        yield {1: function.DeltaToolCall(name, '{"city": "Rome"}', tool_call_id="out")}
        except double.RateLimited as error:
            headers = {"retry-after": "7"}
            raise exceptions.ModelHTTPError(429, "double", {"error": double.SECRET}, headers=headers) from error

    fake = CountedModel(stream_function=stream, profile={"supports_thinking": True})
    expert = ai.Agent(fake)

    async def ask_expert(context: Any, question: str) -> str:
        """Ask the expert."""
        return str((await expert.run(question, usage=context.usage)).output)

    ask_expert.__annotations__["context"] = ai.RunContext
    return {
        "plain": ai.Agent(fake),
        "instructed": ai.Agent(fake, system_prompt="Be kind."),
        "weather": ai.Agent(fake, tools=[model.get_weather, model.wait]),
        "careful": ai.Agent(fake, tools=[ai.Tool(model.get_weather, requires_approval=True), model.tell_time]),
        "expert": ai.Agent(fake, tools=[ask_expert]),
    }


def _seen(messages: list[Any], info: Any) -> Seen:
    shown = [Shown("system", info.instructions)] if info.instructions else []
    for message in messages:
        if isinstance(message, ai.ModelResponse):
            calls = [part.tool_call_id for part in message.parts if isinstance(part, ai.ToolCallPart)]
            shown.append(Shown("assistant", message.text or "", tuple(calls)))
            continue
        for part in message.parts:
            match part:
                case ai.SystemPromptPart(content=text):
                    shown.append(Shown("system", text))
                case ai.UserPromptPart(content=content):
                    parts = [content] if isinstance(content, str) else content
                    media = [
                        getattr(one, "data", getattr(one, "url", b"")) for one in parts if not isinstance(one, str)
                    ]
                    text = " ".join([one for one in parts if isinstance(one, str)])
                    shown.append(Shown("user", text, media=tuple(media)))
                case ai.ToolReturnPart():
                    shown.append(Shown("tool", part.model_response_str(), call_id=part.tool_call_id))
                case ai.RetryPromptPart():
                    shown.append(Shown("tool", part.model_response(), call_id=part.tool_call_id))
    settings = dict(info.model_settings or {})
    settings["reasoning_effort"] = settings.pop("thinking", None) or info.model_request_parameters.thinking
    schema = info.output_tools[0].parameters_json_schema if info.output_tools else None
    return Seen(shown, [tool.name for tool in info.function_tools], settings, schema)


class Counted(function.FunctionStreamedResponse):
    """Reports the model's token usage instead of an estimate."""

    async def _get_event_iterator(self) -> Any:
        async for event in super()._get_event_iterator():
            yield event
        self._usage = usage.RequestUsage(
            input_tokens=INPUT, cache_read_tokens=CACHED, output_tokens=OUTPUT, output_reasoning_tokens=REASONING
        )


class CountedModel(function.FunctionModel):
    @asynccontextmanager
    async def request_stream(self, *args: Any, **kwargs: Any) -> Any:
        async with super().request_stream(*args, **kwargs) as response:
            response.__class__ = Counted
            yield response

    async def request(self, messages: Any, settings: Any, parameters: Any) -> Any:
        async with self.request_stream(messages, settings, parameters) as response:
            async for _ in response:
                pass
            return response.get()
