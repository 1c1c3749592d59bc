"""How fast this machine is at the moment: what a fixed piece of Python takes, in CPU time.

    python benchmarks/machine.py

Machines differ, and one that others use too is now twice as fast as in a minute. So the benchmarks of single requests take
this loop in turn with what they measure, and print beside each figure what it would be where the loop takes `REFERENCE`.
Their targets are meant for such a machine: on it a plain chat request took 185 us in the process when they were set.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

REFERENCE = 620.0
"""Microseconds of the loop on the machine that the targets are meant for."""

STEPS = 2000


class _Counter:
    def __init__(self) -> None:
        self.words: dict[str, int] = {}

    def add(self, word: str) -> int:
        count = self.words.get(word, 0) + 1
        self.words[word] = count
        return count


def fast(found: Sequence[float]) -> float:
    """What was measured where nothing disturbed: the slowest of the fastest twentieth. The very fastest is chance, too."""
    return sorted(found)[len(found) // 20]


class Machine:
    """How long the loop took, each time that somebody looked."""

    def __init__(self) -> None:
        self._looks: list[float] = []

    @property
    def loop(self) -> float:
        """Microseconds."""
        return fast(self._looks)

    def look(self) -> None:
        """Take the time of the loop: to be called in turn with what is measured."""
        began = time.process_time()
        counter = _Counter()
        for number in range(STEPS):
            text = f"word {number % 7}"
            if counter.add(text) % 2:
                counter.add("odd")
        self._looks.append((time.process_time() - began) * 1e6)

    def scaled(self, microseconds: float) -> float:
        """What it would take on the machine that the targets are meant for."""
        return microseconds * REFERENCE / self.loop

    def __str__(self) -> str:
        return f"loop {self.loop:.0f} us: figures times {REFERENCE / self.loop:.2f} are those of the machine of the targets"


if __name__ == "__main__":
    machine = Machine()
    for _ in range(200):
        machine.look()
    print(machine)
