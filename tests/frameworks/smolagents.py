"""smolagents' agents for the acceptance cases, with a fake model. Each is a function: an agent holds one conversation."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx2
import openai

from openai_compat import AgentRequest
from openai_compat.backends.smolagents import SmolagentsBackend
from tests.frameworks.model import CALLS, INPUT, OUTPUT, SECRET, Call, Model, RateLimited, Say, Seen, Shown

smol: Any = importlib.import_module("smolagents")
models: Any = importlib.import_module("smolagents.models")

NAME = "smolagents"
IMPOSSIBLE = {
    "cached": "it counts only input and output tokens",
    "details": "it counts only input and output tokens",
    "reasoning": "it drops the reasoning of a model's API; the internal output of a `CodeAgent` is shown",
    "leaving": "it runs in a thread: a model that streams stops at its next piece, a tool at its end",
    "restart": "the run waits for the decision",
    "structured output": "its agents accept no schema",
    "their tokens": "the usage of an agent inside a tool is not reported",
}
ToolCallingAgent: Any = smol.ToolCallingAgent

PROMPTS: dict[str, Any] = {
    "system_prompt": "{{custom_instructions or ''}}",
    "planning": dict.fromkeys(["initial_plan", "update_plan_pre_messages", "update_plan_post_messages"], ""),
    "managed_agent": dict.fromkeys(["task", "report"], ""),
    "final_answer": dict.fromkeys(["pre_messages", "post_messages"], ""),
}
"""Short prompt templates, instead of the long ones of smolagents."""


class Fake(models.Model):
    """A streaming model, which sends empty chunks while it waits, like the keep-alive of an API."""

    def __init__(self, model: Model, settings: dict[str, Any]) -> None:
        super().__init__()
        self.double = model
        self.settings = settings

    def generate(self, messages: Any, **more: Any) -> Any:
        return models.agglomerate_stream_deltas(list(self.generate_stream(messages, **more)))

    def generate_stream(self, messages: Any, tools_to_call_from: Any = (), **more: Any) -> Iterator[Any]:
        seen = Seen(_shown(messages), [tool.name for tool in tools_to_call_from], self.settings)
        word = seen.messages[-1].text.partition(" ")[0]
        answers = seen.messages[-1].role == "tool" or (word not in CALLS and word != "kit")
        if answers:
            yield _call(0, "final", "final_answer", '{"answer": "')
        number = 0
        for step in self._steps(seen):
            if isinstance(step, Call):
                for place, piece in enumerate(step.pieces):
                    yield _call(number, step.id, "" if place else step.name, piece)
                number += 1
            elif answers and step is not None:
                yield _call(0, "", "", json.dumps(step.text)[1:-1])
            else:
                yield models.ChatMessageStreamDelta(content=step.text if isinstance(step, Say) else "")
        if answers:
            yield _call(0, "", "", '"}')
        elif not number:  # no tool to call was offered
            yield _call(0, "final", "final_answer", '{"answer": "You said nothing that I can do."}')
        yield models.ChatMessageStreamDelta(token_usage=models.TokenUsage(INPUT, OUTPUT))

    def _steps(self, seen: Seen) -> Iterator[Any]:
        """The steps of the answer, in the thread of the agent; None while the model waits."""
        steps = self.double.answer(seen)
        with asyncio.Runner() as runner:
            while True:
                task = runner.get_loop().create_task(anext(steps, None))
                try:
                    while not task.done():
                        runner.run(asyncio.wait([task], timeout=0.05))
                        yield None
                    step = task.result()
                except RateLimited as error:
                    request = httpx2.Request("POST", "https://model")
                    answer = httpx2.Response(429, headers={"retry-after": "7"}, request=request)
                    raise openai.RateLimitError(SECRET, response=answer, body=None) from error
                finally:
                    task.cancel()
                if step is None:
                    return
                yield step


def agents(model: Model) -> dict[str, Any]:
    time = _tool(model.tell_time, "tell_time", {})
    weather = _tool(model.get_weather, "get_weather", {"city": {"type": "string", "description": "Where."}})
    wait = _tool(model.wait, "wait", {})

    def made(request: AgentRequest | None = None, tools: Any = (), **more: Any) -> Any:
        settings = request.sampling.given() if request is not None else {}
        return ToolCallingAgent([*tools], Fake(model, settings), prompt_templates=PROMPTS, **more)

    async def ask_expert(question: str) -> str:
        return await asyncio.to_thread(lambda: str(made().run(question)))

    expert = _tool(ask_expert, "ask_expert", {"question": {"type": "string", "description": "What."}})

    def instructed() -> ToolCallingAgent:
        return made(instructions="Be kind.")

    def with_weather() -> ToolCallingAgent:
        return made(tools=[weather, wait])

    async def careful() -> Any:
        return made(tools=[weather, time])

    def with_expert() -> ToolCallingAgent:
        return made(tools=[expert])

    return {
        "plain": SmolagentsBackend(made, parameters=["temperature", "max_tokens", "reasoning_effort"]),
        "instructed": instructed,
        "weather": with_weather,
        "careful": SmolagentsBackend(careful, approve=["get_weather"]),
        "expert": with_expert,
    }


def _tool(function: Callable[..., Coroutine[Any, Any, str]], name: str, inputs: dict[str, Any]) -> Any:
    def forward(self: Any, **arguments: Any) -> str:
        return asyncio.run(function(**arguments))

    kind = type(name, (smol.Tool,), {"forward": forward, "name": name, "description": name, "inputs": inputs})
    kind.output_type, kind.skip_forward_signature_validation = "string", True
    return kind()


def _call(index: int, call_id: str, name: str, arguments: str) -> Any:
    function = models.ChatMessageToolCallFunction(name=name, arguments=arguments)
    call = models.ChatMessageToolCallStreamDelta(index=index, id=call_id, type="function", function=function)
    return models.ChatMessageStreamDelta(tool_calls=[call])


def _shown(messages: Any) -> list[Shown]:
    shown = []
    for message in messages:
        text = "".join([part["text"] for part in message.content if part["type"] == "text"])
        media = [part["image"].fp.getvalue() for part in message.content if part["type"] == "image"]
        if message.role == "tool-response":
            shown += [Shown("tool", line) for line in text.removeprefix("Observation:\n").splitlines()]
        elif message.role == "tool-call" or text:
            role = "assistant" if message.role == "tool-call" else str(message.role.value)
            shown.append(Shown(role, text.removeprefix("New task:\n"), media=tuple(media)))
    return shown
