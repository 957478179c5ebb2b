"""The figures that `fleet` has to reach, measured and held against their goals.

    python tests/benchmarks/goals.py                 # what takes seconds to measure
    python tests/benchmarks/goals.py --all           # whole runs over HTTP and 100,000 servers as well
    python tests/benchmarks/goals.py --all --write   # and put them, with pictures, into docs/benchmarks.md

Two things are measured at a time, a core each: runs over HTTP, every client with a cloud of its own, and
what is on virtual time. On a machine with other work figures of time say little.
It ends with 0 whatever is missed, and with 1 when a server was wiped twice, or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import growth
import scale
from harness import FLEET, HERE, Client, Scenario, measured

DOCS = HERE.parents[1] / "docs"
KEPT = DOCS / "figures" / "benchmarks.json"
PAGE = DOCS / "benchmarks.md"
BEGIN, END = "<!-- figures: written by `make benchmark-docs` -->", "<!-- end of figures -->"

SHORT_SIZES, ALL_SIZES = (1000, 10000), (1000, 3000, 10000, 100000)
SERVERS, CONCURRENCY = 1000, 50
OTHERS = ("naive", "bare", "sdk")

NIGHT = """\
version: 1
name: night
cloud: {provider: simulator, requests_per_second: 50}
windows: [{days: [sat], from: "22:00", to: "06:00", timezone: Europe/Berlin}]
rollout: {waves: [10, 200, 500], concurrency: 200, max_failures: 10}
defaults: {reinstall: {key_pair: demo-key}}
targets:
  - {name: web, select: {tags: {role: web}}}
"""
FLEET_FILE = """\
seed: 1
servers:
  - {name: "web-{:06d}", count: 3000, tags: {role: web}, subnet: 10.0.0.0/8}
"""

Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure and its goal.

    Attributes:
        most: The figure has to be this or less.
        measured: None: it was not.
        beside: Of other clients, in the same invocation.
        command: That measures this one alone.
    """

    what: str
    unit: str
    most: float
    measured: float | None
    command: str
    beside: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None: nobody knows."""
        return None if self.measured is None else self.measured <= self.most

    def data(self) -> Found:
        """Return it for JSON."""
        return {
            "what": self.what,
            "unit": self.unit,
            "goal": self.most,
            "measured": self.measured,
            "met": self.met,
            "beside": self.beside,
            "command": self.command,
        }


# -- what is measured -----------------------------------------------------------------------------------


def best_of(command: Sequence[str], environ: dict[str, str], times: int = 7) -> float:
    """Return milliseconds of a whole command, warm: the best of some."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, env={**os.environ, **environ}, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    return round(1000 * min(took), 1)


def rehearsal(folder: Path) -> Found:
    """Rehearse a night of 3,000 servers with the real command."""
    plan, fleet_file = folder / "night.yaml", folder / "fleet.yaml"
    plan.write_text(NIGHT)
    fleet_file.write_text(FLEET_FILE)
    command = [*FLEET, "rehearse", str(plan), "--fleet-file", str(fleet_file), "-o", "json"]
    code, used = measured(command, {"FLEET_STATE_DIR": str(folder)}, folder / "rehearsal")
    if code != 0:
        sys.exit(f"the rehearsal ended with {code}:\n{(folder / 'rehearsal.err').read_text()[-2000:]}")
    [night] = json.loads((folder / "rehearsal").read_text())["nights"]
    assert night["servers"] == {"verified": 3000}, night["servers"]
    return {**used, "calls": sum(night["calls"].values()), "took_s": night["took_s"]}


def virtual(sizes: Sequence[int]) -> Found:
    """Measure what needs no real time: nights, replay, status, a rehearsal, and whole commands."""
    found: Found = {"scale": {}, "status_ms": None}
    with tempfile.TemporaryDirectory(prefix="fleet-goals-") as name:
        folder = Path(name)
        _say("rehearsal of 3,000 servers")
        found["rehearsal"] = rehearsal(folder)
        found["help_ms"] = best_of([*FLEET, "--help"], {})
        for servers in sizes:
            _say(f"{servers:,} servers on virtual time")
            scenes = ["engine", "replay", "status", *(["half", "resume"] if servers == 10000 else [])]
            (inner := folder / str(servers)).mkdir()
            found["scale"][servers] = scale.Size(servers, inner).play(scenes)
            if servers == 1000:
                command = [*FLEET, "status", str(inner / "whole.jsonl")]
                found["status_ms"] = best_of(command, {"FLEET_STATE_DIR": name})
    return found


def over_http() -> Found:
    """Measure whole runs: `fleet`, then the other clients, then `fleet` under limits and with faults."""
    plain = Scenario(servers=SERVERS, concurrency=CONCURRENCY)
    found = _clients({"fleet": ("fleet", plain)})
    found |= _clients({name: (name, plain) for name in OTHERS})
    found |= _clients(
        {
            "fleet_50": ("fleet", replace(plain, rate_limit=50.0)),
            "fleet_10": ("fleet", replace(plain, rate_limit=10.0)),
            "fleet_faults": ("fleet", replace(plain, faults=0.01)),
        }
    )
    return found


def _clients(wanted: dict[str, tuple[str, Scenario]]) -> Found:
    """Run several clients at once, each on its own cloud; what a client needs and has not got is left out."""

    def one(client: Client, scenario: Scenario) -> Found:
        with tempfile.TemporaryDirectory(prefix="fleet-goals-") as folder:
            return client.run(Path(folder), scenario).as_data()

    ready = {}
    for name, (kind, scenario) in wanted.items():
        if (why := Client(kind).missing()) is None:
            ready[name] = (Client(kind), scenario)
        else:
            _say(why)
    _say(f"over HTTP: {', '.join(ready)}")
    with ThreadPoolExecutor(len(ready)) as pool:
        return dict(zip(ready, pool.map(lambda each: one(*each), ready.values()), strict=True))


def _say(words: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {words}", file=sys.stderr, flush=True)


# -- against the goals ----------------------------------------------------------------------------------


def rows(found: Found) -> Iterator[Row]:
    """Yield every figure with its goal, in the order of the contract."""
    bench = f"make benchmark ARGS='--servers {SERVERS}"
    http: Found = found.get("http", {})

    def of(client: str, key: str) -> float | None:
        return http[client][key] if client in http else None

    def others(key: str) -> str:
        return ", ".join(f"{name} {http[name][key]:g}" for name in OTHERS if name in http)

    for what, key, unit, most in (
        ("makespan of 1,000 servers, 50 at once, against the ideal", "makespan_ratio", "", 1.03),
        ("calls per server in that run", "calls_per_server", "", 2.5),
        ("processor time per server in that run, start and journal included", "cpu_ms_per_server", "ms", 5.0),
        ("peak memory of that run", "rss_mib", "MiB", 60.0),
    ):
        yield Row(what=what, unit=unit, most=most, measured=of("fleet", key), beside=others(key),
                  command=f"{bench} --clients fleet,naive,bare,sdk'")  # fmt: skip
    for servers, most in ((10000, 120.0), (100000, 500.0)):
        yield Row(what=f"peak memory with {servers:,} servers, on virtual time", unit="MiB", most=most,
                  measured=_scaled(found, servers, "engine", "rss_mib"),
                  command=f"make benchmark-scale ARGS='--servers {servers}'")  # fmt: skip
    for limit in (50, 10):
        yield Row(what=f"makespan of 1,000 servers under {limit} calls a second, against the ideal for that",
                  unit="", most=1.05, measured=of(f"fleet_{limit}", "makespan_ratio"),
                  beside=f"{of(f'fleet_{limit}', 'failed')} failed" if f"fleet_{limit}" in http else "",
                  command=f"{bench} --clients fleet --rate-limit {limit}'")  # fmt: skip
    short = "make benchmark-table"
    yield Row(what="replay of a finished journal of 10,000 servers", unit="s", most=1.0,
              measured=_scaled(found, 10000, "replay", "work_s"), command=short)  # fmt: skip
    yield Row(what="`fleet --help`, warm", unit="ms", most=150.0, measured=found.get("help_ms"),
              command=short)  # fmt: skip
    yield Row(what="`fleet status` of 1,000 servers", unit="ms", most=400.0,
              measured=found.get("status_ms"), command=short)  # fmt: skip
    yield Row(what="rehearsal of 3,000 servers and one night", unit="s", most=20.0,
              measured=found["rehearsal"]["wall_s"], command=short)  # fmt: skip


def _scaled(found: Found, servers: int, scene: str, key: str) -> float | None:
    return found["scale"].get(servers, {}).get(scene, {}).get(key)  # type: ignore[no-any-return]


def text(found: Found) -> Iterator[str]:
    """Yield the table for people."""
    yield f"{'':76}{'goal':>8}{'measured':>10}"
    for row in rows(found):
        met = {True: "", False: "  missed", None: "  not measured (--all)"}[row.met]
        shown = "" if row.measured is None else f"{row.measured:g}"
        beside = f"  ({row.beside})" if row.beside else ""
        yield f"{row.what:70} {row.unit:>5}{row.most:>8g}{shown:>10}{met}{beside}"


def markdown(found: Found) -> Iterator[str]:
    """Yield what the documentation shows."""
    machine = found["machine"]
    cores, python, on, load = (machine[key] for key in ("cores", "python", "on", "load"))
    yield f"{cores} cores with a load of {load} when it began, Python {python}, {on}, one invocation of"
    yield "`make benchmark-docs`; a goal that was missed is **bold**."
    yield ""
    yield "| what | goal | measured | other clients | command |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows(found):
        unit = f" {row.unit}" if row.unit else ""
        shown = "not measured" if row.measured is None else f"{row.measured:g}{unit}"
        shown = f"**{shown}**" if row.met is False else shown
        yield f"| {row.what} | {row.most:g}{unit} | {shown} | {row.beside} | `{row.command}` |"
    yield ""
    if (resume := found["scale"].get(10000, {}).get("resume")) is not None:
        first, replay, rss = resume["first_call_s"], resume["replay_s"], resume["rss_mib"]
        yield f"Resume of a run of 10,000 servers that died half done: {first:.1f} s from the start of the"
        yield f"process to its first call, {replay:.2f} s of them replay; peak memory {rss:.0f} MiB."
        yield ""
    yield "| on virtual time | servers | work | a server | calls per server | peak memory |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for servers, scenes in found["scale"].items():
        for scene, each in scenes.items():
            work, calls = each["work_s"], each.get("calls_per_server", "")
            a_server, rss = f"{1000 * work / servers:.3g} ms", f"{each['rss_mib']:.0f} MiB"
            yield f"| {scene} | {servers:,} | {work:.2f} s | {a_server} | {calls} | {rss} |"
    if (faults := found.get("http", {}).get("fleet_faults")) is not None:
        yield ""
        failed, ratio, calls = (faults[key] for key in ("failed", "makespan_ratio", "calls_per_server"))
        yield f"With faults for 1 % of 1,000 servers: {failed} given up, {ratio:.2f} of the ideal without"
        yield f"faults, {calls:.2f} calls a server."


def write(found: Found) -> None:
    """Keep the figures, draw them, and put the tables between the marks of the page."""
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(found, indent=1) + "\n")
    growth.draw(KEPT, KEPT.parent)
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + BEGIN, "", *markdown(found), "", END + after]))


def read(path: Path) -> Found:
    """Read kept figures: JSON has no numbers as keys."""
    found: Found = json.loads(path.read_text())
    found["scale"] = {int(servers): scenes for servers, scenes in found["scale"].items()}
    return found


def measure(*, everything: bool) -> Found:
    """Measure: what is on virtual time beside what is over HTTP."""
    now = f"{datetime.now(UTC):%Y-%m-%d}"
    load = round(os.getloadavg()[0], 1)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "on": now, "load": load}
    with ThreadPoolExecutor(2) as pool:
        http: Callable[[], Found] = over_http if everything else dict
        lanes = pool.submit(virtual, ALL_SIZES if everything else SHORT_SIZES), pool.submit(http)
        return {"machine": machine, **lanes[0].result(), "http": lanes[1].result()}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--all", action="store_true", help="whole runs over HTTP and 100,000 servers as well")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(DOCS.parent)}")
    parser.add_argument("--again", type=Path, metavar="JSON", help="measure nothing: take these figures")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    found = read(options.again) if options.again else measure(everything=options.all)
    if options.write:
        write(found)
    if options.output == "json":
        print(json.dumps({"rows": [row.data() for row in rows(found)], **found}, indent=2))
    else:
        print("\n".join(text(found)))
    # Nights on virtual time have ended the command already if a server was not wiped exactly once.
    return 0 if all(each["each_reinstalled_once"] for each in found["http"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
