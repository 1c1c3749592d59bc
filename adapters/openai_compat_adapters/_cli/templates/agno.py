from agno.agent import Agent
from agno.models.base import Model
from agno.models.response import ModelResponse

CALL = {"id": "call_1", "type": "function"}


class AgnoStandIn(Model):
    """Stands in for a model: calls the first tool, then repeats its result."""

    async def ainvoke_stream(self, messages, tools=None, **more):
        if messages[-1].role == "tool":
            yield ModelResponse(content=messages[-1].content)
        else:
            function = {"name": tools[0]["function"]["name"], "arguments": '{"city": "Paris"}'}
            yield ModelResponse(tool_calls=[{**CALL, "function": function}])

    def invoke(self, *args, **more): ...

    ainvoke = invoke_stream = _parse_provider_response = _parse_provider_response_delta = invoke


def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"Sunny in {city}."


agent = Agent(model=AgnoStandIn("stand-in"), tools=[get_weather], telemetry=False)  # your model here
