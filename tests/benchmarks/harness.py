"""What every benchmark needs: a cloud, clients as processes of their own, the ideal, and figures to compare.

Everything runs as users run it: `fleet simulator`, `fleet run` and the other clients are processes, and talk
HTTP. Durations depend on the seed alone, so every client meets the same ones, and the ideal is known: the
list schedule of these durations on as many slots as the concurrency (`schedule`). Machines differ, and so
does what else they do, so compare figures of one invocation with each other.

This module imports little: a child's peak memory counts from its parent's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FLEET = [sys.executable, "-m", "fleet"]
JUDGES = HERE.parents[1] / ".venv-judges" / "bin" / "python"
"""An environment with the official SDK and nothing of ours: `make judges` builds it."""

ACCESS_KEY, SECRET_KEY = "SIMULATORKEY00000001", "simulatorSecretKey00000000000000000000001"
TRIES_OF_THE_PLAN = 2

CLOUD = """\
seed: {seed}
{limit}
durations:
  stop_soft: {{median_s: 2.0, sigma: 0.3}}
  queue: {{median_s: 0, sigma: 0}}
  reinstall: {{median_s: 8.0, sigma: 0.3}}
  job_lag: {{median_s: 0, sigma: 0}}
  latency: {{median_s: 0, sigma: 0}}
users:
  - {{name: fleet, access_keys: {{{access_key}: {secret_key}}}}}
servers:
  - {{name: "web-{{:06d}}", count: {servers}, tags: {{role: web}}, subnet: 10.0.0.0/8}}
"""

PLAN = """\
version: 1
name: bench
cloud: {{provider: simulator, requests_per_second: {rate}}}
rollout: {{waves: [{servers}], concurrency: {concurrency}, max_failures: {may_fail}}}
defaults: {{reinstall: {{key_pair: demo-key, attempts: {tries}}}}}
targets:
  - {{name: web, select: {{tags: {{role: web}}}}}}
"""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is measured.

    Attributes:
        rate_limit: Calls a second that the cloud takes; the plan names the same number.
        faults: Share of the servers that something befalls: of every two, one's reinstall job fails once, and
            one's reinstall is taken and its answer lost.
        kill_at: Once this share of the servers is verified, `fleet` is killed (SIGKILL) and resumed.
    """

    servers: int = 1000
    concurrency: int = 50
    seed: int = 1
    rate_limit: float | None = None
    faults: float = 0.0
    kill_at: float | None = None

    @property
    def unlucky(self) -> range:
        """Numbers of the servers that something befalls, evenly spread."""
        befallen = round(self.servers * self.faults)
        return range(1, self.servers + 1, self.servers // befallen)[:befallen] if befallen else range(0)

    def cloud(self) -> str:
        """Return the fleet file."""
        limit = f"rate_limit: {self.rate_limit}" if self.rate_limit else ""
        text = CLOUD.format(
            seed=self.seed, limit=limit, servers=self.servers, access_key=ACCESS_KEY, secret_key=SECRET_KEY
        )
        kinds = ("job-fails", "answer-lost")
        lines = [
            f'  - {{kind: {kinds[place % 2]}, when: {{call: reinstall, server: "web-{number:06d}"}}}}\n'
            for place, number in enumerate(self.unlucky)
        ]
        return text + ("faults:\n" + "".join(lines) if lines else "")

    def plan(self) -> str:
        """Return the plan."""
        return PLAN.format(
            rate=self.rate_limit or 1000,
            servers=self.servers,
            concurrency=self.concurrency,
            may_fail=len(self.unlucky),
            tries=TRIES_OF_THE_PLAN,
        )


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one client took.

    Attributes:
        makespan_s: From the first server's first call to the last server's end, by the client's own record.
        wall_s, cpu_s, rss_mib: Of its process, from start to exit; the processor's time in user and system.
        calls: By kind, by the cloud's own record.
        reinstalls: Accepted ones, by the cloud's own record: how often, and how many servers.
        failed: Servers that the client gave up, by its own record.
        resumed_s: From the start of `fleet resume` until it had read the journal and logged in, and went on.
    """

    scenario: Scenario
    makespan_s: float
    ideal_s: float
    wall_s: float
    cpu_s: float
    rss_mib: float
    failed: int = 0
    resumed_s: float | None = None
    calls: dict[str, int] = field(default_factory=dict)
    reinstalls: dict[int, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Every server was reinstalled once; one whose job failed as often as the plan says at most."""
        again = (len(self.scenario.unlucky) + 1) // 2  # whose first job fails: see `Scenario.faults`
        once, twice = self.reinstalls.get(1, 0), self.reinstalls.get(TRIES_OF_THE_PLAN, 0)
        return once + twice == self.scenario.servers and twice <= again

    def as_data(self) -> dict[str, Any]:
        """Return everything, with what is compared worked out."""
        servers = self.scenario.servers
        return {name: value for name, value in asdict(self).items() if name != "scenario"} | {
            "servers": servers,
            "makespan_ratio": round(self.makespan_s / self.ideal_s, 4),
            "calls_per_server": round(sum(self.calls.values()) / servers, 3),
            "cpu_ms_per_server": round(1000 * self.cpu_s / servers, 3),
            "each_reinstalled_once": self.sound,
        }


# -- processes ------------------------------------------------------------------------------------------


def compile_ours() -> None:
    """Compile our modules, as installing does, also where Python is told not to: starts are measured."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(HERE.parents[1] / "fleet")], check=True)


@contextmanager
def cloud(folder: Path, scenario: Scenario) -> Iterator[str]:
    """Run `fleet simulator` as a process of its own; yield its URL."""
    compile_ours()
    fleet_file, ready = folder / "cloud.yaml", folder / "ready.json"
    fleet_file.write_text(scenario.cloud())
    ready.unlink(missing_ok=True)
    command = [*FLEET, "simulator", str(fleet_file), "--port", "0", "--ready-file", str(ready)]
    with (folder / "cloud.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the simulator did not start:\n{(folder / 'cloud.log').read_text()}")
            time.sleep(0.02)
        yield json.loads(ready.read_text())["url"]
    finally:
        process.terminate()
        process.wait()


def measured(
    command: Sequence[str],
    environ: dict[str, str],
    out: Path,
    *,
    kill_when: Callable[[], bool] | None = None,
) -> tuple[int, dict[str, float]]:
    """Run a command to its end; return its exit code, and what its process used, nobody else's.

    Args:
        command: With its arguments.
        environ: Laid over ours.
        out: Where its output goes; its errors go to the same name with ``.err``.
        kill_when: Asked every tenth of a second; once it is true, the process is killed (SIGKILL).
    """
    began = time.perf_counter()
    with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
        process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=stdout, stderr=stderr)
        if kill_when is not None:
            while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if kill_when():
                    os.kill(process.pid, signal.SIGKILL)
                    break
                time.sleep(0.1)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, {
        "wall_s": round(time.perf_counter() - began, 3),
        "cpu_s": round(used.ru_utime + used.ru_stime, 3),
        "rss_mib": round(used.ru_maxrss / 1024, 1),
    }


def record_of(url: str) -> dict[str, Any]:
    """Return the cloud's own summary: calls by kind, accepted reinstalls by how often."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/_simulator/summary", timeout=60) as answer:
        summary = json.load(answer)
    times: dict[int, int] = {}
    for count in summary["reinstalls"].values():
        times[count] = times.get(count, 0) + 1
    return {"calls": dict(sorted(summary["requests"].items())), "reinstalls": times}


def events(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the journal's lines; the first one, with its list of servers, is left out."""
    with journal.open("rb") as file:
        next(file)
        yield from map(json.loads, file)


def makespan(journal: Path) -> dict[str, Any]:
    """Return the makespan by a journal, and how many servers are failed at its end."""
    from datetime import datetime  # noqa: PLC0415 - see the top

    at: list[datetime] = []
    failed = set()
    for line in events(journal):
        if line["event"] in {"Admitted", "Verified", "Failed"}:
            at.append(datetime.fromisoformat(line["at"]))
        if line["event"] == "Failed":
            failed.add(line["server"])
        elif line["event"] == "Verified":
            failed.discard(line["server"])
    return {"makespan_s": round((max(at) - min(at)).total_seconds(), 3), "failed": len(failed)}


def resumed_at(journal: Path) -> float:
    """Return when a run was gone on with, in seconds of the epoch."""
    from datetime import datetime  # noqa: PLC0415 - see the top

    return next(
        datetime.fromisoformat(line["at"]).timestamp()
        for line in events(journal)
        if line["event"] == "RunResumed"
    )


class Verified:
    """Counts the servers that a journal says are verified, while it is being written."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._read = 0
        self._count = 0

    def count(self) -> int:
        """Return how many there are now."""
        if self._journal.exists():
            with self._journal.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            self._count += whole.count(b'"event":"Verified"')
        return self._count


# -- clients --------------------------------------------------------------------------------------------


class Client:
    """Somebody who reinstalls the fleet.

    Args:
        name: One of `CLIENTS`.
        profile: File for a cProfile of `fleet run`.
        fleet: How `fleet` is called.

    Attributes:
        journal: Of the latest run; `fleet` alone has one.
    """

    def __init__(self, name: str, *, profile: str | None = None, fleet: Sequence[str] = FLEET) -> None:
        self.name = name
        self.journal: Path | None = None
        self._profile = profile
        self._command = fleet

    def missing(self) -> str | None:
        """Say what the client needs and has not got, or None."""
        if self.name == "sdk" and not JUDGES.exists():
            return "sdk is left out: `make judges` builds .venv-judges, with the official SDK"
        return None

    def run(self, folder: Path, scenario: Scenario) -> Figures:
        """Reinstall the fleet of a scenario on a cloud of its own."""
        with cloud(folder, scenario) as url:
            used = (
                self._fleet(folder, scenario, url)
                if self.name == "fleet"
                else self._other(folder, scenario, url)
            )
            record = record_of(url)
        return Figures(**used, **record, scenario=scenario, ideal_s=ideal(folder, scenario))

    def _fleet(self, folder: Path, scenario: Scenario, url: str) -> dict[str, Any]:
        plan, state = folder / "bench.yaml", folder / "state"
        self.journal = state / "bench" / "journal.jsonl"
        plan.write_text(scenario.plan())
        command = [*self._command, "run", str(plan), "--yes", "--log-format", "json"]
        command += ["--journal", str(self.journal)]
        if self._profile:
            command = [sys.executable, "-m", "cProfile", "-o", self._profile, *command[1:]]
        environ = {"FLEET_SIMULATOR_URL": url, "FLEET_STATE_DIR": str(state)}
        if scenario.kill_at is not None:
            return self._killed_and_resumed(folder, scenario, command, environ)
        code, used = measured(command, environ, folder / "run.out")
        self._judge(code, scenario, folder / "run.err")
        return {**used, **makespan(self.journal)}

    def _killed_and_resumed(
        self, folder: Path, scenario: Scenario, command: list[str], environ: dict[str, str]
    ) -> dict[str, Any]:
        assert self.journal is not None
        assert scenario.kill_at is not None
        verified = Verified(self.journal)
        half = scenario.kill_at * scenario.servers
        code, first = measured(
            command, environ, folder / "run.out", kill_when=lambda: verified.count() >= half
        )
        if code != -signal.SIGKILL:
            self._judge(code or 1, scenario, folder / "run.err")
        began = time.time()
        command = [*FLEET, "resume", str(self.journal), "--log-format", "json"]
        code, used = measured(command, environ, folder / "resume.out")
        self._judge(code, scenario, folder / "resume.err")
        return {
            "wall_s": first["wall_s"] + used["wall_s"],
            "cpu_s": first["cpu_s"] + used["cpu_s"],
            "rss_mib": max(first["rss_mib"], used["rss_mib"]),
            "resumed_s": round(resumed_at(self.journal) - began, 3),
            **makespan(self.journal),
        }

    @staticmethod
    def _judge(code: int, scenario: Scenario, said: Path) -> None:
        if code not in {0, *([3] if scenario.faults else [])}:
            sys.exit(f"`fleet` ended with {code}:\n{said.read_text()[-2000:]}")

    def _other(self, folder: Path, scenario: Scenario, url: str) -> dict[str, Any]:
        python = str(JUDGES) if self.name == "sdk" else sys.executable
        command = [python, str(HERE / f"{self.name}.py"), url, str(scenario.concurrency)]
        code, used = measured(command, {}, folder / f"{self.name}.out")
        if code != 0:
            said = (folder / f"{self.name}.err").read_text()[-2000:]
            sys.exit(f"the client {self.name} ended with {code}:\n{said}")
        return {**used, **json.loads((folder / f"{self.name}.out").read_text())}


CLIENTS = ("fleet", "naive", "bare", "sdk")


# -- the ideal ------------------------------------------------------------------------------------------


def ideal(folder: Path, scenario: Scenario) -> float:
    """Return the makespan of a client that loses no time: see `schedule`.

    Worked out in a process of its own, so that ours stays small: see the top.
    """
    command = [sys.executable, str(HERE / "ideal.py"), str(folder / "cloud.yaml"), str(scenario.concurrency)]
    if scenario.rate_limit:
        command.append(str(scenario.rate_limit))
    return round(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout), 3)


# -- tables ---------------------------------------------------------------------------------------------

ROWS = {
    "makespan, s": "makespan_s",
    "ideal, s": "ideal_s",
    "makespan / ideal": "makespan_ratio",
    "calls per server": "calls_per_server",
    "processor time per server, ms": "cpu_ms_per_server",
    "peak memory, MiB": "rss_mib",
    "servers given up": "failed",
    "until a resume goes on, s": "resumed_s",
    "each reinstalled once": "each_reinstalled_once",
}


def table(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield a table of clients for people."""
    yield f"{'':32}" + "".join(f"{name:>12}" for name in found)
    for title, key in ROWS.items():
        yield f"{title:32}" + "".join(f"{figures[key]!s:>12}" for figures in found.values())
    for name, figures in found.items():
        kinds = ", ".join(f"{kind} {count}" for kind, count in figures["calls"].items())
        yield f"{name} by kind: {kinds}"


__all__ = [
    "CLIENTS", "FLEET", "HERE", "Client", "Figures", "Scenario", "cloud", "events", "ideal", "makespan",
    "measured", "record_of", "replace", "table",
]  # fmt: skip
