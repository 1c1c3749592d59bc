"""Ollama's API: lets Home Assistant, and phone and desktop apps that know no other API, talk to any agent.

Server(agent, apis=[Ollama()])
"""

from .routes import Ollama

__all__ = ("Ollama",)
