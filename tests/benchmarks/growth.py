"""Draw how time, calls and memory grow with the servers: SVG from figures that were kept, with nothing else.

    python tests/benchmarks/growth.py [docs/figures/benchmarks.json] [docs/figures]

Both axes are logarithmic: what grows with the servers is a straight line as steep as the dashed one.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 100, 150, 44, 58

STYLE = """\
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #52514e }
  .title { font-size: 15px; font-weight: 600; fill: #0b0b0b }
  .grid { stroke: #e1e0d9; stroke-width: 1 }
  .axis { stroke: #898781; stroke-width: 1 }
  .slope { stroke: #898781; stroke-width: 1.5; stroke-dasharray: 5 5; fill: none }
  .line { stroke-width: 2; fill: none; stroke-linejoin: round }
  .a { stroke: #2a78d6 } .b { stroke: #008300 } .c { stroke: #eb6834 }
  .dot { fill: #fcfcfb; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #c3c2b7 } .title { fill: #ffffff }
    .grid { stroke: #2c2c2a } .dot { fill: #1a1a19 }
    .a { stroke: #3987e5 } .b { stroke: #00a300 } .c { stroke: #d95926 }
  }
"""

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """One picture.

    Attributes:
        slope: The words on the line that shows what "as the servers do" looks like; empty: none.
        goals: What is to be reached: servers, figure.
    """

    file: str
    title: str
    unit: str
    series: Mapping[str, Points]
    slope: str = ""
    goals: Points = ()  # type: ignore[assignment]  # an empty one


class _Axes:
    """From figures to places."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        xs, ys = zip(*points, strict=True)
        self.x = (math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs))))
        low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
        self.y = (low, max(high, low + 1))

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - self.x[0]) / (self.x[1] - self.x[0])
        up = (math.log10(y) - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )


def charts(found: Mapping[str, Any]) -> Iterator[Chart]:
    """Yield what is drawn of kept figures."""
    scale = {int(servers): scenes for servers, scenes in found["scale"].items()}

    def of(scene: str, key: str) -> Points:
        return [(servers, each[scene][key]) for servers, each in scale.items() if key in each.get(scene, {})]

    yield Chart(
        "growth-time.svg",
        "Processor time of a night, and of reading it again",
        "seconds",
        {
            "whole night": of("engine", "work_s"),
            "status": of("status", "work_s"),
            "replay": of("replay", "work_s"),
        },
        slope="as the servers do",
    )
    yield Chart(
        "growth-calls.svg",
        "Calls to the cloud, for a whole night",
        "calls",
        {"whole night": of("engine", "calls")},
        slope="three per server",
    )
    yield Chart(
        "growth-memory.svg",
        "Peak resident memory",
        "MiB",
        {"whole night": of("engine", "rss_mib"), "replay": of("replay", "rss_mib")},
        goals=[(1000, 60), (10000, 120), (100000, 500)],
    )


def svg(chart: Chart) -> str:
    """Return a chart as an SVG."""
    points = [point for series in chart.series.values() for point in series]
    slope = _slope(chart) if chart.slope else []
    axes = _Axes([*points, *slope, *chart.goals])
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(chart.title)}</title>",
        f"<style>\n{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="22">{escape(chart.title)}</text>',
    ]
    for power in range(axes.x[0], axes.x[1] + 1):
        x, _ = axes.place(10**power, 10 ** axes.y[0])
        parts.append(f'<line class="grid" x1="{x}" y1="{TOP}" x2="{x}" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 20}" text-anchor="middle">{10**power:,}</text>')
    for power in range(axes.y[0], axes.y[1] + 1):
        _, y = axes.place(10 ** axes.x[0], 10**power)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{10.0**power:,.7g}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{bottom + 44}" text-anchor="middle">servers</text>')
    height = (TOP + bottom) / 2
    parts.append(
        f'<text x="16" y="{height}" text-anchor="middle" transform="rotate(-90 16 {height})">'
        f"{escape(chart.unit)}</text>"
    )
    labels: list[tuple[float, float, str]] = []
    if slope:
        ends = [axes.place(*point) for point in slope]
        parts.append(f'<polyline class="slope" points="{_joined(ends)}"/>')
        labels.append((*ends[-1], chart.slope))
    for letter, (name, series) in zip("abc", chart.series.items(), strict=False):
        places = [axes.place(*point) for point in series]
        parts.append(f'<polyline class="line {letter}" points="{_joined(places)}"/>')
        for (x, y), (servers, figure) in zip(places, series, strict=True):
            words = f"{name}: {servers:,} servers, {figure:,g} {chart.unit}"
            dot = f'<circle class="dot {letter}" cx="{x}" cy="{y}" r="4">'
            parts.append(f"{dot}<title>{escape(words)}</title></circle>")
        labels.append((*places[-1], name))
    for servers, figure in chart.goals:
        x, y = axes.place(servers, figure)
        parts.append(f'<line class="slope" x1="{x - 16}" y1="{y}" x2="{x + 16}" y2="{y}"/>')
        parts.append(f'<text x="{x}" y="{y - 7}" text-anchor="middle">goal {figure:,g}</text>')
    parts += [f'<text x="{x + 10}" y="{y + 4}">{escape(name)}</text>' for x, y, name in _apart(labels)]
    return "\n".join([*parts, "</svg>", ""])


def _slope(chart: Chart) -> Points:
    """Return the line of what grows as the servers do: from the first point, or three calls a server."""
    [(first, figure), *_, (last, _)] = next(iter(chart.series.values()))
    if chart.slope.startswith("three"):
        figure = 3 * first
    return [(first, figure), (last, figure * last / first)]


def _apart(labels: list[tuple[float, float, str]]) -> Iterator[tuple[float, float, str]]:
    """Yield the labels, none upon another."""
    last = -math.inf
    for x, y, name in sorted(labels, key=lambda label: label[1]):
        last = max(y, last + 16)
        yield x, last, name


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


def draw(figures: Path, folder: Path) -> None:
    """Draw all charts of kept figures into *folder*."""
    for chart in charts(json.loads(figures.read_text())):
        (folder / chart.file).write_text(svg(chart))


if __name__ == "__main__":
    given = [Path(each) for each in sys.argv[1:]]
    kept = given[0] if given else Path(__file__).parents[2] / "docs" / "figures" / "benchmarks.json"
    draw(kept, given[1] if len(given) > 1 else kept.parent)
