from itertools import cycle

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langgraph.checkpoint.memory import InMemorySaver

from openai_compat.backends.langgraph import per_request

model = GenericFakeChatModel(
    messages=cycle(["How can I help?", "Try it again."])
)  # name your model here: "openai:gpt-5"
graph = create_agent(model, [], middleware=[per_request()], checkpointer=InMemorySaver())
