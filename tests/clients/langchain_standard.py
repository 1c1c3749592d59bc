"""LangChain's own standard tests of chat models, on ChatOllama and ChatAnthropic: `pytest langchain_standard.py`.

They run in the environment of requirements.txt, against the server at $SERVED_AT, whose agent is `obedient`.
"""

from __future__ import annotations

import os
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_ollama import ChatOllama
from langchain_tests.integration_tests import ChatModelIntegrationTests

SERVED_AT = os.environ["SERVED_AT"]


class TestChatOllama(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOllama

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # There is no TLS to verify, and loading the certificates takes most of the time of these tests.
        return {"model": "obedient", "base_url": SERVED_AT, "client_kwargs": {"verify": False}}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def has_tool_choice(self) -> bool:
        return False


class TestChatAnthropic(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "obedient", "base_url": SERVED_AT, "api_key": "none", "max_retries": 0}
