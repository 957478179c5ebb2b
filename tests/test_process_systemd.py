"""What systemd hears of a run, over a real socket; and the units, as systemd reads them."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from process_support import fleet_on, fleet_text, plan_text

pytestmark = pytest.mark.process
UNITS = Path(__file__).parent.parent / "contrib" / "systemd"


def test_systemd_hears_ready_progress_and_the_end(tmp_path: Path) -> None:
    """A second run that has nothing to do is ready too: else systemd would call it failed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        address = str(tmp_path / "notify")
        listening.bind(address)
        listening.settimeout(0)

        def heard() -> list[str]:
            found = []
            while True:
                try:
                    found.append(listening.recv(4096).decode())
                except BlockingIOError:
                    return found

        with fleet_on(tmp_path, fleet_text(2)) as (fleet, _cloud):
            plan = fleet.plan(plan_text(waves="[2]", concurrency=2))
            assert fleet("run", plan, "--yes", env={"NOTIFY_SOCKET": address}).code == 0
            first = heard()
            assert first[0] == "READY=1"
            assert "2 of 2 verified, 0 in flight, 0 failed" in first[-2]
            assert first[-1] == "STOPPING=1"
            assert fleet("run", plan, "--yes", env={"NOTIFY_SOCKET": address}).code == 0
            assert heard() == ["READY=1"]
            gone = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
            assert fleet("run", plan, "--yes", "--again", env=gone).code == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_units_are_ones(tmp_path: Path) -> None:
    service = (UNITS / "fleet@.service").read_text()
    for unit, text in (("fleet@.service", service), ("fleet@.timer", (UNITS / "fleet@.timer").read_text())):
        there = text.replace("/opt/fleet/bin/fleet", "/bin/true").replace("User=fleet", "User=root")
        (tmp_path / unit).write_text(there)
    units = [str(tmp_path / "fleet@web.service"), str(tmp_path / "fleet@web.timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "fleet@" in line]) == (0, [])
