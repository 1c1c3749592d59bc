"""kill -9 of processes that post webhooks: every stored outcome is delivered, with one id.

Three kills on each engine; `KILLS=100` for more.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
from collections import defaultdict
from pathlib import Path

import pytest

from openai_compat.stores.open import open_store
from openai_compat.stores.sql import SqlStore
from tests.requirements import requirement
from tests.state.hosts import eventually
from tests.state.telling import tell
from tests.state.test_webhooks import receiver
from tests.stores.statements import rows

pytestmark = pytest.mark.anyio

KILLS = int(os.environ.get("KILLS", "3"))
RUNNING = "select count(*) from oc_response where status in ('queued', 'in_progress')"
OUTCOMES = "select id, status from oc_response where background = 1"


# Forked from one process that has imported everything: the imports take longer than all the rest.
FORKS = multiprocessing.get_context("forkserver")


class Teller:
    """One of the processes that are killed."""

    def __init__(self, store: str, hook: str, *, quiet: bool = False) -> None:
        self._begun, theirs = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=tell, args=(store, hook, theirs), kwargs={"quiet": quiet}, daemon=True)
        self._process.start()
        theirs.close()

    def begun(self) -> None:
        """Return once it works."""
        assert self._begun.recv()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()
        self._process.join(20)
        self._begun.close()


@pytest.mark.timeout(60 + 6 * KILLS)
@pytest.mark.parametrize(("engine", "number"), [("sqlite", 2), ("postgresql", 3)])
@requirement("webhooks.kept")
async def test_no_webhook_is_lost_with_the_processes_that_are_killed(
    engine: str, number: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    sqlite = engine == "sqlite"
    store_url: str = f"sqlite:///{tmp_path / 'state.db'}" if sqlite else request.getfixturevalue("postgres_url")
    dice = random.Random(7)
    store = open_store(store_url)
    assert isinstance(store, SqlStore)
    FORKS.set_forkserver_preload(["tests.state.telling", "openai_compat.api.build", "openai_compat.stores.sqlite"])
    with receiver() as app:
        tellers = [Teller(store_url, app.url) for _ in range(number)]
        try:
            for teller in tellers:
                await asyncio.to_thread(teller.begun)
            for kill in range(KILLS):
                await asyncio.sleep(dice.uniform(0.0, 0.3))
                tellers[kill % number].kill()
                tellers[kill % number] = Teller(store_url, app.url)
                await asyncio.to_thread(tellers[kill % number].begun)
        finally:
            for teller in tellers:
                teller.kill()
        told_before = len(app.received)
        quiet = Teller(store_url, app.url, quiet=True)
        try:

            async def over() -> bool:
                running = await store.engine.run(rows(RUNNING))
                return not running[0][0] and not await store.targets()

            await eventually(over, 60)
        finally:
            quiet.kill()
    outcomes = {id_: f"response.{status}" for id_, status in await store.engine.run(rows(OUTCOMES))}
    await store.aclose()
    ids: dict[str, set[str]] = defaultdict(set)
    told: dict[str, str] = {}
    for _, body in app.received:
        event = json.loads(body)
        ids[event["data"]["id"]].add(event["id"])
        told[event["data"]["id"]] = event["type"]
    assert told == outcomes
    assert {len(several) for several in ids.values()} == {1}
    print(f"{KILLS} kills: {len(outcomes)} outcomes, {len(app.received)} posts, {len(app.received) - told_before} late")
