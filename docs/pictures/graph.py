"""Lays out a small directed graph from top to bottom, and writes it as SVG in the colour of the surrounding text.

Sugiyama's method: layers by the longest path from the start, the order within a layer by the mean of the neighbours, edges
across several layers through dummy nodes. The same graph always gives the same picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

LETTER, LINE, GAP, BETWEEN, POINT = 7.2, 17, 26, 40, 14
SWEEPS = 12


class Node(NamedTuple):
    """A box with a first line and optional smaller ones; without lines a dot, with a ring if it is an end."""

    name: str
    lines: tuple[str, ...] = ()
    ring: bool = False

    @property
    def size(self) -> tuple[float, float]:
        if not self.lines:
            return POINT, POINT
        return max(len(line) for line in self.lines) * LETTER + 22, len(self.lines) * LINE + 13


class Edge(NamedTuple):
    """An arrow between two nodes; `dashed`, or with heads at `both` ends."""

    source: str
    target: str
    style: str = ""


def draw(nodes: Sequence[Node], edges: Sequence[Edge], title: str) -> str:
    """The picture as one `svg` element without empty lines, so that it can stand in Markdown."""
    at = {node.name: node for node in nodes}
    back = _back_edges(list(at), edges)
    forward = [edge for edge in edges if edge not in back and edge.source != edge.target]
    layers, routes = _layers(list(at), forward)
    sizes = {name: at[name].size if name in at else (POINT, POINT) for layer in layers for name in layer}
    places, width, height = _places(layers, routes, sizes)
    loops = [edge for edge in edges if edge.source == edge.target]
    right = width + (22 * len(back) if back else 0)
    parts = [_route([places[name] for name in routes[edge]], edge, sizes, edges, places) for edge in forward]
    parts += [_return(edge, number, width, places, sizes) for number, edge in enumerate(back)]
    parts += [_loop(places[edge.source], sizes[edge.source]) for edge in loops]
    parts += [_box(at[name], places[name]) for name in at]
    return svg(parts, right + (18 if loops else 0), height, title)


def svg(parts: Sequence[str], width: float, height: float, title: str) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {width + 2:.0f} {height + 2:.0f}" width="{width + 2:.0f}"'
        f' role="img" aria-label="{escape(title)}" font-family="inherit" font-size="12" fill="none" stroke="currentColor">'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def text(x: float, y: float, words: str, *, strong: bool = False) -> str:
    weight = ' font-weight="600"' if strong else ' opacity="0.8"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" fill="currentColor" stroke="none"{weight}>{escape(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5" stroke-opacity="0.55"/>'


def _back_edges(names: Sequence[str], edges: Sequence[Edge]) -> list[Edge]:
    """Edges to a node that is still on the path of the depth-first search."""
    found: list[Edge] = []
    done: set[str] = set()

    def walk(name: str, above: tuple[str, ...]) -> None:
        done.add(name)
        for edge in edges:
            if edge.source == name and edge.target in above:
                found.append(edge)
            elif edge.source == name and edge.target not in done:
                walk(edge.target, (*above, name))

    for name in names:
        if name not in done:
            walk(name, ())
    return found


def _layers(names: Sequence[str], edges: Sequence[Edge]) -> tuple[list[list[str]], Mapping[Edge, list[str]]]:
    depth = dict.fromkeys(names, 0)
    for _ in names:
        for edge in edges:
            depth[edge.target] = max(depth[edge.target], depth[edge.source] + 1)
    layers: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name in names:
        layers[depth[name]].append(name)
    routes: dict[Edge, list[str]] = {}
    for edge in edges:
        points = [f"{edge.source}>{edge.target}@{level}" for level in range(depth[edge.source] + 1, depth[edge.target])]
        for level, point in enumerate(points, depth[edge.source] + 1):
            layers[level].append(point)
        routes[edge] = [edge.source, *points, edge.target]
    pairs = [pair for route in routes.values() for pair in pairwise(route)]
    for sweep in range(SWEEPS):
        for layer in layers if sweep % 2 else layers[::-1]:
            place = {name: index - len(row) / 2 for row in layers for index, name in enumerate(row)}
            near = {name: [place[a if b == name else b] for a, b in pairs if name in (a, b)] for name in layer}
            layer.sort(key=lambda name: sum(near[name]) / len(near[name]) if near[name] else 0.0)
    return layers, routes


Places = Mapping[str, tuple[float, float]]
Sizes = Mapping[str, tuple[float, float]]


def _places(
    layers: Sequence[Sequence[str]], routes: Mapping[Edge, list[str]], sizes: Sizes
) -> tuple[Places, float, float]:
    """The centre of each node. Rows start centred, and then move towards their neighbours."""
    x: dict[str, float] = {}
    for layer in layers:
        left = -sum(sizes[name][0] + GAP for name in layer) / 2
        for name in layer:
            x[name] = left + (sizes[name][0] + GAP) / 2
            left += sizes[name][0] + GAP
    pairs = [pair for route in routes.values() for pair in pairwise(route)]
    above = {name: [a for a, b in pairs if b == name] for name in x}
    below = {name: [b for a, b in pairs if a == name] for name in x}
    for sweep in range(2 * SWEEPS + 1):  # the last sweep goes down
        near = below if sweep % 2 else above
        for layer in layers[::-1] if sweep % 2 else layers:
            wish = {}
            for name in layer:
                ends = [x[other] for other in near[name]]
                wish[name] = sum(ends) / len(ends) if ends else x[name]
            for name in layer:
                x[name] = wish[name]
            for before, name in pairwise(layer):
                x[name] = max(x[name], x[before] + (sizes[before][0] + sizes[name][0]) / 2 + GAP)
            boxes = [name for name in layer if ">" not in name] or layer
            pushed = sum(x[name] - wish[name] for name in boxes) / len(boxes)
            for name in layer:
                x[name] -= pushed
    least = min(x[name] - sizes[name][0] / 2 for name in x)
    places: dict[str, tuple[float, float]] = {}
    top = 0.0
    for layer in layers:
        tall = max(sizes[name][1] for name in layer)
        places |= {name: (x[name] - least, top + tall / 2) for name in layer}
        top += tall + BETWEEN
    return places, max(places[name][0] + sizes[name][0] / 2 for name in places), top - BETWEEN


def _route(
    points: Sequence[tuple[float, float]], edge: Edge, sizes: Sizes, edges: Sequence[Edge], places: Places
) -> str:
    (x, y), *between, (to_x, to_y) = points
    x = start = x + _share(
        edge, [e for e in edges if e.source == edge.source and e.target != e.source], sizes[edge.source][0], places
    )
    y += sizes[edge.source][1] / 2
    to_y -= sizes[edge.target][1] / 2 + 1
    path = f"M{x:.1f} {y:.1f}"
    for next_x, next_y in [*between, (to_x, to_y)]:
        middle = (y + next_y) / 2
        path += f" C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}"
        x, y = next_x, next_y
    style = ' stroke-dasharray="4 4"' if edge.style == "dashed" else ""
    heads = [_head(to_x, to_y)]
    if edge.style == "both":
        heads.append(_head(start, points[0][1] + sizes[edge.source][1] / 2 + 1, up=True))
    return "\n".join([f'<path class="edge" d="{path}"{style}/>', *heads])


def _share(edge: Edge, siblings: Sequence[Edge], width: float, places: Places) -> float:
    """Horizontal offset at which an edge leaves its box, so that several edges do not start at one point."""
    order = sorted(siblings, key=lambda sibling: places[sibling.target][0])
    return (order.index(edge) - (len(order) - 1) / 2) * min(16.0, width / (len(order) + 1))


def _return(edge: Edge, number: int, width: float, places: Places, sizes: Sizes) -> str:
    """A path upwards, on the right of everything."""
    (x, y), (to_x, to_y) = places[edge.source], places[edge.target]
    x, to_x, far = x + sizes[edge.source][0] / 2, to_x + sizes[edge.target][0] / 2 + 1, width + 22 * (number + 1)
    to_y += 4
    path = f"M{x:.1f} {y:.1f} C{far:.1f} {y:.1f} {far:.1f} {y - 10:.1f} {far:.1f} {(y + to_y) / 2:.1f}"
    path += f" S{far:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
    return f'<path class="edge" d="{path}"/>\n{_head(to_x, to_y, left=True)}'


def _loop(place: tuple[float, float], size: tuple[float, float]) -> str:
    x, y = place[0] + size[0] / 2, place[1]
    path = f"M{x:.1f} {y - 8:.1f} C{x + 22:.1f} {y - 14:.1f} {x + 22:.1f} {y + 12:.1f} {x + 1:.1f} {y + 6:.1f}"
    return f'<path class="edge" d="{path}"/>\n{_head(x + 1, y + 6, left=True)}'


def _head(x: float, y: float, *, up: bool = False, left: bool = False) -> str:
    if left:
        points = f"{x:.1f},{y:.1f} {x + 7:.1f},{y - 3.5:.1f} {x + 7:.1f},{y + 3.5:.1f}"
    else:
        back = y + 7 if up else y - 7
        points = f"{x:.1f},{y:.1f} {x - 3.5:.1f},{back:.1f} {x + 3.5:.1f},{back:.1f}"
    return f'<polygon points="{points}" fill="currentColor" stroke="none"/>'


def _box(node: Node, place: tuple[float, float]) -> str:
    (x, y), (width, height) = place, node.size
    if not node.lines:
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="currentColor" stroke="none"/>'
        return dot + (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6.5"/>' if node.ring else "")
    top = y - (len(node.lines) - 1) * LINE / 2 + 4
    words = [text(x, top + number * LINE, line, strong=number == 0) for number, line in enumerate(node.lines)]
    return "\n".join([rectangle(x - width / 2, y - height / 2, width, height), *words])
