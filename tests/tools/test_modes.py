"""Security modes: which calls run, need approval, or are denied; a request can never loosen them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import Principal
from openai_compat.errors import InvalidRequest
from openai_compat.tools import MODES, Modes, decide
from openai_compat.tools.modes import DANGERS, STRICTEST_FIRST, Facts, Verdict
from tests.tools.support import request_for

facts = st.builds(
    Facts,
    danger=st.sampled_from(DANGERS),
    listed=st.booleans(),
    granted=st.booleans(),
    sandbox=st.sampled_from(["none", "unfit", "ready"]),
)


def said(verdict: Verdict) -> str:
    return f"{verdict.action} in the sandbox" if verdict.sandboxed else verdict.action


@pytest.mark.parametrize(
    ("mode", "safe", "risky", "dangerous"),
    [
        ("deny", "deny", "deny", "deny"),
        ("sandbox", "deny", "deny", "deny"),
        ("allowlist", "run", "ask", "ask"),
        ("ask", "run", "ask", "ask"),
        ("full", "run", "run", "run"),
    ],
)
def test_without_a_sandbox_and_lists_a_mode_goes_by_danger(mode: str, safe: str, risky: str, dangerous: str) -> None:
    verdicts = [decide({mode}, Facts(danger)) for danger in DANGERS]

    assert [said(verdict) for verdict in verdicts] == [safe, risky, dangerous]


def test_the_sandbox_mode_runs_in_the_sandbox_or_not_at_all() -> None:
    assert said(decide({"sandbox"}, Facts("risky", sandbox="ready"))) == "run in the sandbox"
    assert said(decide({"sandbox"}, Facts("dangerous", sandbox="ready"))) == "run in the sandbox"
    assert said(decide({"sandbox"}, Facts("safe", sandbox="ready"))) == "run in the sandbox"
    assert said(decide({"sandbox"}, Facts("safe", sandbox="unfit"))) == "run"
    assert said(decide({"sandbox"}, Facts("risky", sandbox="unfit"))) == "deny"
    assert said(decide({"sandbox"}, Facts("risky", listed=True, granted=True))) == "deny"


def test_a_list_counts_in_the_allowlist_mode_only_and_never_for_what_is_dangerous() -> None:
    assert said(decide({"allowlist"}, Facts("risky", listed=True))) == "run"
    assert said(decide({"allowlist"}, Facts("dangerous", listed=True))) == "ask"
    assert said(decide({"ask"}, Facts("risky", listed=True))) == "ask"
    assert said(decide({"deny"}, Facts("risky", listed=True))) == "deny"


def test_what_a_user_has_allowed_for_always_is_not_asked_about_again_unless_it_is_dangerous() -> None:
    assert said(decide({"ask"}, Facts("risky", granted=True))) == "run"
    assert said(decide({"allowlist"}, Facts("risky", granted=True))) == "run"
    assert said(decide({"ask"}, Facts("dangerous", granted=True))) == "ask"
    assert said(decide({"deny"}, Facts("safe", granted=True))) == "deny"


def test_modes_together_ask_about_what_then_runs_in_the_sandbox() -> None:
    assert said(decide({"ask", "sandbox"}, Facts("risky", sandbox="ready"))) == "ask in the sandbox"


@given(st.sets(st.sampled_from(MODES), min_size=1), st.sampled_from(MODES), facts)
def test_one_more_mode_never_loosens_anything(modes: set[str], more: str, known: Facts) -> None:
    before = decide(modes, known)
    after = decide({*modes, more}, known)

    assert STRICTEST_FIRST.index(after.action) <= STRICTEST_FIRST.index(before.action)
    assert after.sandboxed or not before.sandboxed or after.action == "deny"


def test_the_default_is_to_ask() -> None:
    assert Modes().of(request_for()) == {"ask"}


def test_the_agents_and_the_principals_modes_go_before_the_servers_and_both_hold() -> None:
    request = replace(request_for(), principal=Principal("ann"))
    modes = Modes(server="deny", principals={"ann": "full"})

    assert modes.of(request) == {"full"}
    assert modes.of(request_for()) == {"deny"}
    assert replace(modes, agent="allowlist").of(request) == {"full", "allowlist"}


def test_a_request_adds_its_mode_to_the_others() -> None:
    assert Modes(server="ask").of(request_for(security_mode="full")) == {"ask", "full"}
    assert Modes(server="full").of(request_for(security_mode="deny")) == {"full", "deny"}


@pytest.mark.parametrize("mode", ["FULL", "", 1, ["full"], {"full": 1}])
def test_a_request_for_a_mode_that_does_not_exist_is_refused(mode: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Modes().of(request_for(security_mode=mode))
    assert caught.value.param == "security_mode"


def test_a_setting_for_a_mode_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="security mode"):
        Modes(server="yolo")
    with pytest.raises(ValueError, match="security mode"):
        Modes(principals={"ann": "yolo"})
