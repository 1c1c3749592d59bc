"""LlamaIndex's agents for the acceptance cases, with a fake function-calling model."""

from __future__ import annotations

import importlib
from typing import Any

from tests.frameworks.model import CACHED, INPUT, OUTPUT, REASONING, Call, Model, RateLimited, Say, Seen, Shown, Think

core: Any = importlib.import_module("llama_index.core.agent.workflow")
types: Any = importlib.import_module("llama_index.core.base.llms.types")
calling: Any = importlib.import_module("llama_index.core.llms.function_calling")
tools: Any = importlib.import_module("llama_index.core.tools")
workflow: Any = importlib.import_module("llama_index.core.workflow")

NAME = "LlamaIndex"
IMPOSSIBLE = {
    "edited": "a person's response is a text, which the tool reads",
    "restart": "the run waits for the decision",
    "structured output": "its agents accept classes, but no JSON Schema",
    "parameters": "its models get them when they are created",
    "their tokens": "the usage of an agent inside a tool is not reported",
}


class LimitError(Exception):
    """Like `openai.RateLimitError`: LlamaIndex's models pass the exceptions of their SDKs on."""

    status_code = 429
    response = type("Response", (), {"status_code": 429, "headers": {"retry-after": "7"}})()


LimitError.__module__ = "openai"


def agents(model: Model) -> dict[str, Any]:
    fake = Fake(model)

    async def ask_expert(question: str) -> str:
        """Ask the expert."""
        return str(await core.FunctionAgent(llm=fake).run(user_msg=question))

    async def get_weather(ctx: Any, city: str) -> str:
        """The weather in a city."""
        answer = await ctx.wait_for_event(
            workflow.HumanResponseEvent,
            waiter_id=city,
            waiter_event=workflow.InputRequiredEvent(prefix=f"May I look at {city}?", city=city),
            requirements={"city": city},
        )
        return await model.get_weather(city) if answer.response == "yes" else "denied"

    get_weather.__annotations__["ctx"] = workflow.Context
    return {
        "plain": core.FunctionAgent(llm=fake),
        "instructed": core.FunctionAgent(llm=fake, system_prompt="Be kind."),
        "weather": core.FunctionAgent(llm=fake, tools=[model.get_weather, model.wait]),
        "careful": core.FunctionAgent(llm=fake, tools=[get_weather, model.tell_time]),
        "expert": core.FunctionAgent(llm=fake, tools=[ask_expert]),
    }


class Fake(calling.FunctionCallingLLM):
    def __init__(self, model: Model) -> None:
        super().__init__()
        object.__setattr__(self, "double", model)

    @property
    def metadata(self) -> Any:
        return types.LLMMetadata(is_function_calling_model=True, context_window=100_000)

    async def astream_chat_with_tools(self, tools: Any, chat_history: Any = None, **_: Any) -> Any:
        async def stream() -> Any:
            text, calls = "", []
            try:
                async for step in self.double.answer(_seen(chat_history, tools)):
                    match step:
                        case Say(piece):
                            text += piece
                            yield _response(text, calls, delta=piece)
                        case Think(thought):
                            yield _response(text, calls, thought=thought)
                        case Call(id=call_id, name=name, arguments=arguments):
                            calls.append(
                                types.ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=arguments)
                            )
            except RateLimited as error:
                raise LimitError from error
            yield _response(text, calls, raw={"usage": USAGE})

        return stream()

    def get_tool_calls_from_response(self, response: Any, **_: Any) -> Any:
        calls = [block for block in response.message.blocks if block.block_type == "tool_call"]
        return [
            tools.ToolSelection(tool_id=call.tool_call_id, tool_name=call.tool_name, tool_kwargs=call.tool_kwargs)
            for call in calls
        ]

    def _prepare_chat_with_tools(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    chat = complete = stream_chat = stream_complete = achat = acomplete = astream_chat = astream_complete = (
        _prepare_chat_with_tools
    )


USAGE = {
    "prompt_tokens": INPUT,
    "completion_tokens": OUTPUT,
    "prompt_tokens_details": {"cached_tokens": CACHED},
    "completion_tokens_details": {"reasoning_tokens": REASONING},
}


def _response(text: str, calls: list[Any], *, delta: str = "", thought: str = "", raw: Any = None) -> Any:
    message = types.ChatMessage(role="assistant", blocks=[types.TextBlock(text=text), *calls])
    return types.ChatResponse(message=message, delta=delta, raw=raw, additional_kwargs={"thinking_delta": thought})


def _seen(messages: list[Any], offered: Any) -> Seen:
    shown = []
    for message in messages:
        calls = [block.tool_call_id for block in message.blocks if block.block_type == "tool_call"]
        media = [block for block in message.blocks if block.block_type == "image"]
        shown.append(
            Shown(
                str(message.role.value),
                message.content or "",
                tuple(calls),
                message.additional_kwargs.get("tool_call_id", ""),
                tuple([block.resolve_image().read() for block in media]),
            )
        )
    return Seen(shown, [tool.metadata.get_name() for tool in offered or ()])
