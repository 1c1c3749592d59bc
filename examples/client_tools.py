"""An agent that calls a client tool, and the client that runs the tool.

Serve it:   uvicorn client_tools:app
Call it:    python client_tools.py http://127.0.0.1:8000/v1
"""

import json
import sys

from openai import OpenAI

from openai_compat import AgentRequest, Server, ToolCallReady
from openai_compat_adapters.starlette import create_app


async def agent(request: AgentRequest):
    if request.resume is None:
        yield ToolCallReady("call_1", "get_weather", json.dumps({"city": request.prompt}))
        return  # the answer ends with finish_reason "tool_calls"; the client's next request brings the result
    for result in request.resume.results.values():
        yield f"The weather service says: {result.text}"


app = create_app(Server({"weather": agent}))


# The client

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def get_weather(city: str) -> str:
    return f"12 degrees and rain in {city}"


def ask(base_url: str, city: str) -> str | None:
    client = OpenAI(base_url=base_url, api_key="none")
    messages = [{"role": "user", "content": city}]
    while True:
        answer = client.chat.completions.create(model="weather", messages=messages, tools=[TOOL])
        message = answer.choices[0].message
        if not message.tool_calls:
            return message.content
        messages.append(message.to_dict())
        for call in message.tool_calls:
            result = get_weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


if __name__ == "__main__":
    print(ask(sys.argv[1], "Oslo"))
