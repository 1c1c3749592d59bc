"""Ollama's API: Home Assistant, and phones and desktops that know no other one, as clients of any agent.

Server(agent, apis=[Ollama()])
"""

from .routes import Ollama

__all__ = ("Ollama",)
