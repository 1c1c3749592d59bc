"""`openai-compat key`: a key, and its line for a key file."""

from __future__ import annotations

from pathlib import Path

import pytest

from openai_compat import ApiKeys, key_from_file
from tests.adapters.in_process import invoke
from tests.requirements import requirement
from tests.support.exchanges import bearing

pytestmark = pytest.mark.anyio


@requirement("cli.key")
async def test_the_second_line_lets_the_first_in_and_does_not_tell_it(tmp_path: Path) -> None:
    key, line = invoke("key", "ann", "--model", "helper", "--model", "openai/gpt-5").output.splitlines()
    assert key.startswith("sk-")
    assert key not in line
    (tmp_path / "keys").write_text(f"{line}\n")
    principal = await ApiKeys(key_from_file(tmp_path / "keys")).principal(bearing(key))
    assert (principal.id, principal.models) == ("ann", {"helper", "openai/gpt-5"})


@requirement("cli.key")
def test_no_two_keys_are_the_same() -> None:
    assert len({line for _ in range(3) for line in invoke("key").output.splitlines()}) == 6


def test_a_models_name_with_a_space_is_refused() -> None:
    refused = invoke("key", "--model", "two words")
    assert refused.exit_code == 2
    assert "no spaces" in refused.output
