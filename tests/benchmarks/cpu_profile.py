"""Where the processor time of `fleet run` goes, by area, over HTTP against `fleet simulator`.

    python tests/benchmarks/cpu_profile.py
    python tests/benchmarks/cpu_profile.py --servers 1000 -o json
    python tests/benchmarks/cpu_profile.py --top 30 --of "HTTP client"

`sampler.py` runs the command in a process of its own and looks at its stack at each tick of its processor
time. A tick belongs to the innermost frame that an area names: what a library does for us is its caller's
unless the library is an area by itself. Start and work are told apart: the start (imports, plan, login,
survey) is paid once, however many servers follow. docs/benchmarks.md has figures.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import HERE, Client, Scenario

AREAS: dict[str, tuple[str, ...]] = {
    "imports": (r"importlib\._bootstrap",),
    "waiting for events": (r"/selectors\.py",),
    "socket: send": (r"/asyncio/selector_events\.py:(write|writelines|_write_\w+|sendto|send)$",),
    "socket: receive": (r"/asyncio/selector_events\.py:_read_\w+$",),
    "socket: connect and close": (
        r"/asyncio/(selector_events|base_events)\.py:(\w*connect\w*|__init__|close)$",
        r"/asyncio/selector_events\.py:(_call_connection_lost|_add_\w+|_remove_\w+)$",
        r"/socket\.py",
    ),
    "event loop": (r"/asyncio/",),
    "HTTP client": (
        r"/(aiohttp|yarl|multidict|propcache|aiosignal|frozenlist|aiohappyeyeballs)/",
        r"attrs generated",
        r"/fleet/cloud/ecs/transport\.py",
    ),
    "cloud client: requests": (
        r"/fleet/cloud/(http|registry)\.py",
        r"/fleet/cloud/ecs/(client|login\w*|auth|signing|endpoints|orders|credentials|classify)\.py",
    ),
    "cloud client: pacer": (r"/fleet/cloud/ecs/pacer\.py",),
    "cloud client: decode": (r"/fleet/cloud/ecs/(parse|surroundings)\.py",),
    "observer": (r"/fleet/(observe|rhythm)\.py",),
    "journal: sync": (r"/fleet/journal\.py:sync$",),
    "journal: encode and write": (r"/fleet/journal\.py",),
    "fold": (r"/fleet/core/(state|fold|phases|standing)\w*\.py",),
    "decide": (r"/fleet/core/",),
    "logging": (r"/fleet/(logs|secrets)\.py", r"/structlog/"),
    "display, notices, records": (
        r"/fleet/(report/|cli/(display|telling)\.py|systemd|history|notify|told|control)",
    ),
    "plan and survey": (r"/fleet/(plan/|survey|manifest|objections|prechecks)", r"/pydantic"),
    "engine and steps": (
        r"/fleet/(engine|runbook|context|clock|hooks|debts|tagging|machine|outlook|life|orders|checks)\.py",
        r"/fleet/(claims|gates)\.py",
    ),
}
"""The innermost frame that matches one of them says which area a tick is of; the first match counts."""

OTHER = "other"


def area_of(stack: Sequence[str]) -> str:
    """Return the area of a stack, its innermost frame first."""
    for frame in stack:
        for area, pattern in _PATTERNS.items():
            if pattern.search(frame):
                return area
    return OTHER


_PATTERNS = {area: re.compile("|".join(patterns)) for area, patterns in AREAS.items()}


def tell_apart(found: dict[str, Any], servers: int) -> dict[str, Any]:
    """Return what the sampler found as milliseconds by area, and by the frame that the tick was in."""
    ticks = sum(found["stacks"].values())
    each_ms = 1000 * (found["cpu_s"] - found["before_s"]) / ticks
    areas: dict[str, Counter[str]] = {"start": Counter(), "work": Counter()}
    frames: dict[str, Counter[str]] = {}
    for text, count in found["stacks"].items():
        part, *stack = text.split("\n")
        area = area_of(stack)
        areas[part][area] += count
        if part == "work":
            frames.setdefault(area, Counter())[_short(stack[0])] += count
    start_ms = 1000 * found["before_s"] + each_ms * areas["start"].total()
    return {
        "servers": servers,
        "cpu_ms_per_server": round(1000 * found["cpu_s"] / servers, 3),
        "start_ms": round(start_ms, 1),
        "work_ms_per_server": round(each_ms * areas["work"].total() / servers, 3),
        "collector_ms": {part: round(1000 * taken, 1) for part, taken in found["collected_s"].items()},
        "ticks": ticks,
        "tick_ms": round(each_ms, 3),
        "start": {area: round(each_ms * count, 1) for area, count in areas["start"].most_common()},
        "work": {area: round(each_ms * count / servers, 3) for area, count in areas["work"].most_common()},
        "frames": {
            area: {frame: round(each_ms * count / servers, 3) for frame, count in counts.most_common()}
            for area, counts in frames.items()
        },
    }


def _short(frame: str) -> str:
    """Return a frame without the way to its folder."""
    path, _, name = frame.rpartition(":")
    return f"{'/'.join(path.split('/')[-2:])}:{name}"


def lines(told: dict[str, Any], *, top: int, of: str | None) -> list[str]:
    """Return the table for people."""
    work = told["work_ms_per_server"]
    collected = ", ".join(f"{part} {taken}" for part, taken in told["collector_ms"].items())
    head = (
        f"{told['servers']} servers, {told['cpu_ms_per_server']} ms of processor time each: {work} ms of"
        f" work, and a start of {told['start_ms']} ms in all"
    )
    return [
        head,
        "",
        f"{'work, by area':34}{'ms a server':>12}{'share':>8}",
        *(f"{area:34}{ms:>12.3f}{ms / work:>8.1%}" for area, ms in told["work"].items()),
        "",
        f"{'start, by area':34}{'ms':>12}",
        *(f"{area:34}{ms:>12.1f}" for area, ms in told["start"].items()),
        "",
        f"{'work, by function':60}{'ms a server':>12}",
        *(
            f"{frame:60}{ms:>12.3f}  {area}"
            for ms, frame, area in sorted(
                (
                    (ms, frame, area)
                    for area, frames in told["frames"].items()
                    if of is None or area == of
                    for frame, ms in frames.items()
                ),
                reverse=True,
            )[:top]
        ),
        "",
        f"the garbage collector's share of all this: {collected} ms",
        f"{told['ticks']} ticks of {told['tick_ms']} ms: a row of few ticks is a guess",
    ]


def main() -> int:
    """Run, tell apart, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--top", type=int, default=20, help="functions to list")
    parser.add_argument("--of", metavar="AREA", help="list this area's functions alone")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    if options.of is not None and options.of not in {*AREAS, OTHER}:
        parser.error(f"no area {options.of!r}; there are {', '.join([*AREAS, OTHER])}")
    scenario = Scenario(servers=options.servers, concurrency=options.concurrency, seed=options.seed)
    with tempfile.TemporaryDirectory(prefix="fleet-profile-") as folder:
        out = Path(folder) / "samples.json"
        client = Client("fleet", fleet=[sys.executable, str(HERE / "sampler.py"), str(out)])
        client.run(Path(folder), scenario)
        told = tell_apart(json.loads(out.read_text()), options.servers)
    print(
        json.dumps(told, indent=2)
        if options.output == "json"
        else "\n".join(lines(told, top=options.top, of=options.of))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
