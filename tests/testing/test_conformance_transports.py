"""The conformance suites of further APIs: good agents pass them, and each defect is found."""

from __future__ import annotations

import pytest

from openai_compat.testing import MessagesConformance
from tests.requirements import requirement
from tests.testing.inner import conformance_of
from tests.testing.transports import DEFECTS

CALLS = "test_a_call_of_the_clients_is_whole"


@requirement("kit.apis")
@pytest.mark.parametrize(
    ("name", "skipped"),
    [("GoodMessages", set()), ("GoodOllama", set()), ("PlainMessages", {CALLS}), ("PlainOllama", {CALLS})],
)
def test_an_agent_without_a_defect_passes(name: str, skipped: set[str]) -> None:
    outcome = conformance_of(f"tests.testing.transports:{name}")
    assert (outcome.errors, outcome.failed, set(outcome.skipped)) == ([], {}, skipped)
    assert len(outcome.passed) == (9 if name.endswith("Messages") else 6) - len(skipped)


@requirement("kit.apis")
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_by_the_check_that_is_for_it(name: str) -> None:
    outcome = conformance_of(f"tests.testing.transports:{name}")
    assert outcome.errors == []
    assert set(outcome.failed) == DEFECTS[name], outcome.failed


def test_every_check_finds_some_defect() -> None:
    checks = {name for name in dir(MessagesConformance) if name.startswith("test_")}
    assert set().union(*DEFECTS.values()) == checks
