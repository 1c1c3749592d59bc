from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms.mock import MockFunctionCallingLLM


def get_weather(city: str = "Paris") -> str:
    """The weather in a city, now."""
    return f"Sunny in {city}."


agent = FunctionAgent(llm=MockFunctionCallingLLM(), tools=[get_weather])  # LlamaIndex's mock: your model here
