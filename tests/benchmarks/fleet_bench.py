"""What a run costs: makespan, calls, processor time, memory; beside a naive client on the same durations.

    python tests/benchmarks/fleet_bench.py --naive
    python tests/benchmarks/fleet_bench.py --servers 200 --rate-limit 50 -o json

Everything runs as users run it: `fleet simulator`, `fleet run` and the naive client are processes, and talk
HTTP. Durations depend on the seed alone, so both clients meet the same ones, and the ideal is known: the
list schedule of these durations on as many slots as the concurrency. Machines differ, so compare figures of
one invocation with each other. This module imports little before the children have ended: a child's peak
memory counts from its parent's.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FLEET = [sys.executable, "-m", "fleet"]
KNOWN_CALLS = 3
"""What each server needs of a limited number of calls: the last look, the reinstall, its job."""

CLOUD = """\
seed: {seed}
{limit}
durations:
  stop_soft: {{median_s: 2.0, sigma: 0.3}}
  queue: {{median_s: 0, sigma: 0}}
  reinstall: {{median_s: 8.0, sigma: 0.3}}
  job_lag: {{median_s: 0, sigma: 0}}
  latency: {{median_s: 0, sigma: 0}}
servers:
  - {{name: "web-{{:06d}}", count: {servers}, tags: {{role: web}}, subnet: 10.0.0.0/8}}
"""

PLAN = """\
version: 1
name: bench
cloud: {{provider: simulator, requests_per_second: {rate}}}
rollout: {{waves: [{servers}], concurrency: {concurrency}, max_failures: 0}}
defaults: {{reinstall: {{key_pair: demo-key}}}}
targets:
  - {{name: web, select: {{tags: {{role: web}}}}}}
"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one client took.

    Attributes:
        makespan_s: From the first server's first call to the last server's end, by the client's own record.
        wall_s, cpu_s, rss_mib: Of its process, from start to exit; the processor's time in user and system.
        calls: By kind, by the cloud's own record.
        reinstalls: Accepted ones, by the cloud's own record: servers by how often.
    """

    makespan_s: float
    ideal_s: float
    servers: int
    wall_s: float
    cpu_s: float
    rss_mib: float
    calls: dict[str, int] = field(default_factory=dict)
    reinstalls: dict[int, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Every server was reinstalled once, no more and no less."""
        return self.reinstalls == {1: self.servers}

    def as_data(self) -> dict[str, Any]:
        """Return everything, with what is compared worked out."""
        return asdict(self) | {
            "makespan_ratio": round(self.makespan_s / self.ideal_s, 4),
            "calls_per_server": round(sum(self.calls.values()) / self.servers, 3),
            "cpu_ms_per_server": round(1000 * self.cpu_s / self.servers, 3),
            "each_reinstalled_once": self.sound,
        }


# -- processes ------------------------------------------------------------------------------------------


@contextmanager
def cloud(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    """Run `fleet simulator` as a process of its own; yield its URL."""
    limit = f"rate_limit: {options.rate_limit}" if options.rate_limit else ""
    fleet_file, ready = folder / "cloud.yaml", folder / "ready.json"
    fleet_file.write_text(CLOUD.format(seed=options.seed, limit=limit, servers=options.servers))
    ready.unlink(missing_ok=True)
    command = [*FLEET, "simulator", str(fleet_file), "--port", "0", "--ready-file", str(ready)]
    with (folder / "cloud.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the simulator did not start:\n{(folder / 'cloud.log').read_text()}")
            time.sleep(0.02)
        yield json.loads(ready.read_text())["url"]
    finally:
        process.terminate()
        process.wait()


def measured(command: Sequence[str], environ: dict[str, str], out: Path) -> tuple[int, dict[str, float]]:
    """Run a command to its end; return its exit code, and what its process used, nobody else's."""
    began = time.perf_counter()
    with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
        process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=stdout, stderr=stderr)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, {
        "wall_s": round(time.perf_counter() - began, 3),
        "cpu_s": round(used.ru_utime + used.ru_stime, 3),
        "rss_mib": round(used.ru_maxrss / 1024, 1),
    }


def record_of(url: str) -> dict[str, Any]:
    """Return the cloud's own summary: calls by kind, accepted reinstalls by server."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/_simulator/summary", timeout=30) as answer:
        summary = json.load(answer)
    times: dict[int, int] = {}
    for count in summary["reinstalls"].values():
        times[count] = times.get(count, 0) + 1
    return {"calls": dict(sorted(summary["requests"].items())), "reinstalls": times}


def run_fleet(folder: Path, options: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """Reinstall the fleet by `fleet run`."""
    plan, journal = folder / "bench.yaml", folder / "state" / "bench" / "journal.jsonl"
    rate = options.rate_limit or 1000
    plan.write_text(PLAN.format(rate=rate, servers=options.servers, concurrency=options.concurrency))
    command = [*FLEET, "run", str(plan), "--yes", "--log-format", "json", "--journal", str(journal)]
    if options.profile:
        command = [sys.executable, "-m", "cProfile", "-o", options.profile, *command[1:]]
    with cloud(folder, options) as url:
        environ = {"FLEET_SIMULATOR_URL": url, "FLEET_STATE_DIR": str(folder / "state")}
        code, used = measured(command, environ, folder / "run.out")
        record = record_of(url)
    if code != 0:
        sys.exit(f"`fleet run` ended with {code}:\n{(folder / 'run.err').read_text()[-2000:]}")
    return {**used, **record, "makespan_s": _makespan(journal)}, journal


def _makespan(journal: Path) -> float:
    from datetime import datetime  # noqa: PLC0415

    at = [
        datetime.fromisoformat(line["at"])
        for line in map(json.loads, journal.read_bytes().splitlines())
        if line["event"] in {"Admitted", "Verified"}
    ]
    return round((max(at) - min(at)).total_seconds(), 3)


def run_naive(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Reinstall the same fleet by the naive client."""
    with cloud(folder, options) as url:
        command = [sys.executable, str(HERE / "naive.py"), url, str(options.concurrency)]
        code, used = measured(command, {}, folder / "naive.out")
        record = record_of(url)
    if code != 0:
        sys.exit(f"the naive client ended with {code}:\n{(folder / 'naive.err').read_text()[-2000:]}")
    return {**used, **record, **json.loads((folder / "naive.out").read_text())}


# -- the ideal ------------------------------------------------------------------------------------------


def ideal(folder: Path, options: argparse.Namespace) -> float:
    """Return the makespan of a client that loses no time: list schedule, or limit if slower."""
    from fleet.cloud.simulator.fleetfile import build_world, read_fleet  # noqa: PLC0415 - see the top

    world = build_world(read_fleet(folder / "cloud.yaml"))
    slots = [0.0] * options.concurrency
    for server in world.servers.values():
        taken = world.draw("stop_soft", server) + world.draw("reinstall", server)
        heapq.heapreplace(slots, slots[0] + taken)
    by_limit = KNOWN_CALLS * options.servers / options.rate_limit if options.rate_limit else 0.0
    return round(max(*slots, by_limit), 3)


# -- the command line -----------------------------------------------------------------------------------


def commands(journal: Path) -> dict[str, float]:
    """Return milliseconds of whole commands, warm: the best of five."""
    environ = {**os.environ, "FLEET_STATE_DIR": str(journal.parents[1])}
    found = {}
    for name, arguments in {"help_ms": ["--help"], "status_ms": ["status", str(journal)]}.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([*FLEET, *arguments], env=environ, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        found[name] = round(1000 * min(times), 1)
    return found


def replay(journal: Path, folder: Path, servers: int) -> dict[str, float]:
    """Return seconds to load a finished journal of *servers* servers, made from the one at hand."""
    import msgspec  # noqa: PLC0415

    from fleet.core.events import RunOpened  # noqa: PLC0415
    from fleet.journal import encode_line, load, read  # noqa: PLC0415

    entries, _ = read(journal)
    opened = entries[0].event
    assert isinstance(opened, RunOpened)
    copies = -(-servers // len(opened.members))
    members = [
        msgspec.structs.replace(each, id=f"{each.id}-{copy}")
        for copy in range(copies)
        for each in opened.members
    ]
    big, seq, crc = folder / "big.jsonl", 1, 0
    with big.open("wb") as file:
        first = msgspec.structs.replace(opened, members=tuple(members))
        line, crc = encode_line(seq, entries[0].at, first, crc)
        file.write(line)
        for copy in range(copies):
            for entry in entries[1:]:
                if not hasattr(entry.event, "server"):
                    continue
                seq += 1
                event = msgspec.structs.replace(entry.event, server=f"{entry.event.server}-{copy}")
                line, crc = encode_line(seq, entry.at, event, crc)
                file.write(line)
    began = time.perf_counter()
    run, _ = load(big)
    taken = time.perf_counter() - began
    assert run.is_settled
    return {"replay_servers": len(members), "replay_lines": seq, "replay_s": round(taken, 3)}


def show(found: dict[str, Any]) -> None:
    """Print a table for people."""
    rows = {
        "makespan, s": "makespan_s",
        "ideal, s": "ideal_s",
        "makespan / ideal": "makespan_ratio",
        "calls per server": "calls_per_server",
        "processor time per server, ms": "cpu_ms_per_server",
        "peak memory, MiB": "rss_mib",
        "each reinstalled once": "each_reinstalled_once",
    }
    clients = [name for name in ("fleet", "naive") if name in found]
    print(f"{'':32}" + "".join(f"{name:>12}" for name in clients))
    for title, key in rows.items():
        print(f"{title:32}" + "".join(f"{found[name][key]!s:>12}" for name in clients))
    for name in clients:
        print(f"{name} by kind: " + ", ".join(f"{kind} {n}" for kind, n in found[name]["calls"].items()))
    print(", ".join(f"{name} {value}" for name, value in found["commands"].items()))


def main() -> int:
    """Measure, print, and end with 1 if a server was not reinstalled exactly once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate-limit", type=float, metavar="N", help="calls a second that the cloud takes")
    parser.add_argument("--naive", action="store_true", help="the naive client as well")
    parser.add_argument("--profile", metavar="FILE", help="write a cProfile of `fleet run`; distorts times")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        folder = Path(name)
        ours, journal = run_fleet(folder, options)
        theirs = run_naive(folder, options) if options.naive else None
        known = {"servers": options.servers, "ideal_s": ideal(folder, options)}
        found: dict[str, Any] = {"options": vars(options)}
        clients = {"fleet": Figures(**ours, **known)}
        if theirs is not None:
            clients["naive"] = Figures(**theirs, **known)
        found |= {client: figures.as_data() for client, figures in clients.items()}
        found["commands"] = commands(journal) | replay(journal, folder, 10_000)
    if options.output == "json":
        print(json.dumps(found, indent=2))
    else:
        show(found)
    return 0 if all(figures.sound for figures in clients.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
