"""Runs graphs of LangGraph, including LangChain's agents. Needs `openai-compat[langgraph]`.

Untyped: type checking would need the framework installed. Tests run against its real versions.
"""

from ...package import needs

with needs(__name__, "langgraph"):
    from .backend import LangGraphBackend
    from .middleware import per_request

__all__ = ("LangGraphBackend", "per_request")
