"""The measured storage engines: URLs of their stores, and the speed of the disk below them."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parent.parent))  # PostgreSQL is started with the tests' helper

from tests.stores.postgres_cluster import Cluster, programs

ENGINES = ("memory", "sqlite", "postgresql")
SHARED = ENGINES[1:]
"""Engines whose data outlives the process."""

_running = ExitStack()
_clusters: list[Cluster] = []


def available() -> tuple[str, ...]:
    """Engines that can be measured on this machine."""
    return ENGINES if programs() is not None else ENGINES[:2]


@contextmanager
def store_url(engine: str) -> Iterator[str]:
    """URL of a new, empty store."""
    if engine == "memory":
        yield "memory:"
    elif engine == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            yield f"sqlite:///{directory}/state.db"
    else:
        server = cluster()
        name = server.create_database()
        yield server.url(name)
        server.drop_database(name)


def cluster() -> Cluster:
    """A PostgreSQL with its default durability, in its own directory, for the whole benchmark."""
    if not _clusters:
        found = programs()
        assert found is not None, "PostgreSQL is not installed"
        made = Cluster(found)
        _running.callback(made.remove)
        made.start()
        _clusters.append(made)
    return _clusters[0]


def stop() -> None:
    """Stop everything that was started."""
    _running.close()


def syncs_per_second(seconds: float = 0.5) -> float:
    """How many consecutive 4 kB writes per second the disk makes durable; durable commits wait for these."""
    with tempfile.TemporaryFile() as file:
        count, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            count += 1
    return count / elapsed
