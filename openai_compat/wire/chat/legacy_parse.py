"""Parses `POST /v1/completions`, the older API, into one request per prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from ...agent_request import AgentRequest, Caller, Sampling
from ...errors import InvalidRequest
from ...messages import TextPart, UserMessage
from ..json import parse_object, validate
from ..misplaced_parameters import NON_COMPLETION_PARAMETERS, refuse_misplaced
from .parse import ANONYMOUS, stop_sequences
from .request_types import CompletionRequest


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """A validated completion request: one agent request per prompt, each run `n` times."""

    wire: CompletionRequest
    prompts: list[str]
    requests: list[AgentRequest]

    @property
    def include_usage(self) -> bool:
        """True if a stream is to end with a usage chunk."""
        options = self.wire.stream_options
        return options is not None and options.include_usage is True


def parse_completion(body: bytes, caller: Caller = ANONYMOUS) -> ParsedCompletion:
    """Parse `body`. Raises InvalidRequest with the `param` at fault."""
    raw = parse_object(body)
    if not NON_COMPLETION_PARAMETERS.keys().isdisjoint(raw):
        refuse_misplaced(raw, NON_COMPLETION_PARAMETERS)
    wire = validate(CompletionRequest, raw)
    _refuse_unsupported(wire)
    prompts = _prompts(wire)
    return ParsedCompletion(wire, prompts, [_build_request(wire, prompt, caller) for prompt in prompts])


def _refuse_unsupported(wire: CompletionRequest) -> None:
    refused = {
        "suffix": wire.suffix is not None,
        "logprobs": wire.logprobs is not None,
        "best_of": wire.best_of is not None and wire.best_of != (wire.n or 1),
    }
    for name, sent in refused.items():
        if sent:
            raise InvalidRequest(f"'{name}' is not supported.", param=name, code="unsupported_parameter")


def _prompts(wire: CompletionRequest) -> list[str]:
    if isinstance(wire.prompt, str):
        return [wire.prompt]
    if not wire.prompt or not all([isinstance(prompt, str) for prompt in wire.prompt]):
        raise InvalidRequest(
            "'prompt' must be text: this server has no tokenizer.", param="prompt", code="invalid_type"
        )
    return cast("list[str]", wire.prompt)


def _build_request(wire: CompletionRequest, prompt: str, caller: Caller) -> AgentRequest:
    return AgentRequest(
        model=wire.model,
        messages=(UserMessage((TextPart(prompt),)),),
        raw_messages=[{"role": "user", "content": prompt}],
        sampling=Sampling(
            temperature=wire.temperature,
            top_p=wire.top_p,
            max_tokens=wire.max_tokens,
            stop=stop_sequences(wire.stop),
            seed=wire.seed,
            frequency_penalty=wire.frequency_penalty,
            presence_penalty=wire.presence_penalty,
            logit_bias=wire.logit_bias,
        ),
        stream=wire.stream is True,
        principal=caller.principal,
        headers=caller.headers,
        user=wire.user,
        extra=wire.__pydantic_extra__ or {},
    )
