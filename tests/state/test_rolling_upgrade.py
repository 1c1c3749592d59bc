"""A rolling upgrade: processes of an older version and of this one, on one PostgreSQL, with turns in both."""

from __future__ import annotations

import asyncio
import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from openai_compat.stores.schema import MIGRATIONS
from tests.requirements import requirement
from tests.state.asking import chat, soon, stored, taken, text
from tests.state.hosts import ROOT, SOON, Host, Leash, eventually

pytestmark = pytest.mark.anyio

OLDER = "c2f0ce6fe1220201e2d54faf9c3f05487df409eb"
"""A commit with schema version 4: no webhooks, superseding turns, grants or settings in the store."""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The older version's code."""
    command = ["git", "archive", OLDER, "openai_compat", "adapters", "tests/__init__.py", "tests/state"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip("the older version is not in this copy of the repository")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@contextmanager
def started(*hosts: Host) -> Iterator[None]:
    try:
        yield
    finally:
        for host in hosts:
            host.remove()


@requirement("several.upgrade")
async def test_an_older_process_goes_on_beside_a_newer_one_and_they_share_what_they_both_know(
    postgres_url: str, older: Path, agents: Leash, conversation: str
) -> None:
    assert len(MIGRATIONS) > 4
    old = Host(postgres_url, root=older)
    with started(old):
        async with old.client() as at_old:
            assert text(await chat(at_old, conversation, "one", model="echoing")) == "one"
            long = soon(chat(at_old, f"{conversation}-long", agents.prompt("through it")))
            run = await agents.run()
            made = await at_old.responses.create(model="echoing", input="old", background=True)
            new = Host(postgres_url)  # migrates the schema, while the turn runs
            with started(new):
                async with new.client() as at_new:
                    assert text(await chat(at_new, conversation, "two", model="echoing")) == "two"
                    assert text(await chat(at_old, conversation, "three", model="echoing")) == "three"
                    assert await stored(at_new, conversation) == ["one", "one", "two", "two", "three", "three"]
                    assert await run.end("kept") == "ended"
                    assert text(await long) == "kept"
                    assert (await stored(at_new, f"{conversation}-long"))[-1] == "kept"
                    done = await at_new.responses.create(model="echoing", input="new", previous_response_id=made.id)
                    assert (await at_old.responses.retrieve(done.id)).output_text == "new"
                    # Killed during a turn, as the last one to be replaced: the newer server takes over.
                    lost = soon(chat(at_old, conversation, agents.prompt("never")))
                    await agents.run()
                    old.kill()
                    with pytest.raises(Exception, match=r".*"):
                        await lost
                    await eventually(partial(taken, at_new, conversation, "four"), SOON)
                    assert (await stored(at_new, conversation))[-2:] == ["four", "four"]


@requirement("several.upgrade")
async def test_an_older_version_does_not_start_on_the_schema_of_a_newer_one_and_changes_nothing(
    postgres_url: str, older: Path, conversation: str
) -> None:
    new = Host(postgres_url)
    with started(new):
        async with new.client() as at_new:
            assert text(await chat(at_new, conversation, "one", model="echoing")) == "one"
            old = Host(postgres_url, root=older)
            with started(old):
                assert await asyncio.to_thread(old.ended) != 0
                assert "newer version" in old.log
            assert text(await chat(at_new, conversation, "two", model="echoing")) == "two"
