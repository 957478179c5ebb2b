"""What a run costs: makespan, calls, processor time, memory; beside other clients on the same durations.

    python tests/benchmarks/fleet_bench.py --naive
    python tests/benchmarks/fleet_bench.py --clients fleet,naive,bare,sdk --faults 0.01
    python tests/benchmarks/fleet_bench.py --servers 200 --rate-limit 50 -o json
    python tests/benchmarks/fleet_bench.py --servers 10000 --concurrency 500 --kill-at 0.5

The clients, one after another, each on a cloud of its own: `fleet`; `naive`, a semaphore and a poll per
second and job; `bare`, which observes by lists of ids; `sdk`, the vendor's with threads (after
`make judges`).
docs/benchmarks.md says what is measured and has the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import CLIENTS, FLEET, Client, Scenario, table


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


def main() -> int:
    """Measure, print, and end with 1 if a server was not reinstalled exactly once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate-limit", type=float, metavar="N", help="calls a second that the cloud takes")
    parser.add_argument(
        "--faults", type=float, default=0.0, metavar="SHARE", help="of the servers: 0.01 is 1 %%"
    )
    parser.add_argument(
        "--kill-at", type=float, metavar="SHARE", help="kill `fleet` when so many are verified, and resume it"
    )
    parser.add_argument("--clients", metavar="A,B", help=f"of {', '.join(CLIENTS)}")
    parser.add_argument("--naive", action="store_true", help="fleet,naive, where no --clients are named")
    parser.add_argument("--profile", metavar="FILE", help="write a cProfile of `fleet run`; distorts times")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    names = tuple((options.clients or ("fleet,naive" if options.naive else "fleet")).split(","))
    if unknown := set(names) - set(CLIENTS):
        parser.error(f"no client {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
    scenario = Scenario(
        servers=options.servers,
        concurrency=options.concurrency,
        seed=options.seed,
        rate_limit=options.rate_limit,
        faults=options.faults,
        kill_at=options.kill_at,
    )
    found: dict[str, Any] = {"options": vars(options), "clients": {}}
    for name in names:
        client = Client(name, profile=options.profile)
        if (why := client.missing()) is not None:
            print(why, file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
            found["clients"][name] = client.run(Path(folder), scenario).as_data()
            if client.journal is not None:
                found["commands"] = commands(client.journal)
    if options.output == "json":
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(table(found["clients"])))
        print(", ".join(f"{name} {value}" for name, value in found.get("commands", {}).items()))
    return 0 if all(each["each_reinstalled_once"] for each in found["clients"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
