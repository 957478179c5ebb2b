"""A run of `fleet` on a real Nova, killed (SIGKILL) in the middle and resumed; Nova's own log is the judge.

    source $LAB/openrc; python tests/nova/kill_and_resume.py [--servers 20] [--kills 3]

Boots the servers, runs a plan over all of them, kills it right after every so many announcements, as often as
asked, resumes it to its end, and reads with a client that is not ours how often each server was rebuilt.
Prints the figures; ends with 1 unless every server was rebuilt exactly once and verified.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
FLEET = [sys.executable, "-m", "fleet"]
PREFIX = "night"
PLAN = """\
name: night
cloud: {{provider: openstack, requests_per_second: 20}}
select: {{name: "{prefix}-*"}}
expect: {{min: {servers}, max: {servers}}}
rollout: {{waves: [1, 100%], concurrency: {concurrency}, max_failures: 0}}
stop: {{soft_timeout: 2m}}
reinstall: {{key_pair: fleet-lab, user_data: {{text: "#cloud-config"}}, settle: 2m, timeout: 10m}}
verify: {{timeout: 5m}}
"""


def others_client(*arguments: str) -> str:
    """Run the client that is not ours."""
    python = Path(os.environ["FLEET_NOVA_LAB"]) / "venv/bin/python"
    return subprocess.run(
        [python, HERE / "servers.py", *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def events(state: Path) -> list[dict[str, object]]:
    """Return the whole lines of the newest journal."""
    journals = sorted(state.glob("*/journal.jsonl"))
    lines = journals[-1].read_bytes().split(b"\n")[:-1] if journals else []
    return [json.loads(line) for line in lines]


def announced(state: Path) -> int:
    return sum(event["event"] == "ReinstallRequested" for event in events(state))


def night(folder: Path, servers: int, kills: int, concurrency: int) -> int:
    """Run, kill, resume, judge; return the exit code."""
    plan, state = folder / "night.yaml", folder / "state"
    plan.write_text(PLAN.format(prefix=PREFIX, servers=servers, concurrency=concurrency))
    environ = {**os.environ, "FLEET_STATE_DIR": str(state), "COLUMNS": "160"}
    began = time.monotonic()
    in_doubt: list[int] = []
    moments = [servers * number // (kills + 1) for number in range(1, kills + 1)]
    code = None
    for moment in [*moments, None]:
        log = (folder / "fleet.log").open("ab")
        child = subprocess.Popen([*FLEET, "run", plan, "--yes"], env=environ, stdout=log, stderr=log)
        while child.poll() is None and (moment is None or announced(state) < moment):
            time.sleep(0.005)
        if child.poll() is None:
            child.kill()
            child.wait()
            status = subprocess.run(
                [*FLEET, "status", "-o", "json"], env=environ, check=True, stdout=subprocess.PIPE
            )
            in_doubt.append(json.loads(status.stdout)["figures"]["in_doubt"])
        code = child.returncode
    took_s = time.monotonic() - began
    log_of = json.loads(others_client("log", PREFIX))
    rebuilds = {name: [line[0] for line in lines].count("rebuild") for name, lines in log_of.items()}
    told = Counter(str(event["event"]) for event in events(state))
    print(
        f"servers {servers}, concurrency {concurrency}, exit code {code}, {took_s:.0f} s\n"
        f"killed {len(in_doubt)} times; in doubt at each death: {in_doubt}\n"
        f"journal: {told['ReinstallRequested']} announced, {told['ReinstallAccepted']} accepted, "
        f"{told['ReinstallNotTaken']} not taken, {told['ReinstallUnanswered']} unanswered, "
        f"{told['Verified']} verified, {told['Failed']} failed\n"
        f"Nova's own log, rebuilds by server: {dict(Counter(rebuilds.values()))} (count: servers)"
    )
    once = rebuilds == {f"{PREFIX}-{number}": 1 for number in range(1, servers + 1)}
    good = once and code == 0 and told["Verified"] == servers and len(in_doubt) == kills
    print("each server was rebuilt exactly once" if good else f"NOT as promised: {rebuilds}")
    return 0 if good else 1


def main() -> int:
    """Boot, run the night, clean up."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--servers", type=int, default=20)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="leave servers, plan and journal for a look")
    wanted = parser.parse_args()
    began = time.monotonic()
    others_client("delete", PREFIX)
    print(
        others_client("boot", str(wanted.servers), PREFIX).strip(), f"after {time.monotonic() - began:.0f} s"
    )
    folder = Path(tempfile.mkdtemp(prefix="fleet-nova-"))
    code = night(folder, wanted.servers, wanted.kills, wanted.concurrency)
    if wanted.keep or code:
        print(f"plan, journal and log: {folder}")
    if not wanted.keep:
        others_client("delete", PREFIX)
    return code


if __name__ == "__main__":
    sys.exit(main())
