"""``status --watch``: a run followed from elsewhere, by its journal alone, whoever works on it or nobody."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fleet import history
from fleet.cli.common import name_of, now, print_lines
from fleet.errors import Exit, JournalError, RunNotFoundError
from fleet.report import meter
from fleet.report.ahead import Horizon
from fleet.report.follow import Follower
from fleet.report.glance import Eye, Glance
from fleet.report.pulse import Pulse, watching
from fleet.report.screen import PERIOD_S, Screen
from fleet.report.status import as_text
from fleet.runs import find, is_locked, is_stillborn, journals, state_folder

_LOCK_S = 2.0
"""How often it is asked who works on the run."""

_SHARE = 20
"""Looking may take a twentieth of the time: where it takes longer it is done less often."""


@dataclass(slots=True)
class _Watched:
    """A run that is followed."""

    journal: Path
    follower: Follower = field(init=False)
    eye: Eye = field(init=False)
    worked_on: str | None = field(init=False, default=None)
    _asked: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._open()

    def _open(self) -> None:
        pulses: list[Pulse] = []
        self.follower = Follower(self.journal, watch=watching(pulses))
        run = self.follower.run
        horizon = Horizon(pulses[0], history.read(state_folder(), run.settings.plan))
        self.eye = Eye(pulses[0], horizon, name_of(self.journal, run.id))

    def read(self) -> int:
        """Read on; return how many events are new."""
        try:
            new = self.follower.read()
        except JournalError:
            self._open()  # it was restored from a copy: whatever is there now is read as a whole, or refused
            new = self.follower.tail.seq
        if time.monotonic() - self._asked >= _LOCK_S:
            # Asked after reading: what a process wrote last before it ended is read before it is called gone.
            self._asked, before = time.monotonic(), self.worked_on
            self.worked_on = is_locked(self.journal)
            if before is not None and self.worked_on is None:
                new += self.follower.read() + 1
        return new

    @property
    def is_over(self) -> bool:
        """Nothing will happen any more, unless a person wants it."""
        run = self.follower.run
        return self.worked_on is None and run.is_settled and not run.owes

    def look(self) -> Glance:
        """Take a glance."""
        at = now()
        rate = meter.read(self.journal, at) if self.worked_on else None
        return self.eye.look(at, worked_on=self.worked_on, rate=rate)


def watch(run: str | None, *, every_s: float) -> int:
    """Follow a run until it is over, or until Ctrl-C; return the exit code.

    Args:
        run: As for `fleet.runs.find`; it need not be there yet.
        every_s: Without a terminal, seconds between two texts, if anything has happened.
    """
    try:
        if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            return _on_screen(run)
        return _as_text(run, every_s)
    except KeyboardInterrupt:  # how one stops watching
        return Exit.OK


def _on_screen(run: str | None) -> int:
    with Screen(sys.stdout, mine=False) as screen:
        while (journal := _there(run)) is None:
            screen.say(f"{_missing(run)}; waiting for it, Ctrl-C ends")
            time.sleep(PERIOD_S)
        watched = _Watched(journal)
        while screen.failed is None:
            began = time.monotonic()
            watched.read()
            screen.show(watched.look())
            if watched.is_over:
                return Exit.OK
            time.sleep(max(PERIOD_S, _SHARE * (time.monotonic() - began)))
        raise screen.failed


def _as_text(run: str | None, every_s: float) -> int:
    while (journal := _there(run)) is None:
        time.sleep(PERIOD_S)
    watched = _Watched(journal)
    told, last = float("-inf"), True
    while True:
        last |= watched.read() > 0
        over = watched.is_over
        if last and (over or time.monotonic() - told >= every_s):
            at, found = now(), watched.follower.run
            seen = history.read(state_folder(), found.settings.plan)
            lines = as_text(found, worked_on=watched.worked_on, now=at, name=watched.eye.name, seen=seen)
            print_lines([f"--- {at:%Y-%m-%dT%H:%M:%SZ}", *lines])
            sys.stdout.flush()
            told, last = time.monotonic(), False
        if over:
            return Exit.OK
        time.sleep(min(PERIOD_S, every_s))


def _there(run: str | None) -> Path | None:
    """Return the journal that *run* means, as soon as it has a first line."""
    try:
        journal = find(run, state_folder())
    except RunNotFoundError:
        if run is not None and sum(filed.run.startswith(run) for filed in journals(state_folder())) > 1:
            raise
        return None
    return None if is_stillborn(journal) else journal


def _missing(run: str | None) -> str:
    return f"there is no run in {state_folder()} yet" if run is None else f"there is no run {run} yet"
