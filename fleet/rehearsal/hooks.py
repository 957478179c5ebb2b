"""Hooks on virtual time: nothing is run; what would have been done is in a book that outlives a crash.

The book is the judge: what the journal says is owed and what was done must agree, whenever a life ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from fleet.commands import Ran
from fleet.hooks import NOTHING_DONE, Facts
from fleet.rehearsal.disk import Disk
from fleet.rehearsal.incidents import Fate

TAKES_S = 5.0

Outcome = Literal["good", "nothing-done", "fails", "half-done", "hangs", "missing"]
"""What comes of one: ``fails`` has done nothing and does not say so, ``half-done`` has done it and ends with
1, ``hangs`` has done it and does not end, ``missing`` cannot be started."""

Outcomes = Mapping[str, tuple[Outcome, ...]]
"""By ``web-1/do-1``: what comes of its calls, one after another; afterwards, and of all others: good."""


@dataclass(slots=True)
class Book:
    """What the hooks of a story have done, and what was asked of them.

    Attributes:
        done: Servers' ids to what was done to them and is not undone, in order: numbers of pairs.
        calls: Every hook that was run, as ``web-1/do-1``, in order.
        wrong: Promises broken, in words.
    """

    done: dict[str, list[str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class RehearsedHooks:
    """Pretends to run hooks.

    Args:
        book: Where it is kept.
        outcomes: What comes of whom.
        fate: Counts the instants before and after each.
        disk: Under the journal: what gates a hook must be certain there.
        status: The cloud's word about a server, by id; None when it does not exist.
    """

    def __init__(
        self, book: Book, outcomes: Outcomes, fate: Fate, disk: Disk, status: Callable[[str], str | None]
    ) -> None:
        self._book = book
        self._outcomes = outcomes
        self._fate = fate
        self._disk = disk
        self._status = status

    async def run(
        self, hook: str, argv: Sequence[str], known: Facts, timeout_s: float, env: Sequence[str] = ()
    ) -> Ran:
        """Pretend to run one."""
        del argv, env
        about = str(known.get("server_name") or known.get("target") or "run")
        name = f"{about}/{hook}"
        before = sum(call == name for call in self._book.calls)
        outcomes = self._outcomes.get(name, ())
        outcome = outcomes[before] if before < len(outcomes) else "good"
        kind, _, number = hook.partition("-")
        server = str(known.get("server_id", ""))
        self._fate.effect("hook")
        if kind in {"do", "undo"}:
            self._judge(kind, number, server, name)
        self._book.calls.append(name)
        if outcome == "missing":
            return Ran(why=f"command {hook}: cannot be started: No such file or directory", begun=False)
        await asyncio.sleep(timeout_s if outcome == "hangs" else min(TAKES_S, timeout_s))
        if outcome in {"good", "half-done", "hangs"}:
            self._do(kind, number, server)
        self._fate.effect("hooked")
        match outcome:
            case "good":
                return Ran(code=0)
            case "hangs":
                return Ran(why=f"command {hook}: not done within {timeout_s:g} s")
            case "nothing-done":
                return Ran(why=f"command {hook}: ended with {NOTHING_DONE}", code=NOTHING_DONE)
            case _:
                return Ran(why=f"command {hook}: ended with 1: no luck", code=1)

    def _do(self, kind: str, number: str, server: str) -> None:
        done = self._book.done.setdefault(server, [])
        if kind == "do":
            done.append(number)
        elif kind == "undo":
            done[:] = [each for each in done if each != number]

    def _judge(self, kind: str, number: str, server: str, name: str) -> None:
        """Hold what is about to be done against what is certain on the disk."""
        owed: set[str] = set()
        wiped = False
        for line in self._disk.data[: self._disk.synced].splitlines():
            if b'"server":"%s"' % server.encode() not in line:
                continue
            event = msgspec.json.decode(line)
            match event["event"]:
                case "DebtOwed":
                    owed.add(event["debt"])
                case "DebtPaid":
                    owed.discard(event["debt"])
                case "ReinstallAccepted":
                    wiped = True
        if number not in owed:
            self._book.wrong.append(f"P19 {name} runs, and the journal does not say that it is owed")
        if kind == "do" and number in self._book.done.get(server, ()):
            self._book.wrong.append(f"P19 {name} runs a second time without having been undone")
        if kind == "undo" and wiped and not self._is_checked(server):
            self._book.wrong.append(f"P19 {name} runs on a server that was wiped and not verified")
        if kind == "undo" and self._status(server) == "SHUTOFF" and not self._was_off(server):
            self._book.wrong.append(f"P19 {name} runs on a server that is off")

    def _is_checked(self, server: str) -> bool:
        """Tell whether the latest installation is verified; a look finds that again, so it may be lost."""
        mine = b'"server":"%s"' % server.encode()
        lines = [line for line in self._disk.data.splitlines() if mine in line]
        passed = [number for number, line in enumerate(lines) if b'"event":"ChecksPassed"' in line]
        wiped = [number for number, line in enumerate(lines) if b'"event":"ReinstallAccepted"' in line]
        return bool(passed) and passed[-1] > wiped[-1]

    def _was_off(self, server: str) -> bool:
        """Tell whether the journal found the server off: then it is given back off."""
        lines = [line for line in self._disk.data.splitlines() if b'"server":"%s"' % server.encode() in line]
        # Who was put back waits as anybody does, and is found anew: somebody may have stopped it meanwhile.
        back = [number for number, line in enumerate(lines) if b'"event":"PutBack"' in line]
        for line in lines[back[-1] if back else 0 :]:
            if b'"event":"Stopped"' in line:
                return b'"was_off":true' in line
        # It was never looked at so far: what was off then is off now.
        return b'"event":"StopRequested","server":"%s"' % server.encode() not in self._disk.data
