"""The support of each documented parameter of `POST /v1/responses`: data that the reference is checked against."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple


class Parameter(NamedTuple):
    """The support of a parameter: honoured, refused with a 400, or accepted without any effect in the server itself."""

    what: Literal["honoured", "refused", "accepted"]
    note: str


def _sampling_parameter(name: str) -> Parameter:
    return Parameter("honoured", f"`request.sampling.{name}`")


_PASSED_ON = Parameter("accepted", "passed on in `request.extra`")
_REPEATED = Parameter("accepted", "repeated in the response, passed on in `request.extra`")

PARAMETERS: Mapping[str, Parameter] = MappingProxyType(
    {
        "access_programs": _REPEATED,
        "background": Parameter("honoured", "needs `store`; not over a WebSocket"),
        "background_options": _PASSED_ON,
        "context_management": _PASSED_ON,
        "conversation": Parameter("honoured", "an id or `{id}`; not with `previous_response_id`"),
        "frequency_penalty": _sampling_parameter("frequency_penalty"),
        "generate": Parameter("honoured", "`false`: the response remembers its input and has no output"),
        "image": _REPEATED,
        "include": Parameter("honoured", "`message.output_text.logprobs`; all of it is passed on in `request.extra`"),
        "input": Parameter("honoured", "text, or at most 10,000 items; unknown types are kept"),
        "instructions": Parameter("honoured", "a system message before everything else, for this response only"),
        "max_output_tokens": _sampling_parameter("max_tokens"),
        "max_tool_calls": Parameter(
            "honoured", "`request.sampling.max_tool_calls`; one call more ends the turn, as incomplete"
        ),
        "metadata": Parameter("honoured", "`request.metadata`, and kept with the response"),
        "model": Parameter("honoured", "required"),
        "moderation": _PASSED_ON,
        "parallel_tool_calls": Parameter("honoured", "`false`: one call of a client's tool at most"),
        "presence_penalty": _sampling_parameter("presence_penalty"),
        "previous_response_id": Parameter("honoured", "not with `conversation`"),
        "prompt": Parameter("refused", "there are no prompt templates here"),
        "prompt_cache_key": _REPEATED,
        "prompt_cache_options": Parameter("accepted", "passed on in `request.extra`; `prewarm` is `generate: false`"),
        "prompt_cache_retention": _REPEATED,
        "reasoning": Parameter(
            "honoured", "`effort` is `request.sampling.reasoning_effort`; all of it is passed on in `request.extra`"
        ),
        "safety_identifier": _REPEATED,
        "service_tier": Parameter("accepted", "repeated (`auto` as `default`), passed on in `request.extra`"),
        "store": Parameter("honoured", "`true` by default"),
        "stream": Parameter("honoured", ""),
        "stream_options": Parameter("honoured", "events are never padded, whatever `include_obfuscation` says"),
        "temperature": _sampling_parameter("temperature"),
        "text": Parameter("honoured", "`format` is `request.response_format`; `verbosity` is in `request.sampling`"),
        "tool_choice": Parameter("honoured", "for the client's tools; for hosted ones it is in `request.extra`"),
        "tools": Parameter(
            "honoured",
            "`function`, `custom`, `namespace` (offered as `namespace__name`); others are `hosted_tools` in `request.extra`",
        ),
        "top_logprobs": Parameter("honoured", "with `include`: `request.sampling.top_logprobs`"),
        "top_p": _sampling_parameter("top_p"),
        "truncation": Parameter(
            "honoured", "`auto`: an agent that finds the conversation too long is run again without its beginning"
        ),
        "user": Parameter("honoured", "`request.user`"),
    }
)
"""The parameters by name. Undocumented parameters are passed on in `request.extra`."""
