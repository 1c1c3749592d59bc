from smolagents import ChatMessage, Model, ToolCallingAgent, tool
from smolagents.models import ChatMessageToolCall, ChatMessageToolCallFunction


class SmolagentsStandIn(Model):
    """Stands in for a model: calls the first tool, then answers with its result."""

    def generate(self, messages, tools_to_call_from=None, **more):
        said = messages[-1].content[0]["text"]
        name, arguments = tools_to_call_from[0].name, {"city": "Paris"}
        if messages[-1].role == "tool-response":
            name, arguments = "final_answer", {"answer": said.removeprefix("Observation:\n")}
        function = ChatMessageToolCallFunction(name=name, arguments=arguments)
        return ChatMessage("assistant", "", [ChatMessageToolCall(function=function, id="call_1", type="function")])


@tool
def get_weather(city: str) -> str:
    """The weather in a city, now.

    Args:
        city: where
    """
    return f"Sunny in {city}."


def agent() -> ToolCallingAgent:
    # your model here
    return ToolCallingAgent([get_weather], SmolagentsStandIn(), instructions="Answer in one sentence.")
