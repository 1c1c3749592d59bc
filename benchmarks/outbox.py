"""Cost of a webhook to the turn that it reports: CPU time of a commit in SQLite, with and without its notice.

    python benchmarks/outbox.py [--rounds 400]

Commits with and without notices alternate in one file. A single notice is below the noise, so a commit has twenty, and the
figure is a twentieth of their cost. It is scaled to the reference machine of the targets: see machine.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import tempfile
import time
from dataclasses import replace

from machine import Machine, fast
from state import PRINCIPAL, outcome

from openai_compat.stores.open import open_store
from openai_compat.stores.port import Key, Store
from openai_compat.stores.records import WebhookNotice

NOTICES = 20
TURNS = 3
"""Turns per batch."""

BODY = json.dumps({"id": "evt_" + "0" * 32, "type": "response.completed", "data": {"id": "resp_" + "0" * 32}})


async def turn(store: Store, notices: int) -> None:
    """Lock a new conversation, commit a question, an answer, and notices."""
    key, token = Key(PRINCIPAL, "conv_" + secrets.token_hex(16)), secrets.token_hex(16)
    await store.begin(key, token)
    told = [WebhookNotice("evt_" + secrets.token_hex(16), "target", BODY) for _ in range(notices)]
    assert await store.commit(replace(outcome(key.id, token), notices=tuple(told)))


async def measure(rounds: int) -> None:
    """Measure, and print the result."""
    machine, lots = Machine(), {0: list[float](), NOTICES: list[float]()}
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/outbox.db")
        for number in range(rounds):
            machine.look()
            for notices in (0, NOTICES) if number % 2 else (NOTICES, 0):
                began = time.process_time()
                for _ in range(TURNS):
                    await turn(store, notices)
                lots[notices].append((time.process_time() - began) / TURNS * 1e6)
        await store.aclose()
    plain, told = [machine.scaled(fast(found)) for found in lots.values()]
    each = (told - plain) / NOTICES
    print(machine)
    print(f"a turn in the store {plain:.0f} us, a notice {each:.1f} us: {each / plain:.1%} more   (at most 5 %)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400, help="batches of each kind")
    asyncio.run(measure(parser.parse_args().rounds))
