"""``simulator`` and ``demo``: the built-in cloud, by itself and as the first thing a newcomer sees."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fleet import runs
from fleet.claims import forget
from fleet.cli.common import say
from fleet.errors import Exit, FleetError
from fleet.report.digest import digest_of

URL_VARIABLE = "FLEET_SIMULATOR_URL"
_READY_S = 20.0
_GONE_S = 5.0
_IDLE_EXIT_S = 900.0


@click.command()
@click.argument("fleet_file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option(
    "--port", default=8090, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option(
    "--servers", type=click.IntRange(1, 200_000), help="So many servers, instead of a fleet file's."
)
@click.option("--seed", type=int, help="Of names, durations and faults; the same seed is the same night.")
@click.option("--speed", type=click.FloatRange(0, min_open=True), help="Times faster than a real cloud.")
@click.option(
    "--record", type=click.Path(path_type=Path, dir_okay=False), help="Append the cloud's own record here."
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write URL and pid here once it answers.",
)
@click.option(
    "--idle-exit",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="End when nobody asks for so long.",
)
def simulator(
    fleet_file: Path | None,
    *,
    host: str,
    port: int,
    servers: int | None,
    seed: int | None,
    speed: float | None,
    record: Path | None,
    ready_file: Path | None,
    idle_exit: float | None,
) -> int:
    """Serve the built-in ECS cloud over HTTP, on loopback: the documented paths, bodies, errors and limits.

    \b
    Example:
      fleet simulator --speed 20 &
      export FLEET_SIMULATOR_URL=http://127.0.0.1:8090
      fleet preview plans/demo.yaml
    """  # noqa: D301 - click's mark for "do not rewrap"
    import msgspec  # noqa: PLC0415 - with the next three: the server's imports, for this command alone

    from fleet.cloud.simulator import defaults  # noqa: PLC0415 - late: start-up stays fast
    from fleet.cloud.simulator.fleetfile import default_fleet, read_fleet  # noqa: PLC0415 - late: start-up stays fast
    from fleet.cloud.simulator.server import serve  # noqa: PLC0415 - late: start-up stays fast

    fleet = read_fleet(fleet_file) if fleet_file else default_fleet(servers)
    if seed is not None:
        fleet = msgspec.structs.replace(fleet, seed=seed)
    if speed is not None:
        fleet = msgspec.structs.replace(fleet, speed=speed)

    def ready(url: str) -> None:
        if ready_file is not None:
            aside = ready_file.with_name(ready_file.name + ".new")
            aside.write_text(json.dumps({"url": url, "pid": os.getpid()}))
            aside.rename(ready_file)
        say(f"serving {url} (user {defaults.USER_NAME}, project {defaults.PROJECT_NAME}); Ctrl-C ends it")
        say(f"export {URL_VARIABLE}={url}")

    asyncio.run(serve(fleet, host=host, port=port, record_file=record, idle_exit_s=idle_exit, on_ready=ready))
    return Exit.OK


# -- demo -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DemoCloud:
    """The demo's cloud: a process of its own, which outlives a killed `fleet demo`.

    Attributes:
        since: When it was started. A run from before was about another one.
    """

    url: str
    since: datetime

    @classmethod
    def read(cls, ready: Path) -> DemoCloud:
        """Return the cloud that wrote *ready*.

        Raises:
            OSError, ValueError, KeyError: None did.
        """
        found = json.loads(ready.read_text())
        return cls(found["url"], datetime.fromtimestamp(ready.stat().st_mtime, UTC))

    def ask(self, path: str, *, post: bool = False) -> dict[str, Any] | None:
        """Ask the operator's side of the simulator; None when nobody answers."""
        request = urllib.request.Request(  # noqa: S310 - our own simulator's http address
            f"{self.url}/_simulator/{path}", method="POST" if post else "GET"
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: never by a proxy
        try:
            with opener.open(request, timeout=5) as answer:
                found = json.load(answer)
        except (OSError, ValueError, urllib.error.URLError):
            return None
        return found if isinstance(found, dict) else None

    def stop(self) -> None:
        """Have it end, and wait for that: a demo leaves nothing behind."""
        self.ask("stop", post=True)
        deadline = time.monotonic() + _GONE_S
        while time.monotonic() < deadline and self.ask("health") is not None:
            time.sleep(0.05)


@click.command()
@click.option(
    "--speed",
    default=30.0,
    show_default=True,
    type=click.FloatRange(1),
    help="Times faster than a real cloud.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed is the same night.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "live", "pretty", "json"]),
    default="auto",
    help="As for `fleet run`.",
)
def demo(speed: float, seed: int, log_format: str) -> int:
    """Reinstall a simulated fleet of 66 servers, in waves, over real HTTP: no account, no risk.

    Kill it half-way, kill -9 if you like, and give the command again: it goes on where it was. At the end
    the cloud's own record says how often each server was wiped.

    \b
    Example:
      fleet demo
      fleet status
    """  # noqa: D301 - click's mark for "do not rewrap"
    from fleet.cli.plans import load_for_action  # noqa: PLC0415 - heavy, and `simulator` needs none of it
    from fleet.cli.run import Options, run_plan  # noqa: PLC0415 - late: start-up stays fast

    plan = _demo_plan()
    folder = runs.state_folder() / "demo"
    runs.make_folder(folder)
    lock = runs.Lock(folder / "demo.lock", "the demo")  # two of them would start two clouds
    try:
        cloud = _demo_cloud(folder, speed=speed, seed=seed)
        os.environ[URL_VARIABLE] = cloud.url
        loaded = load_for_action(plan)
        options = Options(yes=True, again=True, ignore_before=cloud.since, log_format=log_format)
        code = asyncio.run(run_plan(loaded, None, options))
        record = cloud.ask("summary")
        if record is not None:
            _print_record(record)
        if code in {Exit.OK, Exit.FAILED}:
            cloud.stop()
            (folder / "cloud.json").unlink(missing_ok=True)
        return code
    finally:
        lock.release()


def _demo_plan() -> Path:
    """Return the plan: beside the sources in a checkout, inside the package when it was installed."""
    inside = Path(__file__).with_name("demo.yaml")
    checkout = Path(__file__).parents[2] / "plans" / "demo.yaml"
    for path in (checkout, inside):
        if path.is_file():
            return path
    raise FleetError("the demo's plan is missing from this installation")


def _demo_cloud(folder: Path, *, speed: float, seed: int) -> DemoCloud:
    """Return the cloud of an unfinished demo, or a new one."""
    ready = folder / "cloud.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        cloud = DemoCloud.read(ready)
        if cloud.ask("health") is not None:
            say(f"the simulated cloud of the unfinished demo still runs at {cloud.url}")
            return cloud
        _forget_runs_on(cloud)
    ready.unlink(missing_ok=True)
    log = folder / "cloud.log"
    command = [
        sys.executable,
        "-m",
        "fleet",
        "simulator",
        "--port",
        "0",
        "--speed",
        str(speed),
        "--seed",
        str(seed),
    ]
    command += [
        "--ready-file",
        str(ready),
        "--idle-exit",
        str(_IDLE_EXIT_S),
        "--record",
        str(folder / "record.jsonl"),
    ]
    with log.open("wb") as file:
        # A session of its own: a signal that is meant for us must not end the cloud.
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if ready.exists():
            cloud = DemoCloud.read(ready)
            say(
                f"a simulated cloud runs at {cloud.url}, {speed:g} times faster than a real one, "
                "by which the ends below are reckoned"
            )
            return cloud
        if process.poll() is not None:
            break
        time.sleep(0.05)
    tail = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise FleetError(
        "the simulated cloud did not start" + (f": {tail[0]}" if tail else ""), hint=f"see {log}"
    )


def _forget_runs_on(gone: DemoCloud) -> None:
    """Let go of what runs on a cloud that is no more have left half done: their servers went with it."""
    state = runs.state_folder()
    for name, journal in runs.journals_of(state, "demo"):
        if not runs.is_stillborn(journal) and digest_of(journal).cloud.split()[:1] == [gone.url]:
            forget(state, name)


def _print_record(record: dict[str, Any]) -> None:
    accepted = record.get("reinstalls", {})
    wiped = record.get("wipes", {})
    if not isinstance(accepted, dict) or not isinstance(wiped, dict):
        return
    twice = sorted(server for server, count in wiped.items() if count > 1)
    words = f"{len(twice)} of them more than once: {', '.join(twice)}" if twice else "none of them twice"
    accepted_in_all = sum(accepted.values())
    say(f"the cloud's own record: {accepted_in_all} reinstalls accepted, {len(wiped)} servers wiped, {words}")
