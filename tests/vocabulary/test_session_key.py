"""The session key, with which an agent can store data of its own for a conversation."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from openai_compat import AgentRequest, Principal
from tests.requirements import requirement

NAMES = st.text(max_size=8) | st.sampled_from(["a", "a:b", "b", ":", '","'])


def key(principal: str, conversation: str | None) -> str | None:
    request = AgentRequest(
        model="m", messages=(), raw_messages=[], principal=Principal(principal), conversation_id=conversation
    )
    return request.session_key


@requirement("session.key")
@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_no_two_principals_and_no_two_conversations_have_the_same(one: tuple[str, str], two: tuple[str, str]) -> None:
    first, second = key(*one), key(*two)
    assert (first == second) == (one == two)
    assert first is not None
    assert first.isascii()
    assert first.replace("_", "").isalnum()
    assert len(first) < 64


def test_without_a_conversation_there_is_none() -> None:
    assert key("ann", None) is None


@requirement("session.key")
def test_it_is_the_same_in_every_process_and_tells_nothing() -> None:
    code = (
        "from openai_compat import *; print(AgentRequest(model='m', messages=(), raw_messages=[],"
        " principal=Principal('ann'), conversation_id='trip').session_key)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    found = key("ann", "trip")
    assert other.stdout.strip() == found
    assert found is not None
    assert "ann" not in found.partition("_")[2]
    assert "trip" not in found
