"""The ideal: how long the fleet of a fleet file takes a client that loses no time. Prints seconds.

python tests/benchmarks/ideal.py CLOUD.yaml SLOTS [CALLS A SECOND]
"""

from __future__ import annotations

import sys
from pathlib import Path

from schedule import limited_schedule, list_schedule

from fleet.cloud.simulator.fleetfile import build_world, read_fleet

if __name__ == "__main__":
    world = build_world(read_fleet(Path(sys.argv[1])))
    ways = [(world.draw("stop_soft", each), world.draw("reinstall", each)) for each in world.servers.values()]
    slots, *rate = sys.argv[2:]
    ideal = list_schedule([sum(way) for way in ways], int(slots))
    print(max(ideal, limited_schedule(ways, int(slots), float(rate[0]))) if rate else ideal)
