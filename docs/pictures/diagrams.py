"""Draws the diagrams of docs/img/*.svg from tables in the code.

- `events-*.svg`: which event of a Responses stream may follow which, from `wire/responses/event_order.py`
- `layers.svg`: which module may import which, from the contract in `pyproject.toml`
- `request.svg`: the way of a request, as described in `explanation/architecture.md`
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from docs.pictures.graph import Edge, Node, draw, rectangle, svg, text
from openai_compat.wire.responses.event_order import ITEMS, RESPONSE, SPEECH, START, Table

ROOT = Path(__file__).resolve().parents[2]
END = "end"
SEQUENCES: Mapping[str, Table] = {"response": RESPONSE, **ITEMS, "speech": SPEECH}
REQUEST = (
    Node("request", ("bytes",)),
    Node("adapters", ("1 adapters", "a transport makes an HttpRequest, or a WebSocket")),
    Node("server", ("2 server", "Host, key, route; errors become envelopes")),
    Node("api", ("3 api/X", "the order of the work of one API")),
    Node("parse", ("4 wire/X parse", "bytes to a typed request, or 400")),
    Node("history", ("5 state: history", "locks the conversation, reads", "what was said before")),
    Node("run", ("6 turns/run", "slot, agent, deadlines, commit, last bytes")),
    Node("serialize", ("8 wire/X serialize", "events to bytes")),
    Node("agents", ("7 agents | backends", "your agent yields events")),
    Node("commit", ("9 state: commit", "the whole turn or nothing of it")),
    Node("answer", ("bytes",)),
)
WAY = (
    *(Edge(a.name, b.name) for a, b in pairwise(REQUEST[:7])),
    Edge("run", "agents", "both"),
    Edge("run", "serialize"),
    Edge("serialize", "commit"),
    Edge("serialize", "answer", "dashed"),
    Edge("commit", "answer"),
)


def events(name: str, table: Table) -> str:
    """A state machine whose states are events, named without `response.`."""
    nodes = [Node(event, () if event == START else (event.removeprefix("response."),)) for event in _in_order(table)]
    edges = [Edge(before, after) for before in _in_order(table) for after in _in_order(table) if after in table[before]]
    edges += [Edge(event, END) for event, following in table.items() if not following]
    return draw([*nodes, Node(END, ring=True)], edges, f"The order of the events of {name}")


def _in_order(table: Table) -> list[str]:
    return [event for event in table if event == START] + [event for event in table if event != START]


def layers() -> str:
    """One row per layer, with its modules side by side."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    width, height, gap = 560.0, 28.0, 6.0
    parts: list[str] = []
    for number, row in enumerate(rows):
        names = [name.strip().removeprefix("openai_compat.") for name in re.split(r"[|:]", row)]
        each = (width - gap * (len(names) - 1)) / len(names)
        for index, name in enumerate(names):
            x, y = index * (each + gap), number * (height + gap)
            parts += [rectangle(x, y, each, height), text(x + each / 2, y + height / 2 + 4, name, strong=True)]
    return svg(parts, width, len(rows) * (height + gap) - gap, "The layers: a module imports only from those below it")


def diagrams() -> dict[str, str]:
    """All diagrams, by file name."""
    drawn = {f"events-{name.replace('_', '-')}.svg": events(name, table) for name, table in SEQUENCES.items()}
    return {
        **drawn,
        "layers.svg": layers(),
        "request.svg": draw(REQUEST, WAY, "The way of a request through nine boxes"),
    }


def main(folder: Path) -> None:
    for name, picture in diagrams().items():
        (folder / name).write_text(picture, "utf-8")
