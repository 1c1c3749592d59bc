from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"Sunny in {city}."


def weather(turn: int):
    yield [function_call("get_weather", {"city": "Oslo"}, call_id=f"call_{turn}")]
    yield [assistant_message("Sunny.")]


# The SDK's scripted model, with answers for a hundred turns: name your model here
model = ScriptedModel([step for turn in range(100) for step in weather(turn)])
agent = Agent(name="Support", instructions="Answer in one sentence.", tools=[get_weather], model=model)
