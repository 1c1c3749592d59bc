"""Google ADK's agents for the acceptance cases, with a fake model."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import httpx2

from tests.frameworks import model as double
from tests.frameworks.model import CACHED, INPUT, OUTPUT, REASONING, Answer, Call, Model, Say, Seen, Shown, Think

Workflow: Any = importlib.import_module("google.adk").Workflow
LlmAgent: Any = importlib.import_module("google.adk.agents").LlmAgent
BaseLlm: Any = importlib.import_module("google.adk.models").BaseLlm
LlmResponse: Any = importlib.import_module("google.adk.models").LlmResponse
AgentTool: Any = importlib.import_module("google.adk.tools.agent_tool").AgentTool
FunctionTool: Any = importlib.import_module("google.adk.tools.function_tool").FunctionTool
errors: Any = importlib.import_module("google.genai.errors")
types: Any = importlib.import_module("google.genai.types")

NAME = "Google ADK"
IMPOSSIBLE = {"edited": "a confirmation applies to the model's arguments, so changed ones are a 400"}

IDENTITY = re.compile(r'You are an agent\. Your internal name is "\w+"\.')
"""Text that ADK adds to the instructions of every model."""


class Fake(BaseLlm):
    """A model whose name stands for one with thinking levels."""

    model: str = "gemini-3-double"
    double: Any

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
        parts: list[Any] = []
        try:
            async for step in self.double.answer(_seen(llm_request)):
                for part in _parts(step):
                    parts.append(part)
                    if part.text:
                        yield LlmResponse(content=types.Content(role="model", parts=[part]), partial=True)
        except double.RateLimited as error:
            request = httpx2.Request("POST", "https://model.example")
            answer = httpx2.Response(429, headers={"retry-after": "7"}, request=request)
            raise errors.ClientError(429, {"error": {"message": double.SECRET}}, answer) from error
        usage = types.GenerateContentResponseUsageMetadata(
            prompt_token_count=INPUT,
            cached_content_token_count=CACHED,
            candidates_token_count=OUTPUT - REASONING,
            thoughts_token_count=REASONING,
        )
        whole = types.Content(role="model", parts=_joined(parts))
        yield LlmResponse(content=whole, usage_metadata=usage, finish_reason=types.FinishReason.STOP)


def agents(model: Model) -> dict[str, Any]:
    fake = Fake(double=model)
    expert = LlmAgent(name="ask_expert", model=fake, description="Ask the expert.")
    asks = FunctionTool(model.get_weather, require_confirmation=True)
    one, two = LlmAgent(name="one", model=fake), LlmAgent(name="two", model=fake)
    return {
        "team": Workflow(name="team", edges=[("START", one, two)]),
        "plain": LlmAgent(name="plain", model=fake),
        "instructed": LlmAgent(name="instructed", model=fake, instruction="Be kind."),
        "weather": LlmAgent(name="weather", model=fake, tools=[model.get_weather, model.wait]),
        "careful": LlmAgent(name="careful", model=fake, tools=[asks, model.tell_time]),
        "expert": LlmAgent(name="expert", model=fake, tools=[AgentTool(expert)]),
    }


def _parts(step: Any) -> list[Any]:
    match step:
        case Say(text):
            return [types.Part(text=text)]
        case Think(text):
            return [types.Part(text=text, thought=True)]
        case Call(id=call_id, name=name, arguments=arguments):
            return [types.Part(function_call=types.FunctionCall(id=call_id, name=name, args=arguments))]
        case Answer():
            return [types.Part(text='{"city": '), types.Part(text='"Rome"}')]
    raise AssertionError(step)


def _joined(parts: list[Any]) -> list[Any]:
    """The parts with streamed pieces joined, as in the last response of a model."""
    thoughts = "".join([part.text for part in parts if part.text and part.thought])
    text = "".join([part.text for part in parts if part.text and not part.thought])
    whole = [types.Part(text=thoughts, thought=True)] if thoughts else []
    whole += [types.Part(text=text)] if text else []
    return [*whole, *[part for part in parts if part.function_call]]


def _seen(request: Any) -> Seen:
    config = request.config
    system = IDENTITY.sub("", str(config.system_instruction or "")).strip()
    shown = [Shown("system", system)] if system else []
    for content in request.contents:
        parts = content.parts or []
        results = [part.function_response for part in parts if part.function_response]
        calls = [part.function_call.id for part in parts if part.function_call]
        text = "\n".join([part.text for part in parts if part.text and not part.thought])
        media = [part.inline_data.data for part in parts if part.inline_data]
        shown += [Shown("tool", _text(result.response), call_id=result.id) for result in results]
        if not results:
            role = "assistant" if content.role == "model" else "user"
            shown.append(Shown(role, _question(text), tuple(calls), media=tuple(media)))
    declared = [function.name for tool in config.tools or () for function in tool.function_declarations or ()]
    thinking = config.thinking_config
    settings = {
        "temperature": config.temperature,
        "max_tokens": config.max_output_tokens,
        "reasoning_effort": thinking.thinking_level.name.lower() if thinking else None,
    }
    return Seen(shown, declared, settings, config.response_json_schema)


def _text(response: dict[str, Any]) -> str:
    return str(response.get("result", response))


def _question(text: str) -> str:
    """The question to an agent inside a tool, which comes as the JSON arguments of the call."""
    return json.loads(text)["question"] if text.startswith('{"question"') else text
