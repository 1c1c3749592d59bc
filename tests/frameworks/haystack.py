"""Haystack's agents for the acceptance cases, with a fake chat generator."""

from __future__ import annotations

import base64
import importlib
from typing import Any

import httpx2
import openai

from openai_compat.backends.haystack import HaystackBackend
from tests.frameworks.model import (
    CACHED,
    INPUT,
    OUTPUT,
    REASONING,
    SECRET,
    Call,
    Model,
    RateLimited,
    Say,
    Seen,
    Shown,
    Think,
)

haystack: Any = importlib.import_module("haystack")
components: Any = importlib.import_module("haystack.components.agents")
data: Any = importlib.import_module("haystack.dataclasses")
tools: Any = importlib.import_module("haystack.tools")

NAME = "Haystack"
IMPOSSIBLE = {
    "restart": "the run waits for the decision",
    "structured output": "its chat generators have no common format for it",
    "their tokens": "the usage of an agent inside a tool is not reported",
}


@haystack.component
class Fake:
    def __init__(self, model: Any) -> None:
        self.double = model

    @haystack.component.output_types(replies=list)
    def run(
        self, messages: list, streaming_callback: Any = None, generation_kwargs: Any = None, tools: Any = None
    ) -> Any:
        raise NotImplementedError

    @haystack.component.output_types(replies=list)
    async def run_async(
        self, messages: list, streaming_callback: Any = None, generation_kwargs: Any = None, tools: Any = None
    ) -> Any:
        seen = Seen(_shown(messages), [tool.name for tool in tools or ()], generation_kwargs or {})
        text, thought, calls = "", "", []
        try:
            async for step in self.double.answer(seen):
                if isinstance(step, Call):
                    calls.append(data.ToolCall(step.name, step.arguments, step.id))
                    continue
                text += step.text if isinstance(step, Say) else ""
                thought += step.text if isinstance(step, Think) else ""
                if streaming_callback is not None:
                    await streaming_callback(_chunk(step))
        except RateLimited as error:
            answer = httpx2.Response(429, headers={"retry-after": "7"}, request=httpx2.Request("POST", "https://model"))
            raise openai.RateLimitError(SECRET, response=answer, body=None) from error
        used = {"prompt_tokens": INPUT, "completion_tokens": OUTPUT}
        used |= {"prompt_tokens_details": {"cached_tokens": CACHED}}
        used |= {"completion_tokens_details": {"reasoning_tokens": REASONING}}
        said = data.ChatMessage.from_assistant(
            text or None, {"usage": used}, tool_calls=calls, reasoning=thought or None
        )
        return {"replies": [said]}


def agents(model: Model) -> dict[str, Any]:
    def made(*functions: Any, **more: Any) -> Any:
        return components.Agent(chat_generator=Fake(model), tools=[_tool(one) for one in functions], **more)

    async def ask_expert(question: str) -> str:
        """Ask the expert."""
        result = await made().run_async([data.ChatMessage.from_user(question)])
        return str(result["last_message"].text)

    return {
        "plain": HaystackBackend(made(), parameters=["temperature", "max_tokens", "reasoning_effort"]),
        "instructed": made(system_prompt="Be kind."),
        "weather": made(model.get_weather, model.wait),
        "careful": HaystackBackend(made(model.get_weather, model.tell_time), approve=["get_weather"]),
        "expert": made(ask_expert),
    }


def _tool(function: Any) -> Any:
    names = [name for name in function.__annotations__ if name != "return"]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}
    return tools.Tool(function.__name__, function.__doc__, schema, async_function=function)


def _chunk(step: Any) -> Any:
    if isinstance(step, Say):
        return data.StreamingChunk(step.text)
    return data.StreamingChunk("", reasoning=data.ReasoningContent(step.text), index=0)


def _shown(messages: Any) -> list[Shown]:
    return [
        Shown(
            str(message.role.value),
            str(message.tool_call_result.result) if message.tool_call_result else "\n".join(message.texts),
            tuple([call.id for call in message.tool_calls]),
            message.tool_call_result.origin.id if message.tool_call_result else "",
            tuple([base64.b64decode(image.base64_image) for image in message.images]),
        )
        for message in messages
    ]
