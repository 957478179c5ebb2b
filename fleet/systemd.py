"""What systemd is told by a service with ``Type=notify``: that we work, how far we are, that we end."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from datetime import datetime

from fleet.core.events import Admitted, Event, Failed, RunDrained, RunHeld, Verified
from fleet.core.state import Phase, Run


def notify(*lines: str) -> None:
    """Send *lines* (``READY=1``, ``STATUS=…``) to systemd, if it waits for them. Nothing depends on it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.settimeout(0)  # a systemd that does not read must not hold up a run
        sending.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        sending.send("\n".join(lines).encode())


def tell_systemd(run: Run) -> Callable[[Event, datetime], None]:
    """Return a listener that keeps the line of `systemctl status` true."""

    def tell(event: Event, at: datetime) -> None:
        del at
        if isinstance(event, Admitted | Verified | Failed | RunHeld | RunDrained):
            counts = run.counts()
            words = f"{counts[Phase.VERIFIED]} of {len(run.servers)} verified, {run.in_flight} in flight"
            held = ", held" if run.held is not None else ""
            notify(f"STATUS={run.id}: {words}, {counts[Phase.FAILED]} failed{held}")

    return tell
