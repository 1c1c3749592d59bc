"""A model behind OpenAI's API, or any server that speaks its Chat Completions, as an agent.

    OpenAIBackend("gpt-5.2")                                            the key is taken from OPENAI_API_KEY
    OpenAIBackend(base_url="http://localhost:11434/v1", api_key="-")    the model is the one the client names

Needs the `openai` package, which is imported when a backend without a ready client is made.
"""

from .backend import OpenAIBackend

__all__ = ("OpenAIBackend",)
