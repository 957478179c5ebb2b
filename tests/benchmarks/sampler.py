"""Run `fleet` in this process and note, at each tick of its own processor time, what it is doing.

    python tests/benchmarks/sampler.py OUT.json run PLAN --yes …

The kernel's timer counts processor time, user's and system's, and not time slept. A tick that comes inside a
C function is noted as its caller's. `cpu_profile.py` starts this and makes a table of it.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

TICK_S = 0.001
"""What is asked for; kernels tick more rarely (4 ms is usual), so ticks are shares, not times."""

DEPTH = 60
"""Frames that are kept of each stack, the innermost ones."""


def main() -> None:
    """Sample a command, write what was seen, and end as the command does."""
    out = Path(sys.argv[1])
    sys.argv = ["fleet", *sys.argv[2:]]
    seen: Counter[str] = Counter()
    working = False

    def note(_number: int, frame: FrameType | None) -> None:
        nonlocal working
        stack = []
        while frame is not None and len(stack) < DEPTH:
            code = frame.f_code
            stack.append(f"{code.co_filename}:{code.co_name}")
            frame = frame.f_back
        # The engine's first word ends the start; imports, plan, login and survey come before.
        working = working or any("/fleet/engine.py:work" in each for each in stack)
        seen["\n".join(("work" if working else "start", *stack))] += 1

    collected = {"start": 0.0, "work": 0.0}
    began = 0.0

    def collect(phase: str, _info: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.process_time()
        else:
            collected["work" if working else "start"] += time.process_time() - began

    before_s = time.process_time()
    gc.callbacks.append(collect)
    signal.signal(signal.SIGPROF, note)
    signal.setitimer(signal.ITIMER_PROF, TICK_S, TICK_S)
    try:
        from fleet.__main__ import main as fleet  # noqa: PLC0415 - its imports are part of what is measured

        fleet()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        found = {"before_s": before_s, "cpu_s": time.process_time(), "collected_s": collected, "stacks": seen}
        out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
