"""What systemd is told by a service with ``Type=notify``: that we work, how far we are, that we end.

And, with ``WatchdogSec=``, that our loop still turns: a process that hangs is killed then, and started anew
by ``Restart=``, which goes on from the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime

from fleet.core.events import Admitted, Event, Failed, RunDrained, RunHeld, Verified
from fleet.core.state import Phase, Run

_DIGITS = 20
"""Of a number that systemd can have written: it has 64 bits."""

_SHORTEST_S = 0.001
"""Between two pings, lest a nonsensical time keeps a core busy all night."""


def notify(*lines: str) -> None:
    """Send *lines* (``READY=1``, ``STATUS=…``) to systemd, if it waits for them. Nothing depends on it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.settimeout(0)  # a systemd that does not read must not hold up a run
        sending.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        sending.send("\n".join(lines).encode())


def watchdog_s(environ: Mapping[str, str] | None = None) -> float | None:
    """Return after how many seconds of silence systemd takes us for hung; None: it does not look."""
    environ = os.environ if environ is None else environ
    wait = environ.get("WATCHDOG_USEC", "")
    whose = environ.get("WATCHDOG_PID", "")
    usec = int(wait) if wait.isascii() and wait.isdigit() and len(wait) <= _DIGITS else 0
    if not usec or whose not in {"", str(os.getpid())}:
        return None
    return usec / 1e6


async def watched(work: Coroutine[None, None, int]) -> int:
    """Do *work*, and tell systemd's watchdog twice in its time that our loop turns."""
    wait = watchdog_s()
    if wait is None:
        return await work
    pings = asyncio.create_task(_ping(wait / 2), name="watchdog")
    try:
        return await work
    finally:
        pings.cancel()


async def _ping(every_s: float) -> None:
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(max(every_s, _SHORTEST_S))


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
