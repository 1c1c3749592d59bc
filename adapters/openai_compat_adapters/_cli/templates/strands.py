from strands import Agent, tool
from strands.models import Model


class StrandsStandIn(Model):
    """Stands in for a model: calls the first tool, then repeats its result."""

    async def stream(self, messages, tool_specs=None, system_prompt=None, **more):
        last = messages[-1]["content"][-1]
        if "toolResult" in last:
            start, delta, reason = {}, {"text": last["toolResult"]["content"][0]["text"]}, "end_turn"
        else:
            start = {"toolUse": {"toolUseId": "call_1", "name": tool_specs[0]["name"]}}
            delta, reason = {"toolUse": {"input": '{"city": "Paris"}'}}, "tool_use"
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": start}}
        yield {"contentBlockDelta": {"delta": delta}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": reason}}

    def get_config(self):
        return {}

    def update_config(self, **config): ...

    def structured_output(self, *args, **more): ...


@tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"Sunny in {city}."


def agent() -> Agent:
    return Agent(StrandsStandIn(), tools=[get_weather], system_prompt="Answer in one sentence.")  # your model here
