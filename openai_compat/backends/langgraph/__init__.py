"""Runs graphs of LangGraph, which the agents of LangChain are too. Needs `openai-compat[langgraph]`.

Types of the framework are not checked here, which would need it wherever they are; its real versions are run instead.
"""

from ...package import needs

with needs(__name__, "langgraph"):
    from .backend import LangGraphBackend
    from .middleware import per_request

__all__ = ("LangGraphBackend", "per_request")
