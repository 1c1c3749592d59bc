"""The engines that are measured: their stores' URLs, and how quick the disk below them is."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parent.parent))  # PostgreSQL is started as the tests start theirs

from tests.stores.postgres_cluster import Cluster, programs

ENGINES = ("memory", "sqlite", "postgresql")
SHARED = ENGINES[1:]
"""Those that outlive their process."""

_running = ExitStack()
_clusters: list[Cluster] = []


def available() -> tuple[str, ...]:
    """The engines that can be measured here."""
    return ENGINES if programs() is not None else ENGINES[:2]


@contextmanager
def store_url(engine: str) -> Iterator[str]:
    """The URL of a new, empty store."""
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
    """A PostgreSQL as durable as it is out of the box, in a directory of its own, for the whole benchmark."""
    if not _clusters:
        found = programs()
        assert found is not None, "PostgreSQL is not installed"
        made = Cluster(found)
        _running.callback(made.remove)
        made.start()
        _clusters.append(made)
    return _clusters[0]


def stop() -> None:
    """Stop what was started."""
    _running.close()


def syncs_per_second(seconds: float = 0.5) -> float:
    """How often the disk can be made to keep 4 kB, one write after the other: what durable commits wait for."""
    with tempfile.TemporaryFile() as file:
        count, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            count += 1
    return count / elapsed
