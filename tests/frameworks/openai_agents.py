"""The OpenAI Agents SDK's agents for the acceptance cases, with a fake `Model`."""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import openai
from openai.types import responses

from tests.frameworks import model as double
from tests.frameworks.model import CACHED, INPUT, OUTPUT, REASONING, Answer, Call, Model, Say, Seen, Shown, Think

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"  # traces would go to OpenAI

ai: Any = importlib.import_module("agents")
items: Any = importlib.import_module("agents.items")

NAME = "OpenAI Agents SDK"
USAGE: dict[str, Any] = {
    "input_tokens": INPUT,
    "input_tokens_details": {"cached_tokens": CACHED, "cache_write_tokens": 0},
    "output_tokens": OUTPUT,
    "output_tokens_details": {"reasoning_tokens": REASONING},
    "total_tokens": INPUT + OUTPUT,
}
IMPOSSIBLE = {"edited": "the SDK runs a call as the model wrote it, so changed arguments are a 400"}


@dataclass
class Question:
    question: str


def asked(given: Any) -> str:
    return str(given["params"]["question"])


def agents(model: Model) -> dict[str, Any]:
    fake: Any = fake_model(model)

    def own(function: Any, **more: Any) -> Any:
        return ai.function_tool(function, **more)

    weather = own(model.get_weather)
    as_tool = ai.Agent(name="Expert", model=fake).as_tool(
        "ask_expert", "Ask the expert.", parameters=Question, input_builder=asked
    )
    return {
        "plain": ai.Agent(name="Plain", model=fake),
        "instructed": ai.Agent(name="Kind", model=fake, instructions="Be kind."),
        "weather": ai.Agent(name="Weather", model=fake, tools=[weather, own(model.wait)]),
        "careful": ai.Agent(
            name="Careful", model=fake, tools=[own(model.get_weather, needs_approval=True), own(model.tell_time)]
        ),
        "expert": ai.Agent(name="Front", model=fake, tools=[as_tool]),
    }


def fake_model(model: Model) -> Any:
    class Fake(ai.Model):
        async def get_response(self, *args: Any, **named: Any) -> Any:
            events = self.stream_response(*args, *named.values())
            [last] = [event async for event in events if event.type == "response.completed"]
            return items.ModelResponse(last.response.output, ai.Usage(**USAGE), "resp_1")

        async def stream_response(
            self,
            instructions: Any,
            given: Any,
            settings: Any,
            tools: Any,
            schema: Any,
            handoffs: Any,
            *_: Any,
            **__: Any,
        ) -> AsyncIterator[Any]:
            seen = _seen(instructions, given, settings, [*tools, *handoffs], schema)
            output: list[Any] = []
            try:
                async for step in model.answer(seen):
                    for event in _events(step, output):
                        yield event
                        await anyio.sleep(0.001)  # like a network: the SDK drops unread events when the model fails
            except double.RateLimited:
                request = httpx2.Request("POST", "https://model.example")
                answer = httpx2.Response(429, headers={"retry-after": "7"}, request=request)
                raise openai.RateLimitError(double.SECRET, response=answer, body=None) from None
            yield _completed(output)

    return Fake()


def _events(step: Any, output: list[Any]) -> list[Any]:
    """The events of one step of the model, whose item is added to `output`."""
    at: dict[str, Any] = {"output_index": len(output), "sequence_number": 0}
    match step:
        case Say() | Answer():
            text = step.text if isinstance(step, Say) else '{"city": "Rome"}'
            if not output or output[-1].type != "message":
                output.append(
                    responses.ResponseOutputMessage(
                        id="msg_1", content=[], role="assistant", status="completed", type="message"
                    )
                )
            output[-1].content.append(responses.ResponseOutputText(annotations=[], text=text, type="output_text"))
            return [
                responses.ResponseTextDeltaEvent(
                    content_index=0, delta=text, item_id="msg_1", logprobs=[], type="response.output_text.delta", **at
                )
            ]
        case Think(text):
            output.append(responses.ResponseReasoningItem(id="rs_1", summary=[], type="reasoning"))
            return [
                responses.ResponseReasoningSummaryTextDeltaEvent(
                    delta=text, item_id="rs_1", summary_index=0, type="response.reasoning_summary_text.delta", **at
                )
            ]
        case Call(id=call_id, name=name):
            first, second = step.pieces
            item = responses.ResponseFunctionToolCall(
                arguments=first + second, call_id=call_id, name=name, type="function_call"
            )
            output.append(item)
            begun = item.model_copy(update={"arguments": ""})
            deltas = [
                responses.ResponseFunctionCallArgumentsDeltaEvent(
                    delta=piece, item_id=call_id, type="response.function_call_arguments.delta", **at
                )
                for piece in step.pieces
            ]
            return [
                responses.ResponseOutputItemAddedEvent(item=begun, type="response.output_item.added", **at),
                *deltas,
                responses.ResponseOutputItemDoneEvent(item=item, type="response.output_item.done", **at),
            ]
        case _:
            raise AssertionError(step)


def _completed(output: list[Any]) -> Any:
    answer = responses.Response(
        id="resp_1",
        created_at=0,
        model="fake",
        object="response",
        output=output,
        parallel_tool_calls=True,
        tool_choice="auto",
        tools=[],
        usage=responses.ResponseUsage.model_validate(USAGE),
    )
    return responses.ResponseCompletedEvent(response=answer, sequence_number=0, type="response.completed")


def _seen(instructions: Any, given: Any, settings: Any, tools: list[Any], schema: Any) -> Seen:
    shown = [Shown("system", instructions)] if instructions else []
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        match item:
            case {"type": "function_call", "call_id": call_id}:
                shown.append(Shown("assistant", "", (call_id,)))
            case {"type": "function_call_output", "call_id": call_id, "output": output}:
                shown.append(Shown("tool", str(output), call_id=call_id))
            case {"role": role, "content": content}:
                parts = [{"text": content}] if isinstance(content, str) else content
                text = " ".join([part["text"] for part in parts if part.get("text")])
                media = tuple([part["image_url"] for part in parts if "image_url" in part])
                shown.append(Shown(role, text, media=media))
            case _:
                pass
    told = {name: getattr(settings, name) for name in ("temperature", "max_tokens")}
    told["reasoning_effort"] = settings.reasoning.effort if settings.reasoning else None
    names = [getattr(tool, "name", None) or tool.tool_name for tool in tools]
    return Seen(shown, names, told, schema.json_schema() if schema else None)
