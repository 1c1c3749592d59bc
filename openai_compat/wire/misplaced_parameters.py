"""Rejects parameters that belong to another API, since ignoring them would silently lose what the client wants.

Hints that only a model could follow (`seed`, `logit_bias`, `reasoning` in chat) are treated like other unknown fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequest

CHAT_PARAMETERS: Mapping[str, str] = {
    "messages": "Responses take 'input'.",
    "response_format": "Responses take 'text.format'.",
    "max_tokens": "Responses take 'max_output_tokens'.",
    "max_completion_tokens": "Responses take 'max_output_tokens'.",
    "reasoning_effort": "Responses take 'reasoning.effort'.",
    "verbosity": "Responses take 'text.verbosity'.",
    "functions": "Responses take 'tools'.",
    "function_call": "Responses take 'tool_choice'.",
    "web_search_options": "Responses take a tool of the type 'web_search' in 'tools'.",
    "logprobs": "Responses take 'message.output_text.logprobs' in 'include'.",
    "n": "A response is one answer: send a request for each.",
    "stop": "Responses have no stop sequences.",
    "modalities": "Responses are asked for text only.",
}
"""Chat parameters, each with its equivalent in the Responses API."""

RESPONSES_PARAMETERS: Mapping[str, str] = {
    "input": "Chat completions take 'messages'.",
    "instructions": "Chat completions take a message with the role 'developer' in 'messages'.",
    "max_output_tokens": "Chat completions take 'max_completion_tokens'.",
    "text": "Chat completions take 'response_format' and 'verbosity'.",
    "previous_response_id": "Chat completions take what was said before in 'messages'.",
    "background": "Chat completions are answered at once: use POST /v1/responses.",
}
"""Responses parameters, each with its equivalent in chat."""

NON_COMPLETION_PARAMETERS: Mapping[str, str] = {
    "max_completion_tokens": "Completions take 'max_tokens'.",
    "max_output_tokens": "Completions take 'max_tokens'.",
    "response_format": "Completions have no form: use POST /v1/chat/completions.",
    "tools": "Completions have no tools: use POST /v1/chat/completions.",
}

NO_OP_VALUES: Mapping[str, tuple[Any, ...]] = {
    "background": (False,),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "stop": ([], ""),
    "tools": ([],),
}
"""Values that request nothing beyond the defaults."""


def refuse_misplaced(raw: Mapping[str, Any], instead: Mapping[str, str]) -> None:
    """Raise InvalidRequest for the first parameter that belongs to another API; the message says what to send instead."""
    for name, advice in instead.items():
        value = raw.get(name)
        # Some clients send every parameter they know, set to the value that changes nothing.
        if value is not None and value not in NO_OP_VALUES.get(name, ()):
            text = f"'{name}' is not a parameter here. {advice}"
            raise InvalidRequest(text, param=name, code="unsupported_parameter")
