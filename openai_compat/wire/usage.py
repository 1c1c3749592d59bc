"""Token counts in OpenAI's format."""

from __future__ import annotations

from .chat.response_types import CompletionUsage
from .reducer import Usage


def usage_object(usage: Usage) -> CompletionUsage:
    """Return the `usage` object. Clients require one: if the agent reported nothing, it is zeros with `reported: false`."""
    result: CompletionUsage = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    # Left out if not reported: 0 would claim that nothing came from a cache.
    if usage.cached_tokens is not None:
        result["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        result["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    if not usage.reported:
        result["reported"] = False
    return result
