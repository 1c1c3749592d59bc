"""Cost of concurrent turns, as a guide to `Limits.slots`, or `--max-concurrency`.

    python benchmarks/slots.py            about two minutes; prints a table in Markdown

For 64, 256 and 1,000 streams, each on a new server: its memory beyond that of a server that has served a single stream, and
the share of a core that it uses while all streams run.

  idle          an async agent that has said one thing and waits
  remembering   the same, each with a history of 100 kB, as in long conversations
  paced         an async agent that says 50 pieces per second
  threaded      a plain generator that does the same in its own thread (1,000 threads starve the event loop)

`pieces` is the number per second that reaches each client: fewer than 50 mean that the core is too slow for this load.
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
    """MB, share of a core, and pieces per second and stream."""
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
    """Measure each load, and print its row at once."""
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
