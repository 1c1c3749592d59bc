"""Microsoft Agent Framework's agents for the acceptance cases, with a fake chat client."""

from __future__ import annotations

import importlib
import json
from typing import Any

import httpx2
import openai

from tests.frameworks import model as double
from tests.frameworks.model import CACHED, INPUT, OUTPUT, REASONING, Answer, Call, Model, Say, Seen, Shown, Think

af: Any = importlib.import_module("agent_framework")
exceptions: Any = importlib.import_module("agent_framework.exceptions")

NAME = "Agent Framework"
IMPOSSIBLE = {
    "edited": "it runs a call as the model made it, so changed arguments are a 400",
    "their tokens": "it does not report the usage of an agent inside a tool",
}

USAGE = {
    "input_token_count": INPUT,
    "output_token_count": OUTPUT,
    "cache_read_input_token_count": CACHED,
    "reasoning_output_token_count": REASONING,
}


class RawOpenAIChatClient(af.FunctionInvocationLayer, af.BaseChatClient):
    """Named like the framework's OpenAI client, since the backend detects supported options by the class name."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.double = model

    def _inner_get_response(self, *, messages: Any, stream: bool, options: Any, **more: Any) -> Any:
        told = self._build_response_stream(self._updates(messages, options))
        return told if stream else told.get_final_response()

    async def _updates(self, messages: Any, options: Any) -> Any:
        said: list[Any] = []
        try:
            async for step in self.double.answer(_seen(messages, options)):
                if said and type(step) is not type(said[-1]):
                    yield _update(_whole(said))
                    said.clear()
                for content in _contents(step):
                    yield _update(content)
                said.append(step)
                if isinstance(step, Call):
                    yield _update(_whole([step]))
                    said.clear()
            if said:
                yield _update(_whole(said))
        except double.RateLimited as error:
            request = httpx2.Request("POST", "https://model.example")
            answer = httpx2.Response(429, headers={"retry-after": "7"}, request=request)
            cause = openai.RateLimitError(double.SECRET, response=answer, body=None)
            raise exceptions.ChatClientException(double.SECRET, inner_exception=error) from cause
        yield _update(af.Content.from_usage(dict(USAGE)))


def agents(model: Model) -> dict[str, Any]:
    fake = RawOpenAIChatClient(model)
    expert = af.Agent(fake, name="ask_expert", description="Ask the expert.")
    asks = af.tool(approval_mode="always_require")(model.get_weather)

    def team() -> Any:
        one, two = af.Agent(fake, name="one"), af.Agent(fake, name="two")
        return af.WorkflowBuilder(start_executor=one).add_edge(one, two).build().as_agent()

    return {
        "team": team,
        "plain": af.Agent(fake),
        "instructed": af.Agent(fake, "Be kind."),
        "weather": af.Agent(fake, tools=[model.get_weather, model.wait]),
        "careful": af.Agent(fake, tools=[asks, model.tell_time]),
        "expert": af.Agent(fake, tools=[expert.as_tool(arg_name="question")]),
    }


def _update(content: Any) -> Any:
    return af.ChatResponseUpdate(contents=[content], role="assistant")


def _whole(steps: list[Any]) -> Any:
    """The whole content that replaces its streamed pieces, as sent by the framework's client of OpenAI's Responses API."""
    match steps[0]:
        case Say():
            return af.Content.from_text("".join([step.text for step in steps]), merge_mode="replace")
        case Think():
            return af.Content.from_text_reasoning(text="".join([step.text for step in steps]), merge_mode="replace")
        case Call(id=call_id, name=name, arguments=arguments):
            return af.Content.from_function_call(call_id, name, arguments=json.dumps(arguments), merge_mode="replace")
        case _:
            return af.Content.from_text('{"city": "Rome"}', merge_mode="replace")


def _contents(step: Any) -> list[Any]:
    match step:
        case Say(text):
            return [af.Content.from_text(text)]
        case Think(text):
            return [af.Content.from_text_reasoning(text=text)]
        case Call(id=call_id, name=name):
            first, second = step.pieces
            call = af.Content.from_function_call
            return [call(call_id, name, arguments=first), call(call_id, "", arguments=second)]
        case Answer():
            return [af.Content.from_text('{"city": '), af.Content.from_text('"Rome"}')]
    raise AssertionError(step)


def _seen(messages: list[Any], options: Any) -> Seen:
    shown = [Shown("system", options["instructions"])] if options.get("instructions") else []
    for message in messages:
        calls = [content.call_id for content in message.contents if content.type == "function_call"]
        results = [content for content in message.contents if content.type == "function_result"]
        media = [content.uri for content in message.contents if content.type in ("data", "uri")]
        shown += [Shown("tool", result.result, call_id=result.call_id) for result in results]
        if not results:
            shown.append(Shown(str(message.role), message.text, tuple(calls), media=tuple(media)))
    settings = {**options, "reasoning_effort": (options.get("reasoning") or {}).get("effort")}
    wanted = options.get("response_format") or {}
    schema = wanted.get("json_schema", {}).get("schema")
    return Seen(shown, [tool.name for tool in options.get("tools") or ()], settings, schema)
