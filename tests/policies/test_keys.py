"""API keys in storage: digests, names and models of their principals, and files that change."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from openai_compat import ApiKeys, Principal, key_from_env, key_from_file
from openai_compat.errors import Unauthorized, Unavailable
from openai_compat.policies.keys import STABLE_AGE, KeyTable
from tests.requirements import requirement
from tests.support.exchanges import bearing

pytestmark = pytest.mark.anyio
HASHED = f"sha256:{sha256(b'sk-ann').hexdigest()}"


async def who(keys: Any, sent: str) -> str | None:
    try:
        return (await ApiKeys(keys).principal(bearing(sent))).id
    except Unauthorized:
        return None


@requirement("auth.hashed")
@pytest.mark.parametrize("keys", [HASHED, [HASHED, "sk-bob"], {HASHED: None}, lambda: HASHED])
async def test_a_key_may_be_given_by_its_digest_and_keeps_its_id(keys: Any) -> None:
    assert await who(keys, "sk-ann") == await who("sk-ann", "sk-ann")
    assert await who(keys, HASHED) is None
    assert await who(keys, HASHED.removeprefix("sha256:")) is None


@requirement("auth.hashed")
async def test_the_digest_of_nothing_opens_to_nobody() -> None:
    nothing = f"sha256:{sha256(b'').hexdigest()}"
    for request in (bearing(""), bearing("x")):
        with pytest.raises(Unauthorized):
            await ApiKeys(nothing).principal(request)


@pytest.mark.parametrize("text", ["sha256:", "sha256:abc", f"{HASHED}0", HASHED.upper()])
async def test_what_is_no_digest_is_a_key_like_others(text: str) -> None:
    assert await who(text, text) is not None
    assert await who(text, "sk-ann") is None


@requirement("auth.hashed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sk-ann", (None, None)),
        ("sk-ann ann", ("ann", None)),
        ("sk-ann   Ann of sales ", ("Ann of sales", None)),
        (f"{HASHED} ann", ("ann", None)),
        (f"{HASHED} ann model=helper", ("ann", {"helper"})),
        (f"{HASHED} Ann B  model=helper model=openai/gpt-5", ("Ann B", {"helper", "openai/gpt-5"})),
        (f"{HASHED} model=helper", (None, {"helper"})),
        (f"{HASHED} ann model=", ("ann model=", None)),
        (f"{HASHED} model=a ann", ("model=a ann", None)),
    ],
)
async def test_a_line_has_a_key_its_owner_and_the_models_of_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, expected: Any
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# the team\n{line}\nsk-other\n")
    monkeypatch.setenv("KEYS", f"sk-other, {line}")
    name, models = expected
    own = f"key-{sha256(b'sk-ann').hexdigest()[:12]}"
    for source in (key_from_file(path), key_from_env("KEYS")):
        principal = await ApiKeys(source).principal(bearing("sk-ann"))
        assert (principal.id, principal.models) == (name or own, models)


async def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text("sk-old")
    source = key_from_file(path)
    assert source() is not source()  # the file is new, so another write might not change its time and size
    before = path.stat().st_mtime - STABLE_AGE - 1
    os.utime(path, (before, before))
    assert source() is source()
    path.write_text("sk-new")
    os.utime(path, (before, before))  # the same size and time as before
    assert await who(source, "sk-new") is not None
    path.unlink()
    with pytest.raises(Unavailable):
        await who(source, "sk-new")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["sk-a"], ["sk-b"]),
        (["sk-a", "sk-a"], ["sk-a", "sk-b"]),
        ({"sk-a"}, {"sk-b"}),
        ({"sk-a": "ann"}, {"sk-b": "ann"}),
        ("sk-a", "sk-b"),
        ("sk-a", ["sk-b"]),
    ],
)
async def test_what_a_source_changes_counts_at_once(before: Any, after: Any) -> None:
    current = [before]
    auth = ApiKeys(lambda: current[0])
    assert await auth.principal(bearing("sk-a"))
    current[0] = after
    assert await auth.principal(bearing("sk-b"))


async def test_a_list_that_is_changed_in_place_counts_at_once() -> None:
    keys = ["sk-a"]
    auth = ApiKeys(lambda: keys)
    assert await auth.principal(bearing("sk-a"))
    keys[:] = ["sk-b"]
    assert await auth.principal(bearing("sk-b"))
    with pytest.raises(Unauthorized):
        await auth.principal(bearing("sk-a"))


async def test_another_principal_of_the_same_key_counts_at_once() -> None:
    keys = {"sk-a": Principal("ann", claims={"tier": 1})}
    auth = ApiKeys(lambda: keys)
    assert (await auth.principal(bearing("sk-a"))).claims == {"tier": 1}
    keys["sk-a"] = Principal("ann", claims={"tier": 2})
    assert (await auth.principal(bearing("sk-a"))).claims == {"tier": 2}


def test_keys_are_not_kept_as_they_are() -> None:
    table = KeyTable({"sk-ann": "ann"})
    assert b"sk-ann" not in repr([getattr(table, name) for name in KeyTable.__slots__]).encode()
    assert "sk-ann" not in repr(table)
