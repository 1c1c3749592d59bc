from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"Sunny in {city}."


# The SDK's own double, which says this once: name your model here
model = ScriptedModel(
    [[function_call("get_weather", {"city": "Oslo"}, call_id="call_1")], [assistant_message("Sunny.")]]
)
agent = Agent(name="Support", instructions="Answer in one sentence.", tools=[get_weather], model=model)
