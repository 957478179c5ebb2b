"""Pictures of the terminal as text, of real runs over HTTP in tmux: `make screens` writes docs/screens/*.txt.

A run of 240 servers with failures and a window, on a usual terminal, resized to a narrow one, and
watched from elsewhere while its terminal goes away; one of 4,000 servers for which the window is too short;
the log of one without a terminal.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "screens"
FLEET = [sys.executable, "-m", "fleet"]
PATIENCE_S = 240.0

PLAN = """\
name: {name}
cloud: {{provider: simulator, requests_per_second: {rate}}}
windows: [{{from: "{begin:%H:%M}", to: "{end:%H:%M}", timezone: UTC}}]
rollout: {{waves: [1, 10, 40%], concurrency: {concurrency}, max_failures: 20}}
defaults:
  stop: {{soft_timeout: 30s}}
  reinstall: {{key_pair: demo-key, timeout: 90s, settle: 5s, attempts: 1}}
  verify: {{timeout: 60s}}
targets:
  - {{name: db, select: {{tags: {{role: db}}}}}}
  - {{name: web, select: {{tags: {{role: web}}}}, exclude: {{name: web-99}}}}
"""

CLOUD = """\
speed: {speed}
seed: 7
servers:
  - {{name: "db-{{}}", count: 6, tags: {{role: db}}, subnet: 10.30.0.0/16}}
  - {{name: "web-{{}}", count: {web}, tags: {{role: web}}, subnet: 10.20.0.0/16}}
faults:
  - {{kind: job-fails, code: Ecs.0113, text: "the image cannot be read", when: {{server: web-23, nth: 1}}}}
  - {{kind: job-fails, code: Ecs.0113, text: "the image cannot be read", when: {{server: web-38, nth: 1}}}}
  - {{kind: job-stuck, when: {{server: web-31, nth: 1}}}}
"""


class Tmux:
    """A tmux server of its own, with one window."""

    def __init__(self, folder: Path, width: int, height: int, environment: dict[str, str]) -> None:
        self._socket = str(folder / f"tmux-{width}x{height}")
        self._size = ["-x", str(width), "-y", str(height)]
        self._environment = environment

    def run(self, *command: str) -> None:
        """Run a command in it; what was there before is gone."""
        variables = [f"-e{name}={value}" for name, value in self._environment.items()]
        quoted = " ".join(f"'{word}'" for word in command)
        self("-f/dev/null", "new-session", "-d", *self._size, *variables, f"{quoted}; sleep 600")

    def resize(self, width: int, height: int) -> None:
        """Make the window another size, as dragging its corner does."""
        self("resize-window", "-x", str(width), "-y", str(height))

    def picture(self) -> str:
        """Return what is on the screen."""
        return "\n".join(line.rstrip() for line in self("capture-pane", "-p").rstrip().splitlines()) + "\n"

    def until(self, words: str) -> str:
        """Return what is on the screen as soon as it matches."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if re.search(words, found := self.picture()):
                return found
            time.sleep(0.2)
        raise SystemExit(f"never seen: {words!r}, but\n{self.picture()}")

    def close(self) -> None:
        """End it, and what runs in it."""
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout


@contextmanager
def cloud(folder: Path, *, web: int, speed: float) -> Iterator[dict[str, str]]:
    """Serve a simulated cloud; yield the environment in which it is found."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    (folder / "fleet.yaml").write_text(CLOUD.format(web=web, speed=speed))
    arguments = ["simulator", str(folder / "fleet.yaml"), "--port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen([*FLEET, *arguments], stderr=subprocess.DEVNULL)
    try:
        while not ready.exists():
            if process.poll() is not None:
                raise SystemExit("the simulator did not start")
            time.sleep(0.1)
        url = json.loads(ready.read_text())["url"]
        yield {"FLEET_SIMULATOR_URL": url, "FLEET_STATE_DIR": str(folder / "state"), "TERM": "xterm-256color"}
    finally:
        process.terminate()
        process.wait()


def plan(folder: Path, name: str, *, concurrency: int, minutes: int, rate: int = 50) -> str:
    """Write a plan whose window closes in so many minutes."""
    now = datetime.now(UTC)
    path = folder / f"{name}.yaml"
    end = now + timedelta(minutes=minutes)
    path.write_text(
        PLAN.format(name=name, concurrency=concurrency, begin=now - timedelta(hours=1), end=end, rate=rate)
    )
    return str(path)


def keep(name: str, picture: str) -> None:
    """Write a picture, without this machine's name."""
    (DOCS / f"{name}.txt").write_text(picture.replace(socket.gethostname(), "ops-1"))
    print(f"docs/screens/{name}.txt", file=sys.stderr)


def display(picture: str) -> str:
    """Return the live display alone: what was said before it is the preview."""
    lines = picture.splitlines()
    first = next(n for n, line in enumerate(lines) if re.match(r"\S+-\d{8}T\d{6}Z-\w+, ", line))
    return "\n".join(lines[first:]) + "\n"


def a_night(folder: Path) -> None:
    """240 servers: usual, narrow, watched."""
    with cloud(folder, web=235, speed=12) as environment:
        here = Tmux(folder, 100, 30, environment)
        there = Tmux(folder, 90, 24, environment)
        try:
            here.run(*FLEET, "run", plan(folder, "web-tier", concurrency=30, minutes=40), "--yes")
            keep("run-100x30", display(here.until(r"\d overdue[\s\S]*web-31 .*overdue")))
            here.resize(40, 16)
            keep("run-40x16", display(here.until(r"wave \d/\d")))
            there.run(*FLEET, "status", "--watch")
            there.until("running")
            here.close()
            keep("watch-90x24", there.until("next: fleet resume"))
        finally:
            here.close()
            there.close()


def a_big_one(folder: Path) -> None:
    """4,000 servers, and a window that is too short for them."""
    with cloud(folder, web=3995, speed=12) as environment:
        here = Tmux(folder, 120, 32, environment)
        try:
            path = plan(folder, "fleetwide", concurrency=30, minutes=23, rate=100)
            here.run(*FLEET, "run", path, "--yes")
            keep("run-4000-servers", display(here.until(r"would end[\s\S]*wave 3 of 5[\s\S]*30 in flight")))
        finally:
            here.close()


def a_log(folder: Path) -> None:
    """Without a terminal: the first events and a heartbeat."""
    with cloud(folder, web=10, speed=60) as environment:
        command = [
            *FLEET,
            "run",
            plan(folder, "cron", concurrency=4, minutes=60),
            "--yes",
            "--heartbeat",
            "0.05",
        ]
        done = subprocess.run(
            command, check=False, env=os.environ | environment, capture_output=True, text=True
        )
    lines = [line for line in done.stderr.splitlines() if line.startswith("{")]
    beat = next(n for n, line in enumerate(lines) if "StillWorking" in line and "usually" in line)
    keep("log", "\n".join([*lines[:4], "…", *lines[beat - 2 : beat + 2], "…"]) + "\n")


def main() -> None:
    """Draw all of them."""
    if shutil.which("tmux") is None:
        raise SystemExit("tmux is needed: apt install tmux")
    DOCS.mkdir(exist_ok=True)
    for draw in (a_night, a_big_one, a_log):
        with tempfile.TemporaryDirectory(prefix="fleet-screens-") as folder:
            draw(Path(folder))


if __name__ == "__main__":
    main()
