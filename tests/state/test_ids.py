"""Ids are unguessable and unique."""

from __future__ import annotations

import os
import re
import sys
import threading

import pytest

from openai_compat.state.ids import new_id


def test_an_id_has_its_prefix_and_128_random_bits() -> None:
    assert re.fullmatch("resp_[0-9a-f]{32}", new_id("resp_"))


def test_no_two_ids_are_the_same_whatever_thread_asks() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend([new_id("") for _ in range(2000)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == len(made) == 8000


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_makes_other_ids_than_its_parent() -> None:
    new_id("")  # fills the cache of random bytes
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, " ".join([new_id("") for _ in range(100)]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        theirs = pipe.read().split()
    assert len(theirs) == 100
    assert set(theirs).isdisjoint([new_id("") for _ in range(100)])
