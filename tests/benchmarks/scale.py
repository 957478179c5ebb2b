"""What servers cost in numbers: a night on virtual time, its resume, replay, `fleet status`, and memory.

    python tests/benchmarks/scale.py                              # 1,000, 3,000 and 10,000 servers
    python tests/benchmarks/scale.py --servers 100000 --scenes engine,replay,status -o json

*engine* is a run from survey to end on virtual time, a twentieth of the servers in flight at once; *half* is
one that dies when half are verified, and *resume* goes on with it; *limits* has hundreds of waves, bakes, a
window, limits per zone. Their cloud is a process of its own (`apart.py`), whose work and memory do not count;
survey, journal, engine and client do. *replay* and *status* read the journal of *engine*. Every figure is of
a process of its own; memory is its peak.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import FLEET, HERE, measured

SCENES = ("engine", "replay", "status", "half", "resume", "limits")
USUAL = "engine,replay,status,half,resume"
NEEDS = {"replay": "engine", "status": "engine", "resume": "half"}

Figures = dict[str, Any]


def replay(journal: Path, servers: int) -> Figures:
    """Read and fold the journal."""
    from fleet.journal import load  # noqa: PLC0415 - see `harness`

    began = time.perf_counter()
    run, tail = load(journal)
    taken = time.perf_counter() - began
    assert run.is_settled
    assert len(run.servers) == servers
    return {"work_s": round(taken, 3), "lines": tail.seq, "journal_mib": round(tail.size / 2**20, 1)}


class Size:
    """Measures one number of servers; what one scene leaves behind is what another one begins with."""

    def __init__(self, servers: int, folder: Path) -> None:
        self._servers = servers
        self._folder = folder
        self._half: Figures = {}

    def play(self, scenes: Sequence[str]) -> dict[str, Figures]:
        """Return the figures of *scenes*."""
        found = {}
        with self._cloud("whole"):
            if "engine" in scenes:
                found["engine"] = self._night("whole")
        for scene in ("replay", "status"):
            if scene in scenes:
                found[scene] = self._read(scene)
        if "half" in scenes:
            with self._cloud("half"):
                found["half"] = half = self._night("half", "--until", "0.5")
                if "resume" in scenes:
                    found["resume"] = self._night("half", "--since", str(half["virtual_s"] + 60))
        if "limits" in scenes:
            with self._cloud("limits"):
                found["limits"] = self._night("limits", "--kind", "limits")
        return found

    @contextmanager
    def _cloud(self, name: str) -> Iterator[None]:
        command = [sys.executable, str(HERE / "apart.py"), str(self._folder / name), str(self._servers)]
        process = subprocess.Popen(command)
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    def _night(self, name: str, *options: str) -> Figures:
        journal = self._folder / f"{name}.jsonl"
        command = [sys.executable, str(HERE / "night.py"), str(self._folder / name), str(journal)]
        command += [str(self._servers), "--began", str(time.monotonic()), *options]
        return self._child(name, command)

    def _read(self, scene: str) -> Figures:
        journal = self._folder / "whole.jsonl"
        if scene == "status":
            return self._child(scene, [*FLEET, "status", str(journal)])
        command = [sys.executable, __file__, "--replay", str(journal), "--servers", str(self._servers)]
        return self._child(scene, command)

    def _child(self, name: str, command: list[str]) -> Figures:
        out = self._folder / f"{name}.out"
        code, used = measured(command, {"FLEET_STATE_DIR": str(self._folder)}, out)
        if code != 0:
            said = out.with_suffix(".err").read_text()[-2000:]
            sys.exit(f"{name} of {self._servers} servers ended with {code}:\n{said}")
        said = out.read_text()
        told = json.loads(said) if said.startswith("{") else {"work_s": used["wall_s"]}
        return {**told, "cpu_s": used["cpu_s"], "rss_mib": used["rss_mib"]}


def show(found: dict[int, dict[str, Figures]]) -> Iterator[str]:
    """Yield a table for people: seconds of work, microseconds for a server, and memory."""
    yield f"{'':10}{'':10}{'work, s':>10}{'a server, us':>14}{'memory, MiB':>13}"
    for servers, scenes in found.items():
        for scene, each in scenes.items():
            a_server = round(1e6 * each["work_s"] / servers)
            names = ("calls_per_server", "first_call_s", "replay_s", "survey_s", "lines", "cloud_s")
            rest = ", ".join(f"{name} {each[name]}" for name in names if name in each)
            yield (f"{servers:<10}{scene:10}{each['work_s']:>10}{a_server:>14}{each['rss_mib']:>13}  {rest}")


def measure(numbers: Sequence[int], scenes: Sequence[str]) -> dict[int, dict[str, Figures]]:
    """Measure *scenes* of every number of servers; say on stderr how far it is."""
    found = {}
    for servers in numbers:
        with tempfile.TemporaryDirectory(prefix="fleet-scale-") as folder:
            began = time.monotonic()
            found[servers] = Size(servers, Path(folder)).play(scenes)
            print(f"{servers:,} servers took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--servers", default="1000,3000,10000", metavar="N,M")
    parser.add_argument("--scenes", default=USUAL, metavar="A,B", help=f"of {', '.join(SCENES)}")
    parser.add_argument("--replay", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    numbers = [int(each) for each in options.servers.split(",")]
    if options.replay:
        print(json.dumps(replay(options.replay, numbers[0])))
        return 0
    scenes = options.scenes.split(",")
    if unknown := set(scenes) - set(SCENES):
        parser.error(f"no scene {', '.join(sorted(unknown))}; there are {', '.join(SCENES)}")
    for scene, other in NEEDS.items():
        if scene in scenes and other not in scenes:
            parser.error(f"{scene} needs {other}")
    found = measure(numbers, scenes)
    print(json.dumps(found, indent=2) if options.output == "json" else "\n".join(show(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
