from agent_framework import Agent, BaseChatClient, ChatResponseUpdate, Content, FunctionInvocationLayer


class AgentFrameworkStandIn(FunctionInvocationLayer, BaseChatClient):
    """Stands in for a model: calls the first tool, then repeats its result."""

    def _inner_get_response(self, *, messages, stream, options, **more):
        return self._build_response_stream(self._updates(messages[-1].contents[-1], options))

    async def _updates(self, last, options):
        if last.type == "function_result":
            said = Content.from_text(last.result)
        else:
            said = Content.from_function_call("call_1", options["tools"][0].name, arguments='{"city": "Paris"}')
        yield ChatResponseUpdate(contents=[said], role="assistant")


def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"Sunny in {city}."


agent = Agent(AgentFrameworkStandIn(), "Answer in one sentence.", tools=[get_weather])  # your own client here
