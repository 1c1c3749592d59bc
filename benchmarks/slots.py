"""What turns cost that are open at once: what to choose `Limits.slots`, or `--max-concurrency`, by.

    python benchmarks/slots.py            about two minutes; prints a table in Markdown

For 64, 256 and 1,000 streams, each on a new server: its memory beyond that of one which has served a single stream, and
how much of a core it takes while all streams go on.

  idle          an async agent that has said one thing and waits
  remembering   the same, each with a history of 100 kB, as long conversations have
  paced         an async agent that says 50 pieces a second
  threaded      a plain generator that does, in a thread of its own (1,000 threads leave the event loop next to nothing)

`pieces` is how many a second reach each client: fewer than 50 mean that the core is too slow for so many.

The server has one core, this program another. Linux only. Needs the extra `test` and the dependency group `bench`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

import load
from launch import Running, cores_apart, running
from measures import LONG

COUNTS = {"idle": (64, 256, 1000), "remembering": (64, 256, 1000), "paced": (64, 256, 1000), "threaded": (64, 256)}
LONG_ENOUGH = 100_000
SECONDS = 4.0
SETTLING = 1.0


def _message(agent: str) -> bytes:
    history = LONG[:-1] if agent == "remembering" else []
    return load.request(agent, [*history, {"role": "user", "content": str(LONG_ENOUGH)}], stream=True)


async def cost(server: Running, agent: str, count: int) -> tuple[float, float, float]:
    """MB, cores, pieces a second and stream."""
    first = await load.open_streams(server.port, _message(agent), 1)
    before = server.memory()
    streams = first + await load.open_streams(server.port, _message(agent), count - 1)
    await asyncio.sleep(SETTLING)
    cpu, events = server.cpu(), _events(streams)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(SECONDS)
    seconds = loop.time() - began
    cores, rate = (server.cpu() - cpu) / seconds, (_events(streams) - events) / seconds / count
    memory = (server.memory() - before) / 1e6
    for stream in streams:
        stream.close()
    return memory, cores, rate


def _events(streams: Sequence[load.Stream]) -> int:
    return sum([stream.events for stream in streams])


def main() -> None:
    """Measure, and print a row of the table as soon as it is there."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| agents | streams | memory, MB | for each, kB | of a core | pieces/s |")
    print("|---|---|---|---|---|---|")
    with cores_apart():
        for agent, counts in COUNTS.items():
            for count in counts:
                with running("slots") as server:
                    memory, cores, rate = load.run(cost(server, agent, count))
                each = memory / count * 1000
                print(f"| {agent} | {count:,} | {memory:.1f} | {each:.0f} | {cores:.0%} | {rate:.1f} |", flush=True)


if __name__ == "__main__":
    main()
