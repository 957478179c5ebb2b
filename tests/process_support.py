"""Real processes: a simulator that is served over HTTP, and `fleet` as a child that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forks import ANEW, Forked, can_fork, fork

FLEET = [sys.executable, "-m", "fleet"]
Process = subprocess.Popen[bytes] | Forked
PATIENCE_S = 90.0
"""For everything that is waited for: two busy cores may be slow, and slow is not wrong."""

PLAN = """\
name: {name}
cloud: {{provider: simulator, requests_per_second: 200}}
rollout: {{waves: {waves}, concurrency: {concurrency}, max_failures: {max_failures}}}
stop: {{soft_timeout: 10s}}
reinstall: {{key_pair: demo-key, timeout: 60s, settle: {settle}}}
verify: {{timeout: 30s}}
select: {{tags: {{role: web}}}}
"""


def plan_text(
    name: str = "p", *, waves: str = "[1, 100%]", concurrency: int = 4, max_failures: int = 0,
    settle: str = "2s", more: str = "",
) -> str:  # fmt: skip
    text = PLAN.format(
        name=name, waves=waves, concurrency=concurrency, max_failures=max_failures, settle=settle
    )
    return text + more


def fleet_text(
    servers: int = 4, *, speed: float = 150, more: str = "", group: str = "role: web, env: prod"
) -> str:
    """Write a fleet file of web servers named web-1, web-2, …"""
    name = "web-{}" if servers > 1 else "web-1"
    return (
        f"speed: {speed}\n{more}\nservers:\n"
        f'  - {{name: "{name}", count: {servers}, tags: {{{group}}}, subnet: 10.20.1.0/24}}\n'
    )


def _clean_environment() -> dict[str, str]:
    """Return our environment without what would steer `fleet` or lead it to a real cloud."""
    foreign = ("FLEET_", "OS_", "XDG_STATE")
    found = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        found.pop(name, None)
    return found


def heed_signals() -> None:
    """In a child: signals as in a shell in the foreground, whatever started the tests ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_until(wanted: Callable[[], Any], what: str = "what was waited for") -> Any:
    """Return what *wanted* returns as soon as it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := wanted():
            return found
        time.sleep(0.01)
    raise AssertionError(f"did not happen: {what}")


def _begin(
    arguments: list[str], environment: dict[str, str], *, stdout: Any, stderr: Any, anew: bool = False,
    session: bool = False, wrapper: tuple[str, ...] = (), before: Callable[[], None] = heed_signals,
) -> Process:  # fmt: skip
    """Start `fleet`: as a fork that has its imports behind it, if that makes no difference; see `forks`."""
    if not anew and not wrapper and before is heed_signals:
        return fork(arguments, environment, stdout=stdout, stderr=stderr, session=session)
    return subprocess.Popen(
        [*wrapper, *FLEET, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        start_new_session=session,
        preexec_fn=before,  # noqa: PLW1509 - no threads here
    )


class Simulator:
    """The built-in cloud in a process of its own."""

    def __init__(self, url: str, process: Process) -> None:
        self.url = url
        self.process = process

    def ask(self, path: str, body: object = None) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        data = None if body is None else json.dumps(body).encode()
        with opener.open(f"{self.url}/_simulator/{path}", data, timeout=30) as answer:
            return json.load(answer)

    def order(self, *faults: dict[str, Any]) -> None:
        """Order faults: kind, and the fields of `when` in `when`."""
        assert self.ask("faults", list(faults)) == {"ordered": len(faults)}

    def summary(self) -> Any:
        return self.ask("summary")

    def names(self) -> dict[str, str]:
        """Return the servers' names by id."""
        return {server["id"]: server["name"] for server in self.ask("state")["servers"]}

    def reinstalls(self) -> dict[str, int]:
        """Return accepted reinstalls by name."""
        names = self.names()
        return {names[server]: count for server, count in self.summary()["reinstalls"].items()}

    def wipes(self) -> dict[str, int]:
        names = self.names()
        return {names[server]: count for server, count in self.summary()["wipes"].items()}

    def calls(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the calls on record that would change something."""
        return [
            entry
            for entry in self.ask("record")["entries"]
            if entry["entry"] == "call" and kind in {None, entry["kind"]}
        ]


@contextmanager
def simulator(folder: Path, text: str) -> Iterator[Simulator]:
    """Serve a fleet file."""
    fleet_file, ready = folder / "fleet.yaml", folder / "ready.json"
    fleet_file.write_text(text)
    ready.unlink(missing_ok=True)
    arguments = ["simulator", str(fleet_file), "--port", "0", "--ready-file", str(ready)]
    arguments += ["--idle-exit", "150"]  # should the tests be killed
    log = folder / "simulator.log"
    with log.open("wb") as file:
        process = _begin(arguments, _clean_environment(), stdout=file, stderr=file, session=True, anew=ANEW)
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, "the simulator's start")
        assert process.poll() is None, log.read_text()
        yield Simulator(json.loads(ready.read_text())["url"], process)
    finally:
        process.kill()
        process.wait()


@dataclass
class Done:
    """A child that has ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def last(self) -> str:
        return self.out.strip().splitlines()[-1]


class Child:
    """A `fleet` that runs."""

    def __init__(self, process: Process, out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = out, err

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def wait(self) -> Done:
        code = self.process.wait(timeout=PATIENCE_S)
        return Done(code, self._out.read_text(errors="replace"), self.err)


@dataclass
class Fleet:
    """`fleet`, with a state folder and an environment of its own.

    Attributes:
        wrapper: What it is started by, such as strace.
        anew: Give each command an interpreter of its own, with a command line to be seen: see `forks`.
    """

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    anew: bool = False
    number: int = 0
    children: list[Child] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def plan(self, text: str, name: str = "plan.yaml") -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def start(
        self, *arguments: str, env: dict[str, str] | None = None, wrapper: tuple[str, ...] = (),
        before: Callable[[], None] = heed_signals, **streams: Any,
    ) -> Child:  # fmt: skip
        self.number += 1
        out, err = self.folder / f"{self.number}.out", self.folder / f"{self.number}.err"
        environment = _clean_environment() | {"FLEET_STATE_DIR": str(self.state), "COLUMNS": "200"}
        environment |= self.env | (env or {})
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = _begin(
                list(arguments),
                environment,
                stdout=streams.get("stdout", out_file),
                stderr=streams.get("stderr", err_file),
                anew=self.anew or not can_fork(self.env | (env or {})),
                wrapper=wrapper,
                before=before,
            )
        child = Child(process, out, err)
        self.children.append(child)
        return child

    def __call__(self, *arguments: str, **options: Any) -> Done:
        """Run a command to its end."""
        return self.start(*arguments, **options).wait()

    def journals(self) -> list[Path]:
        return sorted(self.state.glob("*/journal.jsonl"))

    def events(self, journal: Path | None = None) -> list[dict[str, Any]]:
        """Return the whole lines of the newest journal; none when there is none yet."""
        if journal is None:
            found = self.journals()
            if not found:
                return []
            journal = found[-1]
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
        return [json.loads(line) for line in lines if line]

    def wait_for(self, event: str, count: int = 1, *, child: Child, journal: Path | None = None) -> None:
        """Wait until the newest journal has *count* events of a kind."""

        def there() -> bool:
            assert child.process.poll() is None, f"ended before {count} {event}: {child.err[-2000:]}"
            return self.count(event, journal) >= count

        wait_until(there, f"{count} x {event}")

    def count(self, event: str, journal: Path | None = None) -> int:
        return Counter(each["event"] for each in self.events(journal))[event]

    def close(self) -> None:
        for child in self.children:
            if child.process.poll() is None:
                child.kill()


@contextmanager
def fleet_on(folder: Path, text: str) -> Iterator[tuple[Fleet, Simulator]]:
    """Serve a fleet file, and return a `fleet` that knows where."""
    with simulator(folder, text) as cloud:
        fleet = Fleet(folder, env={"FLEET_SIMULATOR_URL": cloud.url})
        try:
            yield fleet, cloud
        finally:
            fleet.close()


def once_each(servers: int) -> dict[str, int]:
    return {f"web-{number}": 1 for number in range(1, servers + 1)}
