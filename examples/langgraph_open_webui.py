"""A LangGraph agent in Open WebUI: tools shown as status lines, a memory for each chat, a separate caller for each user.

Serve it:    BOTS_KEY=sk-bots uvicorn langgraph_open_webui:app --host 0.0.0.0          (openai-compat[serve,langgraph])
Open WebUI:  docker run -p 3000:8080 --add-host host.docker.internal:host-gateway -e ENABLE_FORWARD_USER_INFO_HEADERS=true \\
                 -e OPENAI_API_BASE_URLS=http://host.docker.internal:8000/v1 -e OPENAI_API_KEYS=sk-bots \\
                 -e OPENAI_API_CONFIGS='{"0": {"headers": {"X-Conversation-Id": "{{CHAT_ID}}"}}}' ghcr.io/open-webui/open-webui:main
"""

import os

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver

from openai_compat import ApiKeys, Conversations, Server, on_behalf
from openai_compat.backends.langgraph import per_request
from openai_compat_adapters.starlette import create_app


class StandIn(BaseChatModel):
    """Replaces a model: looks up the last word of each question, and counts the questions."""

    _llm_type = "stand-in"

    def bind_tools(self, tools, **settings):
        return self

    def _generate(self, messages, *args, **more):
        last = messages[-1]
        asked = [message for message in messages if message.type == "human"]
        if last.type == "tool":
            said = AIMessage(f"{last.text} That was question {len(asked)}.")
        else:
            call = {"name": "get_weather", "args": {"city": last.text.split()[-1]}, "id": f"call_{len(asked)}"}
            said = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=said)])


def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"Sunny in {city}."


graph = create_agent(
    StandIn(),  # your model, such as "openai:gpt-5.2"
    [get_weather],
    middleware=[per_request()],
    checkpointer=InMemorySaver(),
)
programs = ApiKeys({os.environ["BOTS_KEY"]: "open-webui"})
server = Server(
    {"weather": graph},
    authenticate=on_behalf(programs, "X-OpenWebUI-User-Id", of=["open-webui"]),
    conversations=Conversations(),
)
app = create_app(server)
