"""Parses bad bodies, and checks the rules that hold for every refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from openai_compat.errors import MAX_MESSAGE, InvalidRequest
from tests.support import strategies


def refusal(parse: Callable[[bytes], object], body: bytes) -> InvalidRequest | None:
    """The InvalidRequest that `body` raises, or None; any other exception is a bug."""
    try:
        parse(body)
    except InvalidRequest as error:
        return error
    return None


def exists(param: str, value: Any) -> bool:
    """True if a param such as `messages[0].content` names a place in `value`, or a missing one."""
    steps = [int(index) if index else key for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", param)]
    for step in steps[:-1]:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return False
    return isinstance(value, dict | list)


def check_refusal(error: InvalidRequest, body: dict[str, Any]) -> None:
    assert error.status == 400
    assert len(error.message) <= MAX_MESSAGE
    assert strategies.SECRET not in error.message
    assert strategies.SECRET not in (error.param or "")
    if error.param is None:
        assert "too large" in error.message
    else:
        assert error.param
        assert exists(error.param, body), error.param


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()
