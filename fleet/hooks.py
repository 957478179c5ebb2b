"""Hooks: the plan's commands around servers, waves and runs, with the facts of the moment.

``docs/hooks.md`` says what each one's failure means. Facts are in ``FLEET_*`` variables, and as one JSON
object on standard input; output is kept in the run's folder. Of our own environment they get a short list of
usual variables and what the plan names, so no password of a cloud.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from fleet.commands import Ran, execute, usual
from fleet.core.facts import fill
from fleet.core.model import Server
from fleet.core.settings import Hooks as Plan
from fleet.core.state import Run, ServerState

NOTHING_DONE = 75
"""What a `do` ends with that has changed nothing, since somebody else had done it before (EX_TEMPFAIL). Then
it is not undone: it is not ours."""

_ORPHAN_S = 5.0
"""For a hook of a dead life to be gone after it was killed."""

Facts = Mapping[str, object]


class Hooks(Protocol):
    """Runs hooks. A seam: a rehearsal runs none."""

    async def run(
        self, hook: str, argv: Sequence[str], known: Facts, timeout_s: float, env: Sequence[str] = ()
    ) -> Ran:
        """Run one hook.

        Args:
            hook: Which: ``do-1``, ``undo-1``, ``on_failure``, ``before_wave`` …
            argv: The command.
            known: Facts: lower-case names to values; those that are text become variables as well.
            timeout_s: Its time limit.
            env: Names of variables that are passed on to it besides the usual ones.
        """
        ...


class NoHooks:
    """Runs nothing, and all of it goes well."""

    async def run(
        self, hook: str, argv: Sequence[str], known: Facts, timeout_s: float, env: Sequence[str] = ()
    ) -> Ran:
        """Do nothing."""
        del hook, argv, known, timeout_s, env
        return Ran(code=0)


class CommandHooks:
    """Runs hooks for real.

    Args:
        folder: The plan's folder, which they run in.
        journal: The run's journal; their output goes beside it.
    """

    def __init__(self, folder: str, journal: Path) -> None:
        self._folder = folder
        self._output = journal.parent / "hooks"
        self._turns: dict[str, asyncio.Lock] = {}

    async def run(
        self, hook: str, argv: Sequence[str], known: Facts, timeout_s: float, env: Sequence[str] = ()
    ) -> Ran:
        """Run one hook."""
        known = {"hook": hook, **known}
        about = str(known.get("server_id") or known.get("target") or "run")
        safe = "".join(char if char.isalnum() or char in "-_." else "_" for char in about)
        variables = {
            f"FLEET_{name.upper()}": value for name, value in known.items() if isinstance(value, str)
        }
        async with self._turns.setdefault(safe, asyncio.Lock()), self._alone(safe) as lock:
            if lock is None:
                return Ran(
                    why=f"hook {hook}: one of an earlier life still runs, and cannot be killed", begun=False
                )
            return await execute(
                argv,
                folder=self._folder,
                environment=usual(os.environ, env) | variables,
                stdin=msgspec.json.encode(known),
                timeout_s=timeout_s,
                output=self._output / f"{safe}-{hook}.log",
                keep_open=(lock,) if lock >= 0 else (),
            )

    @contextlib.asynccontextmanager
    async def _alone(self, about: str) -> AsyncIterator[int | None]:
        """Have no other hook about the same thing; yield the lock that it inherits, -1 without one.

        A process that is killed leaves its hook running. It would go on draining a server that the next
        life is about to give back. The lock is inherited, so it says whether there is such a hook, and who.
        """
        path = self._output / f"{about}.lock"
        try:
            self._output.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # a full disk, say: hooks that give servers back are to run all the same
            yield -1
            return
        try:
            yield lock if await _take(lock, path) else None
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_UN)  # also for those who have inherited it and live on
            os.close(lock)


async def _take(lock: int, path: Path) -> bool:
    """Lock a file; kill who has inherited the lock from a dead life. Tell whether it is ours."""
    for attempt in range(int(_ORPHAN_S / 0.1)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt % 10 == 0:
                await asyncio.to_thread(_kill_holders, path)
            await asyncio.sleep(0.1)
        else:
            return True
    return False


def _kill_holders(path: Path) -> None:
    """Kill the process groups of those who have a file open, ourselves left out."""
    wanted = path.stat()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        pid = int(folder.parent.name)
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):  # gone, or somebody else's
            if any(_is(entry, wanted) for entry in folder.iterdir()) and os.getpgid(pid) != os.getpgid(0):
                os.killpg(os.getpgid(pid), signal.SIGKILL)


def _is(entry: Path, wanted: os.stat_result) -> bool:
    try:
        found = entry.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)


def facts_of_run(run: Run) -> dict[str, object]:
    """Return what every hook is told."""
    return {"run": run.id, "plan": run.settings.plan, "cloud": run.opened.cloud}


def facts_of_server(run: Run, server: ServerState) -> dict[str, object]:
    """Return what a hook about a server is told: as the run was opened, so `undo` sees what `do` saw."""
    member = server.member
    return {
        **facts_of_run(run),
        "target": member.target,
        "wave": str(member.wave),
        "server_id": member.id,
        "server_name": member.name,
        "server_private_ip": member.addresses[0] if member.addresses else "",
        "server_zone": member.zone,
        "server_flavor": member.flavor,
        "server_image": member.image,
        "server_tags": member.tags,
        "phase": str(server.phase),
        "reason": server.reason,
    }


def filled(argv: Sequence[str], server: ServerState) -> list[str]:
    """Return a command with ``{server.…}`` filled in, as the server was when the run was opened.

    Raises:
        ValueError: The server has nothing to put there.
    """
    member = server.member
    seen = Server(
        id=member.id,
        name=member.name,
        status=member.status,
        zone=member.zone,
        flavor=member.flavor,
        image=member.image,
        addresses=member.addresses,
    )
    return [fill(word, seen) for word in argv]


_OF_A_WAVE = ("before_wave", "after_wave")


def commands_of(run: Run, hook: str, target: str = "") -> list[tuple[Plan, tuple[str, ...]]]:
    """Return the commands of a hook about a run or a wave; of a run: the targets' different ones."""
    found: dict[tuple[str, ...], Plan] = {}
    for plan in run.settings.targets:
        argv = getattr(plan.hooks, hook)
        if argv is not None and (hook not in _OF_A_WAVE or plan.name == target):
            found.setdefault(argv, plan.hooks)
    return [(plan, argv) for argv, plan in found.items()]


async def run_hook(hooks: Hooks, run: Run, hook: str, known: Facts) -> str | None:
    """Run a hook about the run (``before_run``, ``after_run``, ``on_hold``) or a wave (``…_wave``).

    Args:
        hooks: Runs it.
        run: Which run.
        hook: Which.
        known: More facts; ``target`` for hooks about waves.

    Returns:
        None when there is none, or it went well; else why not.
    """
    wrong = []
    for plan, argv in commands_of(run, hook, str(known.get("target", ""))):
        ran = await hooks.run(hook, argv, {**facts_of_run(run), **known}, plan.timeout_s, plan.env)
        if ran.why is not None:
            wrong.append(f"{hook}: {ran.why}")
    return "; ".join(wrong) or None
