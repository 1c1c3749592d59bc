"""Draws curves as SVG: lines, axes and labels in colours that are readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#2f80ed", "#e8590c", "#2b9a66", "#9b6bdf")
INK = "#7d8590"
WIDTH, HEIGHT = 430, 280
"""Size of a panel."""
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 46, 42


@dataclass(frozen=True)
class Panel:
    """A chart. Each line has a name and a value for each `x`, or None to leave a gap."""

    title: str
    unit: str
    x: Sequence[float]
    lines: dict[str, Sequence[float | None]]
    logarithmic: bool = False


def drawn(panels: Sequence[Panel], below: str) -> str:
    """An SVG picture of the panels side by side; `below` labels their x axis."""
    width = WIDTH * len(panels)
    titles = "; ".join([f"{panel.title}: {', '.join(panel.lines)}" for panel in panels])
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
            f'role="img" font-family="sans-serif" font-size="12">'
        ),
        f"<title>{escape(titles)}</title>",
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * WIDTH} 0)">', *_panel(panel, below), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, below: str) -> list[str]:
    values = [value for line in panel.lines.values() for value in line if value is not None]
    ticks = _powers(values) if panel.logarithmic else _steps(max(values))
    low, high = (math.log10(ticks[0]), math.log10(ticks[-1])) if panel.logarithmic else (0.0, ticks[-1])

    def across(x: float) -> float:
        return LEFT + x / max(panel.x) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        value = math.log10(max(value, ticks[0])) if panel.logarithmic else value
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

    parts = [_text(LEFT, 16, f"{panel.title}, {panel.unit}", weight="bold")]
    for tick in ticks:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}" stroke="{INK}" '
            f'stroke-opacity="0.3"/>'
        )
        parts.append(_text(LEFT - 6, up(tick) + 4, f"{tick:,g}", anchor="end"))
    parts += [_text(across(x), HEIGHT - BOTTOM + 16, f"{x:g}", anchor="middle") for x in _steps(max(panel.x))]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, below, anchor="middle"))
    name_at = float(LEFT)
    for (name, line), colour in zip(panel.lines.items(), COLOURS, strict=False):
        points = [(across(x), up(value)) for x, value in zip(panel.x, line, strict=True) if value is not None]
        path = " ".join([f"{x:.1f},{y:.1f}" for x, y in points])
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
        parts.append(_text(name_at, 34, name, colour=colour))
        name_at += 7.0 * len(name) + 18
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = INK, weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _steps(highest: float) -> list[float]:
    """About five round numbers, from 0 up to at least the highest value."""
    power = 10 ** math.floor(math.log10(max(highest, 1e-9) / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor * 6 >= highest)
    return [step * number for number in range(math.ceil(highest / step) + 1)]


def _powers(values: Sequence[float]) -> list[float]:
    """The powers of ten around the values, which must be positive."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]
