"""Every defect is found by the checks for it and by no others."""

from __future__ import annotations

import pytest

from openai_compat.testing import Conformance
from tests.testing.defects import DEFECTS
from tests.testing.inner import conformance_of


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_by_the_check_that_is_for_it(name: str) -> None:
    outcome = conformance_of(f"tests.testing.defects:{name}")
    assert outcome.errors == []
    assert set(outcome.failed) == DEFECTS[name], outcome.failed
    assert all(outcome.sections.values())


def test_every_check_finds_some_defect() -> None:
    checks = {name for name in dir(Conformance) if name.startswith("test_")}
    assert set().union(*DEFECTS.values()) == checks
    assert len(DEFECTS) >= 25
