from haystack.components.agents import Agent
from haystack.components.generators.chat import MockChatGenerator
from haystack.dataclasses import ChatMessage, ToolCall
from haystack.tools import Tool


def stand_in(messages, tools):
    """Stands in for a model: calls the first tool, then repeats its result."""
    if messages[-1].tool_call_result:
        return messages[-1].tool_call_result.result
    call = ToolCall(tools[0].name, {"city": "Paris"}, "call_1")
    return ChatMessage.from_assistant(tool_calls=[call])


def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"Sunny in {city}."


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
weather = Tool("get_weather", "The weather in a city, now.", CITY, get_weather)
agent = Agent(chat_generator=MockChatGenerator(response_fn=stand_in), tools=[weather])  # your chat generator here
