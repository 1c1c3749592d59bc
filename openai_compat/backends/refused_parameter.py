"""Finds the request's parameter that the model's API refuses: a 400 for the client, not a failure of the agent."""

from __future__ import annotations

from collections.abc import Mapping

from ..agent_request import Sampling
from ..errors import InvalidRequest

NUMBERS: Mapping[str, tuple[object, ...]] = {
    "temperature": (None,),
    "top_p": (None,),
    "seed": (None,),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
}
"""What models take or not, each as it likes, with the values that change nothing."""

REFUSED = frozenset({400, 422})
"""The statuses that say so."""


def sent_numbers(sampling: Sampling) -> list[str]:
    """The names of those that the client has sent, if they are to change anything."""
    return [name for name, neutral in NUMBERS.items() if getattr(sampling, name) not in neutral]


def unsupported(name: str) -> InvalidRequest:
    """The error for a parameter that the model behind the agent does not take."""
    text = f"The model behind this agent does not take '{name}', or not with this value."
    # Always 400, which no client repeats: Codex and opencode send a 422 again.
    return InvalidRequest(text, param=name, code="unsupported_parameter", should_retry=False)


def refusal_of(error: Exception, sampling: Sampling) -> InvalidRequest | None:
    """The error for the client, if the API has refused one of its numbers; None for any other failure."""
    if getattr(error, "status_code", None) not in REFUSED:
        return None
    named = getattr(error, "param", None)
    text = str(error)
    for name in sent_numbers(sampling):
        # OpenAI and its like quote the name; Anthropic writes it bare, or with backticks
        quoted = (f"`{name}`", f"'{name}'", f'"{name}"', f"{name}:", f"{name} ")
        if name == named or any([form in text for form in quoted]):
            # Without the API's own words, which may tell of keys and addresses behind this server.
            return unsupported(name)
    return None
