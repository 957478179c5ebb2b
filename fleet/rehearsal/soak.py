"""``python -m fleet.rehearsal.soak``: tell very many stories, count, and print those that break a promise.

    python -m fleet.rehearsal.soak --stories 50000 --seed 1 --jobs 2
    python -m fleet.rehearsal.soak --tell 4711           # one story again, with its journal

Story *n* of seed *s* is made up from the number *s* x 10,000,000 + *n* alone, so a failure needs nothing but
its number to be told again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from fleet import secrets
from fleet.rehearsal.stories import Told, tell
from fleet.rehearsal.tales import tale

SPACING = 10_000_000
CHUNK = 100


@dataclass(slots=True)
class Tally:
    """What many stories came to.

    Attributes:
        failures: Number of a story, and what it broke.
    """

    stories: int = 0
    unopened: int = 0
    lives: int = 0
    crashes: Counter[str] = field(default_factory=Counter)
    incidents: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    wipes: int = 0
    virtual_s: float = 0.0
    failures: list[tuple[int, list[str]]] = field(default_factory=list)

    def count(self, number: int, told: Told) -> None:
        """Add one story."""
        self.stories += 1
        self.unopened += not told.journal
        self.lives += len(told.endings)
        self.virtual_s += told.took_s
        for ending in told.endings:
            if ending.crash is not None:
                self.crashes[ending.crash] += 1
            self.incidents.update(
                incident.kind for incident in ending.befell if incident.kind not in {"killed", "power-cut"}
            )
        self.faults.update(told.face.book.struck_by_kind())
        self.checked.update(told.report.checked)
        self.phases.update(told.phases().values())
        self.wipes += sum(told.world.wipes().values())
        if told.violations:
            self.failures.append((number, told.violations))

    def add(self, other: Tally) -> None:
        """Add what another process has told."""
        for name in ("stories", "unopened", "lives", "wipes", "virtual_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("crashes", "incidents", "faults", "checked", "phases"):
            getattr(self, name).update(getattr(other, name))
        self.failures += other.failures

    def lines(self, seconds: float) -> Iterator[str]:
        """Return the figures for people."""
        rate = self.stories / seconds * 60 if seconds else 0.0
        yield f"{self.stories:,} stories in {seconds:,.0f} s: {rate:,.0f} a minute"
        yield f"{self.lives:,} lives, {self.virtual_s / 86400:,.0f} days of virtual time, nights left out"
        yield f"{sum(self.crashes.values()):,} crashes: {_words(self.crashes)}"
        yield f"{sum(self.incidents.values()):,} other incidents: {_words(self.incidents)}"
        yield f"{sum(self.faults.values()):,} faults: {_words(self.faults)}"
        yield f"{self.wipes:,} disks wiped; servers ended {_words(self.phases)}"
        yield f"{self.unopened:,} stories never opened a run (refused before, or never able to begin)"
        yield f"{sum(self.checked.values()):,} invariants checked: {_words(self.checked)}"
        yield f"{len(self.failures):,} stories with a broken promise"


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common()) or "none"


def soak(numbers: Iterable[int]) -> Tally:
    """Tell the stories of *numbers*."""
    tally = Tally()
    for number in numbers:
        with secrets.set_aside():
            tally.count(number, tell(tale(number)))
    return tally


def _chunks(stories: int, seed: int) -> list[range]:
    first = seed * SPACING
    return [range(first + at, first + min(at + CHUNK, stories)) for at in range(0, stories, CHUNK)]


def main(arguments: list[str] | None = None) -> int:
    """Run the soak from the command line; 0 when no promise was broken, else 3."""
    parser = argparse.ArgumentParser(prog="python -m fleet.rehearsal.soak", description=__doc__)
    parser.add_argument("--stories", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="end after so long, with the figures"
    )
    parser.add_argument("--tell", type=int, metavar="NUMBER", help="tell one story, and print its journal")
    options = parser.parse_args(arguments)
    if options.tell is not None:
        return _tell(options.tell)
    total = Tally()
    begun = time.monotonic()
    chunks = _chunks(options.stories, options.seed)
    ends = begun + 60 * options.minutes
    if options.jobs == 1:
        _collect(total, map(soak, chunks), ends)
    else:
        with ProcessPoolExecutor(options.jobs) as pool:
            _collect(total, pool.map(soak, chunks), ends)
            pool.shutdown(cancel_futures=True)
    _print(total.lines(time.monotonic() - begun))
    return 3 if total.failures else 0


def _collect(total: Tally, results: Iterable[Tally], ends: float) -> None:
    for part in results:
        for number, violations in part.failures:
            _print([f"story {number}: {len(violations)} broken: {violations[0]}"])
            _print([f"  again: python -m fleet.rehearsal.soak --tell {number}"])
        total.add(part)
        if time.monotonic() > ends:
            return


def _tell(number: int) -> int:
    told = tell(tale(number))
    _print(line.decode("utf-8", "replace") for line in told.journal.splitlines())
    for life, ending in enumerate(told.endings, start=1):
        how = ending.crash or ending.error or ending.defect or ending.code
        befell = "; ".join(str(incident) for incident in ending.befell)
        _print([f"life {life}: {ending.took_s:.0f} s, {ending.effects} effects, {how!r}; {befell}"])
    _print(f"fault: {order}" for order in told.story.faults)
    _print(told.violations or ["no promise was broken"])
    return 3 if told.violations else 0


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
