"""Keeps this machine from being shut down or suspended while servers are in flight, where systemd can.

`systemd-inhibit` holds the lock for as long as its child lives, and its child lives until our end of a pipe
is closed: by us, or by the kernel when we die, however we die. Nothing depends on it: a run whose machine
goes down is resumed from its journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from fleet.commands import KEPT_LINE, usual
from fleet.core.events import Event
from fleet.core.state import Run
from fleet.journal import Listener
from fleet.logs import get_logger
from fleet.secrets import redact

LINGER_S = 10.0
"""Where few servers are in flight at a time there is often nobody for a moment."""

_END_S = 2.0
_READ = 65536
"""Bytes that are read of a reason. Who says more than that waits for a reader."""

_SYSTEMD = Path("/run/systemd/system")
"""There where systemd runs the machine: sd_booted(3)."""


class Inhibitor:
    """Holds a lock of systemd's while servers of *run* are in flight.

    Args:
        run: The run.
        program: Path of systemd-inhibit.
        wanted: Somebody has asked for it, so a refusal is a warning.
    """

    def __init__(self, run: Run, program: str, *, wanted: bool) -> None:
        self._run = run
        self._log = get_logger().bind(run=run.id)
        self._program = program
        self._wanted = wanted
        self._holding: asyncio.Task[None] | None = None
        self._letting_go: asyncio.TimerHandle | None = None
        self._refused = False

    def hear(self, event: Event, at: datetime) -> None:
        """Listen to the run's facts."""
        del event, at
        self.look()

    def look(self) -> None:
        """Take the lock when servers are in flight; let go of it when nobody has been for a while."""
        if self._run.in_flight:
            if self._letting_go is not None:
                self._letting_go.cancel()
                self._letting_go = None
            if self._holding is None and not self._refused:
                self._holding = asyncio.create_task(self._hold(), name="inhibitor")
        elif self._holding is not None and self._letting_go is None:
            self._letting_go = asyncio.get_running_loop().call_later(LINGER_S, self._let_go)

    def _let_go(self) -> None:
        self._letting_go = None
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None

    def _lock(self, what: str) -> list[str]:
        """Return the command that holds one lock. For two at once logind wants the right to lid switches."""
        why = f"servers of run {self._run.id} are being reinstalled: `fleet drain` ends it gently"
        return [self._program, f"--what={what}", "--mode=block", "--who=fleet", f"--why={why}"]

    async def _hold(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._lock("shutdown"),
                *self._lock("sleep"),
                "cat",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                # Without a terminal: it must ask nobody for a password.
                start_new_session=True,
                env=usual(os.environ, ("DBUS_SYSTEM_BUS_ADDRESS",)),
            )
        except OSError as error:
            self._say_refused(error.strerror or str(error))
            return
        assert process.stdin is not None and process.stderr is not None  # noqa: S101, PT018 - asked for
        try:
            said = await _said(process.stderr)
            await process.wait()
            self._say_refused(said or f"systemd-inhibit ended with {process.returncode}")
        finally:
            process.stdin.close()
            await _end(process)

    def _say_refused(self, why: str) -> None:
        self._refused = True
        say = self._log.warning if self._wanted else self._log.info
        say("ShutdownNotInhibited", why=why)

    async def close(self) -> None:
        """Let go, and wait until it is so."""
        if self._letting_go is not None:
            self._letting_go.cancel()
        if self._holding is not None:
            self._holding.cancel()
            await asyncio.gather(self._holding, return_exceptions=True)


async def _said(stream: asyncio.StreamReader) -> str:
    """Return what was said, once all is; of somebody who does not stop, the beginning."""
    said = b""
    while len(said) < _READ and (chunk := await stream.read(_READ)):
        said += chunk
    text = " ".join(said.decode(errors="replace").split())
    return redact(text)[-KEPT_LINE:]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Wait for a process's end, and kill it with all its children if it does not come.

    `wait` wants the end of the pipes as well, which a daemon that was started keeps open for ever; so no
    wait of it is without an end.
    """
    for _ in range(2):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_S)
            return
        ended = process.returncode is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if ended:
            return


def program_for(run: Run, style: str) -> str | None:
    """Return the program that inhibits, or None when nothing is to be inhibited.

    Args:
        run: The run.
        style: ``auto``: where systemd runs this machine, and servers are real; ``yes``: in any case; ``no``.
    """
    program = shutil.which("systemd-inhibit")
    if style == "auto":
        return program if _SYSTEMD.is_dir() and run.settings.cloud.provider != "simulator" else None
    return (program or "systemd-inhibit") if style == "yes" else None


@asynccontextmanager
async def inhibiting(run: Run, style: str) -> AsyncIterator[Listener]:
    """Inhibit shutdowns as long as the block runs and servers are in flight; yield who hears of events."""
    program = program_for(run, style)
    if program is None:
        yield lambda _event, _at: None
        return
    inhibitor = Inhibitor(run, program, wanted=style == "yes")
    inhibitor.look()
    try:
        yield inhibitor.hear
    finally:
        await inhibitor.close()
