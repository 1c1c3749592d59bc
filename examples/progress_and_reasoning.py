"""An agent that shows its work: reasoning, a step, its own tool, a source, and token usage.

Serve it:   uvicorn progress_and_reasoning:app
"""

import json

from openai_compat import Citation, Progress, ReasoningDelta, Server, ToolCallReady, ToolResult, UsageReported
from openai_compat_adapters.starlette import create_app


def look_up(city: str) -> str:
    return f"12 degrees and rain in {city}"


async def agent(prompt: str):
    yield Progress("step", "plan", "Planning")
    yield ReasoningDelta("The weather changes, so I have to look it up.")
    yield Progress("step", "plan", "Planned", done=True)

    yield ToolCallReady("call_1", "look_up", json.dumps({"city": prompt}), executor="agent")
    found = look_up(prompt)
    yield ToolResult("call_1", found)

    yield found
    yield Citation("https://weather.example/oslo", "Weather", start_index=0, end_index=len(found))
    yield UsageReported(input_tokens=31, output_tokens=12, reasoning_tokens=5)


app = create_app(Server({"weather": agent}))
