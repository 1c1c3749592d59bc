"""How fast this machine is at the moment: the CPU time of a fixed piece of Python.

    python benchmarks/machine.py

Machines differ, and a shared one may be twice as fast a minute later. So the benchmarks of single requests run this
calibration loop between their measurements, and scale each figure to a machine on which the loop takes `REFERENCE`.
The targets are meant for that machine: a plain in-process chat request took 185 us on it when they were set.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

REFERENCE = 620.0
"""Microseconds of the loop on the reference machine of the targets."""

STEPS = 2000


class _Counter:
    def __init__(self) -> None:
        self.words: dict[str, int] = {}

    def add(self, word: str) -> int:
        count = self.words.get(word, 0) + 1
        self.words[word] = count
        return count


def fast(found: Sequence[float]) -> float:
    """An estimate without interference: the 5th percentile. The very fastest sample is chance, too."""
    return sorted(found)[len(found) // 20]


class Machine:
    """Durations of the calibration loop, one for each `look`."""

    def __init__(self) -> None:
        self._looks: list[float] = []

    @property
    def loop(self) -> float:
        """Microseconds of the loop."""
        return fast(self._looks)

    def look(self) -> None:
        """Time the loop once; call it between the measurements."""
        began = time.process_time()
        counter = _Counter()
        for number in range(STEPS):
            text = f"word {number % 7}"
            if counter.add(text) % 2:
                counter.add("odd")
        self._looks.append((time.process_time() - began) * 1e6)

    def scaled(self, microseconds: float) -> float:
        """The time on the reference machine of the targets."""
        return microseconds * REFERENCE / self.loop

    def __str__(self) -> str:
        return f"loop {self.loop:.0f} us: figures times {REFERENCE / self.loop:.2f} are those of the machine of the targets"


if __name__ == "__main__":
    machine = Machine()
    for _ in range(200):
        machine.look()
    print(machine)
