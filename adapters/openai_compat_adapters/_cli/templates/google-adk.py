from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmResponse
from google.genai import types


class AdkStandIn(BaseLlm):
    """Stands in for a model: calls the first tool, then repeats its result."""

    model: str = "stand-in"

    async def generate_content_async(self, llm_request, stream=False):
        last = llm_request.contents[-1].parts[-1]
        if last.function_response:
            said = types.Part(text=str(last.function_response.response["result"]))
        else:
            name = llm_request.config.tools[0].function_declarations[0].name
            said = types.Part(function_call=types.FunctionCall(name=name, args={"city": "Paris"}))
        yield LlmResponse(content=types.Content(role="model", parts=[said]))


def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"Sunny in {city}."


# name your model here
agent = LlmAgent(name="support", model=AdkStandIn(), instruction="Be brief.", tools=[get_weather])
