"""Start the built-in cloud and let a foreign client judge it, in an environment that has only that client.

python tests/judges/run.py .venv-judges/bin/python
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JUDGES = ("judge_signing.py", "judge_huawei_sdk.py")


def main() -> int:
    judge_python = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        command = [sys.executable, "-m", "fleet", "simulator", "--port", "0", "--speed", "100"]
        simulator = subprocess.Popen([*command, "--ready-file", str(ready)])
        try:
            deadline = time.monotonic() + 30
            while not ready.exists():
                if simulator.poll() is not None or time.monotonic() > deadline:
                    print("the simulator did not start", file=sys.stderr)
                    return 1
                time.sleep(0.05)
            url = json.loads(ready.read_text())["url"]
            judges = [Path(__file__).with_name(name) for name in JUDGES]
            runs = (
                subprocess.run([judge_python, str(judge), url], check=False, timeout=300) for judge in judges
            )
            return max(done.returncode for done in runs)
        finally:
            simulator.terminate()
            simulator.wait(timeout=10)


if __name__ == "__main__":
    sys.exit(main())
