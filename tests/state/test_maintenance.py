"""The store of a running server: checked at startup, swept while it runs, closed at shutdown."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from openai_compat import MemoryStore, Server
from openai_compat.errors import Unavailable
from openai_compat.state.maintenance import StoreMaintenance
from openai_compat.stores.open import open_store
from openai_compat.stores.port import RETENTION, Key
from openai_compat.stores.schema import UnusableStore
from tests.loops import EVERY_LOOP
from tests.requirements import requirement
from tests.support.operated import Recorder
from tests.transports import reach

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Watched(MemoryStore):
    """Records the calls to it; fails with `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.hangs = False
        self.sweeps: list[float] = []
        self.checks = 0
        self.closed = 0

    async def sweep(self, retention: float = RETENTION) -> int:
        self.sweeps.append(retention)
        if self.error is not None:
            raise self.error
        return 1

    async def check(self) -> None:
        self.checks += 1
        if self.hangs:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.closed += 1


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.005)


def away() -> Unavailable:
    return Unavailable("The store cannot be reached.", code="store_unavailable")


@requirement("store.sweep")
async def test_a_store_is_swept_again_and_again_while_its_server_serves() -> None:
    store = Watched()
    maintenance = StoreMaintenance(store, 60, every=0.001)
    await maintenance.begin()
    await until(lambda: len(store.sweeps) > 3)
    await maintenance.end()
    swept = len(store.sweeps)
    await anyio.wait_all_tasks_blocked()
    assert len(store.sweeps) == swept
    assert set(store.sweeps) == {60}


@requirement("store.sweep")
@pytest.mark.parametrize("error", [away(), RuntimeError("a bug")])
async def test_a_sweep_that_fails_is_tried_again(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "openai_compat")
    store = Watched()
    maintenance = StoreMaintenance(store, 60, every=0.001)
    await maintenance.begin()
    store.error = error
    await until(lambda: "could not be swept" in caplog.text)
    store.error = None
    swept = len(store.sweeps)
    await until(lambda: len(store.sweeps) > swept + 2)
    await maintenance.end()


@requirement("store.sweep")
async def test_what_was_not_used_for_the_retention_is_gone_from_a_file(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/state.db")
    await store.create("ann", "conv_1", {}, [])
    assert await store.sweep(3600) == 0
    maintenance = StoreMaintenance(store, 0, every=0.001)
    await maintenance.begin()
    with anyio.fail_after(10):
        while await store.read(Key("ann", "conv_1")) is not None:
            await anyio.sleep(0.005)
    await maintenance.end()
    await store.aclose()


@requirement("store.start")
async def test_a_store_that_is_away_at_the_start_is_told_and_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    store = Watched(away())
    async with Server(Recorder(), store=store).lifespan():
        pass
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("the store does not answer (Unavailable): what needs it gets 503 store_unavailable")


@requirement("store.start")
async def test_a_store_that_will_never_do_keeps_a_server_from_serving(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    file.write_bytes(b"this is no database, but somebody may need it" * 20)
    server = Server(Recorder(), store=f"sqlite:///{file}")
    with pytest.raises(UnusableStore, match="no SQLite database"):
        async with server.lifespan():
            raise AssertionError("served")
    assert file.read_bytes().startswith(b"this is no database")
    await server.services.state.store.aclose()


@requirement("store.url")
async def test_a_server_closes_the_store_that_it_opened_and_no_other(tmp_path: Path) -> None:
    mine = Watched()
    async with Server(Recorder(), store=mine).lifespan():
        pass
    opened = Server(Recorder(), store=f"sqlite:///{tmp_path}/state.db")
    async with opened.lifespan():
        await opened.services.state.store.create("ann", "conv_1", {}, [])
    assert mine.closed == 0
    assert [path.name for path in tmp_path.iterdir()] == ["state.db"]  # no -wal: the last connection is closed
    with sqlite3.connect(tmp_path / "state.db") as connection:
        assert connection.execute("select id from oc_conversation").fetchall() == [("conv_1",)]
    connection.close()


@requirement("store.ready")
async def test_readyz_tells_how_the_store_is_and_asks_it_no_more_than_once_a_second() -> None:
    store = Watched()
    server = Server(Recorder(), store=store)
    async with reach(server, "in-process") as client:
        ready = [(await client.get("/readyz")).json() for _ in range(5)]
        checks = store.checks
    broken = Server(Recorder(), store=Watched(away()))
    async with reach(broken, "in-process") as client:
        answer = await client.get("/readyz")
    assert ready == [{"status": "ready", "running": 0, "store": "ok"}] * 5
    assert checks == 1
    assert (answer.status_code, answer.json()["store"]) == (200, "unavailable")


@requirement("store.ready")
async def test_readyz_does_not_wait_for_a_store_that_hangs() -> None:
    store = Watched()
    store.hangs = True
    async with reach(Server(Recorder(), store=store), "in-process") as client:
        with anyio.fail_after(5):
            answer = await client.get("/readyz")
    assert answer.json()["store"] == "unavailable"


@pytest.mark.parametrize("url", ["mysql://user:password@host/db", "state.db", "sqlite://state.db", ""])
def test_a_url_that_names_no_store_is_refused_without_telling_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as refused:
        Server(Recorder(), store=url)
    assert "password" not in str(refused.value).replace("user:password@host:port", "")
