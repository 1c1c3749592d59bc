"""Targets of the suite, their keys and paths; an unusable target is reported once, in a sentence."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from openai_compat import Server
from openai_compat.testing import Conformance
from openai_compat_adapters.starlette import create_app
from tests.adapters.served import serve
from tests.requirements import requirement
from tests.testing.agents import greeter
from tests.testing.inner import conformance_of

keyed = Server(greeter, keys="sk-1")
mounted = Starlette(routes=[Mount("/ai", create_app(Server(greeter)))])
nothing: dict[str, object] = {}
number = 42
HERE = "tests.testing.test_conformance_targets"


async def falls_over(scope: object, receive: object, send: object) -> None:
    raise OSError("no disk")


@requirement("kit.targets")
@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("keyed", "It wants another key (401): set `api_key`, or give --openai-compat-key KEY."),
        ("mounted", "There is nothing at /v1/models: set `path`, or give --openai-compat-path PREFIX/v1."),
        ("nothing", "a server needs at least one agent"),
        ("number", "an agent is a function, a generator or an object with a run method, not 42"),
        ("falls_over", "There is no answer from the application: OSError('no disk')."),
    ],
)
def test_what_cannot_be_examined_is_told_once_in_a_sentence(target: str, sentence: str) -> None:
    outcome = conformance_of(f"{HERE}:{target}")
    (error,) = outcome.errors
    assert error.splitlines()[0] in (f"E   AssertionError: {sentence}", f"AssertionError: {sentence}")
    assert outcome.failed == {}
    assert outcome.passed == set()
    assert set(outcome.skipped.values()) == {f"Skipped: nothing can be examined: {sentence}"}


@requirement("kit.targets")
@pytest.mark.parametrize(
    ("target", "options"),
    [("keyed", ["--openai-compat-key", "sk-1"]), ("mounted", ["--openai-compat-path", "/ai/v1"])],
)
def test_the_key_and_the_path_can_be_given(target: str, options: list[str]) -> None:
    outcome = conformance_of(f"{HERE}:{target}", *options)
    assert outcome.errors == []
    assert outcome.failed == {}
    assert len(outcome.passed) > 20


@requirement("kit.targets")
def test_a_server_that_runs_somewhere_is_examined_by_its_url() -> None:
    with serve("served_agents:echo", "--api-key", "sk-1") as served:
        outcome = conformance_of(f"http://127.0.0.1:{served.port}", "--openai-compat-key", "sk-1")
        refused = conformance_of(f"http://127.0.0.1:{served.port}/v1")
        lost = conformance_of(f"http://127.0.0.1:{served.port}/ai/v1", "--openai-compat-key", "sk-1")
    assert outcome.errors == []
    assert outcome.failed == {}
    assert len(outcome.passed) > 20
    assert "It wants another key (401)" in refused.errors[0]
    assert "There is nothing at /ai/v1/models" in lost.errors[0]


@requirement("kit.targets")
def test_a_url_at_which_nobody_answers_is_told_once() -> None:
    (error,) = conformance_of("http://127.0.0.1:9/v1").errors
    assert "There is no answer from the application: ConnectError" in error


@requirement("kit.reasoning")
def test_an_agent_that_reasons_first_is_left_after_its_first_thought() -> None:
    outcome = conformance_of("tests.testing.agents:Reasons")
    assert "test_the_agent_stops_when_the_client_leaves_between_two_pieces" in outcome.passed


def test_the_kits_tool_is_nobody_elses() -> None:
    (tool,) = Conformance.tools
    assert tool["function"]["name"].startswith("conformance_kit_")
