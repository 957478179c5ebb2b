"""What servers cost in numbers: engine and journal on virtual time, replay, `fleet status`, and memory.

    python tests/benchmarks/scale.py                              # 1,000, 3,000 and 10,000 servers: a minute
    python tests/benchmarks/scale.py --servers 1000,10000,100000 -o json

*engine* plays a whole run on virtual time against the simulated cloud in one process, wire and disk being
function calls: what is left is the work of survey, engine, journal, client and simulator. *replay* and
*status* read the journal that it wrote. Every figure is of a process of its own; memory is the peak.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import FLEET, measured

SCENES = ("engine", "replay", "status")


def engine(journal: Path, servers: int) -> dict[str, Any]:
    """Reinstall *servers* on virtual time, a twentieth of them at once; keep the journal."""
    from fleet.cloud.simulator.face import Face  # noqa: PLC0415 - see `harness`
    from fleet.cloud.simulator.fleetfile import build_world, default_fleet  # noqa: PLC0415
    from fleet.core.settings import (  # noqa: PLC0415
        CloudSettings,
        Reinstall,
        Rollout,
        Select,
        Settings,
        Target,
    )  # fmt: skip
    from fleet.rehearsal.life import Life, Scene  # noqa: PLC0415

    rollout = Rollout(waves=(servers,), concurrency=max(1, servers // 20))
    web = Target(
        name="web",
        select=Select(tags={"role": ("web",)}),
        reinstall=Reinstall(key_pair="demo-key"),
        rollout=rollout,
    )
    settings = Settings(
        plan="scale",
        digest="",
        folder="/",
        cloud=CloudSettings(provider="simulator", requests_per_second=1000),
        targets=(web,),
    )
    world = build_world(default_fleet(servers))
    scene = Scene(face=Face(world, base_url="http://127.0.0.1"), settings=settings, user_data={}, seed=1)
    before_mib = _resident_mib()
    began = time.process_time()
    ending = Life(scene, bound_s=1e7).play()
    taken = time.process_time() - began
    if ending.code != 0 or set(world.reinstalls().values()) != {1}:
        why = ending.run.held if ending.run else ""
        sys.exit(f"it did not end well: {why} {ending}"[:2000])
    journal.write_bytes(scene.disk.data)
    return {
        "work_s": round(taken, 3),
        "virtual_s": round(ending.took_s, 1),
        "calls": world.ledger.requests.total(),
        "cloud_mib": before_mib,
    }


def _resident_mib() -> float:
    """Return what this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def replay(journal: Path, servers: int) -> dict[str, Any]:
    """Read and fold the journal."""
    from fleet.journal import load  # noqa: PLC0415

    began = time.perf_counter()
    run, tail = load(journal)
    taken = time.perf_counter() - began
    assert run.is_settled
    assert len(run.servers) == servers
    return {"lines": tail.seq, "work_s": round(taken, 3), "mib": round(tail.size / 2**20, 1)}


def child(scene: str, journal: Path, servers: int) -> dict[str, Any]:
    """Play one scene in a process of its own; return its figures with its peak memory."""
    out = journal.with_suffix(f".{scene}")
    if scene == "status":
        command = [*FLEET, "status", str(journal)]
    else:
        command = [sys.executable, __file__, "--scene", scene, "--journal", str(journal)]
        command += ["--servers", str(servers)]
    code, used = measured(command, {"FLEET_STATE_DIR": str(journal.parent)}, out)
    if code != 0:
        said = out.with_suffix(".err").read_text()[-2000:]
        sys.exit(f"{scene} of {servers} servers ended with {code}:\n{said}")
    found = {} if scene == "status" else json.loads(out.read_text())
    return {"work_s": used["wall_s"], **found, "rss_mib": used["rss_mib"]}


def show(found: dict[int, dict[str, dict[str, Any]]]) -> None:
    """Print a table for people: seconds of work, microseconds for a server, and memory."""
    print(f"{'':10}{'':10}{'work, s':>12}{'a server, us':>14}{'memory, MiB':>14}")
    for servers, scenes in found.items():
        for scene, each in scenes.items():
            a_server = round(1e6 * each["work_s"] / servers)
            rest = ", ".join(f"{name} {each[name]}" for name in each if name not in {"work_s", "rss_mib"})
            print(f"{servers:<10}{scene:10}{each['work_s']:>12}{a_server:>14}{each['rss_mib']:>14}  {rest}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--servers", default="1000,3000,10000", metavar="N,M")
    parser.add_argument("--scene", choices=("engine", "replay"), help=argparse.SUPPRESS)
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    numbers = [int(each) for each in options.servers.split(",")]
    if options.scene:
        scene = engine if options.scene == "engine" else replay
        print(json.dumps(scene(options.journal, numbers[0])))
        return 0
    found = {}
    with tempfile.TemporaryDirectory(prefix="fleet-scale-") as folder:
        for servers in numbers:
            journal = Path(folder) / f"{servers}.jsonl"
            found[servers] = {scene: child(scene, journal, servers) for scene in SCENES}
            journal.unlink()
    if options.output == "json":
        print(json.dumps(found, indent=2))
    else:
        show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
