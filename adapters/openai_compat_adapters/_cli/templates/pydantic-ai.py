from pydantic_ai import Agent

agent = Agent("test", instructions="Answer in one sentence.")  # Pydantic AI's test model: name your model here


@agent.tool_plain
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"Sunny in {city}."
