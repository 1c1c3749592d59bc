"""Finds the request parameter that a model's API has refused: a 400 for the client, not a failure of the agent."""

from __future__ import annotations

from collections.abc import Mapping

from ..agent_request import Sampling
from ..errors import InvalidRequest

MODEL_PARAMETERS: Mapping[str, tuple[object, ...]] = {
    "temperature": (None,),
    "top_p": (None,),
    "seed": (None,),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
}
"""Parameters that only some models accept, with the values that have no effect."""

REFUSED_STATUSES = frozenset({400, 422})
"""HTTP statuses of a refused parameter."""


def sent_parameters(sampling: Sampling) -> list[str]:
    """The names of `MODEL_PARAMETERS` that the client has sent with a value that has an effect."""
    return [name for name, neutral in MODEL_PARAMETERS.items() if getattr(sampling, name) not in neutral]


def unsupported_parameter(name: str) -> InvalidRequest:
    """The error for a parameter that the model behind the agent does not accept."""
    text = f"The model behind this agent does not take '{name}', or not with this value."
    # Always 400, which no client retries: Codex and opencode retry a 422.
    return InvalidRequest(text, param=name, code="unsupported_parameter", should_retry=False)


def find_refusal(error: Exception, sampling: Sampling) -> InvalidRequest | None:
    """The error for the client, if the API has refused one of its parameters; None for any other failure."""
    if getattr(error, "status_code", None) not in REFUSED_STATUSES:
        return None
    named = getattr(error, "param", None)
    text = str(error)
    for name in sent_parameters(sampling):
        # OpenAI and compatible APIs quote the name; Anthropic writes it bare or in backticks
        quoted = (f"`{name}`", f"'{name}'", f'"{name}"', f"{name}:", f"{name} ")
        if name == named or any([form in text for form in quoted]):
            # Without the API's own message, which may reveal keys and addresses behind this server.
            return unsupported_parameter(name)
    return None
