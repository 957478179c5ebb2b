"""The ideal: how long the fleet of a fleet file takes a client that loses no time. Prints seconds.

python tests/benchmarks/ideal.py CLOUD.yaml SLOTS
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness import list_schedule

from fleet.cloud.simulator.fleetfile import build_world, read_fleet

if __name__ == "__main__":
    world = build_world(read_fleet(Path(sys.argv[1])))
    durations = [
        world.draw("stop_soft", each) + world.draw("reinstall", each) for each in world.servers.values()
    ]
    print(list_schedule(durations, int(sys.argv[2])))
