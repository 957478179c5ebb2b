"""Let foreign clients judge the built-in cloud, and our clients, in an environment that has only the former.

    python tests/judges/run.py .venv-judges/bin/python

Ours are imported by this interpreter only, theirs by the other one only; `docs/providers.md` says who judges
what. Each judge of the built-in cloud gets one of its own, as it is in the beginning.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
JUDGES_OF_THE_CLOUD = ("judge_signing.py", "judge_huawei_sdk.py", "judge_openstacksdk.py")
JUDGES_OF_OUR_CLIENTS = ("judge_requests.py", "judge_values.py")
PATIENCE_S = 300.0
BEGINS_WITHIN_S = 30.0


class NoSimulator(Exception):
    """The built-in cloud did not start."""


@contextmanager
def a_simulator(folder: Path) -> Iterator[str]:
    """Serve the judges' fleet, a hundred times faster than a cloud; yield its URL."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "fleet", "simulator", str(HERE / "fleet.yaml"), "--port", "0"]
    simulator = subprocess.Popen([*command, "--speed", "100", "--ready-file", str(ready)])
    try:
        deadline = time.monotonic() + BEGINS_WITHIN_S
        while not ready.exists():
            if simulator.poll() is not None or time.monotonic() > deadline:
                raise NoSimulator
            time.sleep(0.05)
        yield json.loads(ready.read_text())["url"]
    finally:
        simulator.terminate()
        simulator.wait(timeout=10)


def run(python: str, script: str, argument: str) -> int:
    """Run one script, and say how long it took."""
    began = time.monotonic()
    done = subprocess.run([python, str(HERE / script), argument], check=False, timeout=PATIENCE_S)
    print(f"== {script}: exit code {done.returncode}, {time.monotonic() - began:.1f} s", flush=True)
    return done.returncode


def main() -> int:
    """Run every judge, also after one has found something; return the worst exit code."""
    judge_python = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        codes = []
        for judge in JUDGES_OF_THE_CLOUD:
            try:
                with a_simulator(Path(folder)) as url:
                    codes.append(run(judge_python, judge, url))
            except NoSimulator:
                print("the simulator did not start", file=sys.stderr)
                return 1
        record = Path(folder) / "record.json"
        codes.append(run(sys.executable, "record_ours.py", str(record)))
        if record.exists():
            codes += [run(judge_python, judge, str(record)) for judge in JUDGES_OF_OUR_CLIENTS]
        logins = Path(folder) / "logins.json"
        codes.append(run(sys.executable, "record_logins.py", str(logins)))
        if logins.exists():
            codes.append(run(judge_python, "judge_logins.py", str(logins)))
        # A process that a signal has ended has a negative code.
        return 0 if not any(codes) else 1


if __name__ == "__main__":
    sys.exit(main())
