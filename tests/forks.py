"""Children that need no start-up: one process has imported `fleet`, and forks itself for each command.

Most of the processor time of a process test was the interpreter's: half a second a command, thousands of
commands. A fork is a process like another, with its own signals, descriptors, environment and death; it runs
`python -m fleet` from its first line on. What it cannot show is what an import costs, or what stands in its
command line, so tests of these start anew, as `FLEET_TEST_STARTS=anew make test` does for all of them.

This file is both sides: `fork()` is called by a test, and `python forks.py DESCRIPTOR` is the parent of all.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ANEW = os.environ.get("FLEET_TEST_STARTS") == "anew" or not hasattr(os, "pidfd_open")
"""Start every child with an interpreter of its own; also where the system has no handles of processes."""

LAZY = (
    "aiohttp.web", "importlib.metadata", "jinja2.sandbox", "recurring_ical_events", "rich.live", "rich.table",
    "rich.traceback", "structlog.dev", "yaml",
)  # fmt: skip
"""What `fleet` imports inside functions, and not by one of its own modules."""

_MESSAGE = 1 << 17  # bytes: arguments and environment of a child
_OF_THE_START = ("PYTHON", "LANG", "LC_")
"""Variables that an interpreter reads as it starts: who sets one needs a start."""


def can_fork(env: dict[str, str]) -> bool:
    """Tell whether a child with these variables of its own may be a fork."""
    return not ANEW and not any(name.startswith(_OF_THE_START) for name in env)


# -- the tests' side --------------------------------------------------------------------------------------


class Forked:
    """A fork that runs a command: as much of `subprocess.Popen` as the tests need."""

    def __init__(self, pid: int, report: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._handle = os.pidfd_open(pid)  # its number may be another's as soon as it has been buried
        self._report = report

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"fleet, pid {self.pid}", timeout or 0)
        return code

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._report, selectors.EVENT_READ)
                if not selector.select(timeout):
                    return None
            self.returncode = int(os.read(self._report, 64))
            os.close(self._report)
            os.close(self._handle)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_parents: list[_Parent] = []
"""The one of this process, as soon as it was needed."""


class _Parent:
    """The process that forks, seen from the tests."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as it lives
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            )  # fmt: skip
        atexit.register(self.close)

    def close(self) -> None:
        self.socket.close()
        self.process.wait()
        self.log.close()

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


def fork(arguments: list[str], env: dict[str, str], *, stdout: Any, stderr: Any, session: bool) -> Forked:
    """Run `fleet` with these arguments; *session*: in a session of its own."""
    if not _parents:
        _parents.append(_Parent())
    parent = _parents[0]
    os.umask(umask := os.umask(0o77))
    order = {
        "arguments": arguments, "env": env, "folder": str(Path.cwd()), "umask": umask, "session": session,
    }  # fmt: skip
    report, theirs = os.pipe()
    try:
        numbers = [each if isinstance(each, int) else each.fileno() for each in (stdout, stderr)]
        rights = array.array("i", [*numbers, theirs])
        parent.socket.sendmsg([json.dumps(order).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    finally:
        os.close(theirs)
    told = os.read(report, 64)
    assert told, f"the parent of all forks has ended: {parent.said()}"
    return Forked(int(told), report)


# -- the parent's side ------------------------------------------------------------------------------------


def _import_everything() -> None:
    import fleet  # noqa: PLC0415 - not by the tests

    for module in pkgutil.walk_packages(fleet.__path__, "fleet."):
        if module.name != "fleet.__main__":
            importlib.import_module(module.name)
    for name in LAZY:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # nothing of it is ever garbage, and memory that is not looked at is not copied


def _serve(orders: socket.socket) -> list[str]:
    """Fork whenever it is asked for; return in the child alone, with its arguments."""
    selector = selectors.DefaultSelector()
    selector.register(orders, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not orders:
                pid, report = key.data
                selector.unregister(key.fileobj)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):  # the test did not care
                    os.write(report, b"%d" % code)
                os.close(report)
                continue
            data, descriptors, _flags, _ = socket.recv_fds(orders, _MESSAGE, 3)
            if not data:
                sys.exit()
            order = json.loads(data)
            if not (pid := os.fork()):
                selector.close()
                orders.detach()
                return _become(order, descriptors)
            os.close(descriptors[0])
            os.close(descriptors[1])
            os.write(descriptors[2], b"%d" % pid)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, descriptors[2]))


def _become(order: dict[str, Any], descriptors: list[int]) -> list[str]:
    """Make what a start of the interpreter would have made: signals, descriptors, environment, streams."""
    if order["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(descriptors[0], 1)
    os.dup2(descriptors[1], 2)
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    os.umask(order["umask"])
    os.chdir(order["folder"])
    sys.path[0] = order["folder"]  # as `python -m` has it
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name, before in ((1, "stdout", sys.stdout), (2, "stderr", sys.stderr)):
        stream = io.TextIOWrapper(
            open(number, "wb", 0 if unbuffered else -1, closefd=False),  # noqa: SIM115
            before.encoding, before.errors, newline="\n", write_through=unbuffered,
            line_buffering=number == 2 or os.isatty(number),
        )  # fmt: skip
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    return list(order["arguments"])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests end it, by hanging up
    sys.path[0] = str(Path.cwd())
    _import_everything()
    sys.argv[1:] = _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("fleet", run_name="__main__", alter_sys=True)  # the child's whole life
