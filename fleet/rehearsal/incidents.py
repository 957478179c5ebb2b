"""What befalls a life of a run from outside, and when: counted in effects.

An *effect* is an instant at which a crash can make a difference: right before and right after a write, in
the middle of it, after a sync, before a call is sent and after it was processed, when the answer is not
known yet. A life's effects are numbered from 1; an incident is tied to a number, so a story can be told
again with a crash one effect later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "killed", "power-cut", "pause", "suspend", "wall-jump", "drain", "stop-now", "write-fails", "sync-fails",
    "disk-full",
]  # fmt: skip

CRASHES = frozenset({"killed", "power-cut"})
DISK_FAULTS = frozenset({"write-fails", "sync-fails", "disk-full"})

Effect = Literal["write", "torn", "written", "synced", "send", "sent", "read", "seen", "hook", "hooked"]

EFFECTS_OF_READS = frozenset({"read", "seen"})


class Crash(SystemExit):
    """The process, or the machine, dies here.

    A `SystemExit`, since that is the one way to leave an event loop at once: no other task takes another
    step, no ``except Exception`` sees it.
    """


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that befalls a life at one of its effects.

    Attributes:
        at: Number of the effect. A disk's fault befalls the first fitting effect from there on.
        kind: ``killed`` loses nothing that was written; ``power-cut`` may lose what was not synced;
            ``pause`` is a stopped process, ``suspend`` a machine that slept (the loop's clock slept as
            well); ``wall-jump`` moves the wall clock by *seconds*; ``drain`` and ``stop-now`` are the
            operator's first and second Ctrl-C.
    """

    at: int
    kind: Kind
    seconds: float = 0.0

    def __str__(self) -> str:
        seconds = f" {self.seconds:g} s" if self.seconds else ""
        return f"{self.kind}{seconds} at effect {self.at}"


class Fate:
    """Counts the effects of one life, and lets happen what is tied to them.

    Attributes:
        count: Effects so far.
        by_kind: The same by kind, when *detailed*.
        befell: Incidents that came to pass.
    """

    def __init__(
        self,
        incidents: Iterable[Incident] = (),
        *,
        befall: Callable[[Incident], None],
        only: frozenset[str] | None = None,
        detailed: bool = False,
    ) -> None:
        incidents = tuple(incidents)
        self.count = 0
        self.by_kind: Counter[str] = Counter()
        self.befell: list[Incident] = []
        self._befall = befall
        self._only = only
        self._detailed = detailed
        self._plain = {each.at: each for each in incidents if each.kind not in DISK_FAULTS}
        self._disk = sorted(
            (each for each in incidents if each.kind in DISK_FAULTS), key=lambda each: each.at
        )

    def effect(self, effect: Effect) -> None:
        """Count an effect; whatever is tied to it happens now.

        Raises:
            Crash: This is the end.
        """
        incident = self._next(effect)
        if incident is not None:
            self._pass(incident)

    def tears(self) -> Incident | None:
        """Count the middle of a write; return the crash that happens there, for the disk to keep a part."""
        incident = self._next("torn")
        if incident is None or incident.kind in CRASHES:
            return incident
        self._pass(incident)
        return None

    def _next(self, effect: Effect) -> Incident | None:
        if self._only is not None and effect not in self._only:
            return None
        self.count += 1
        if self._detailed:
            self.by_kind[effect] += 1
        return self._plain.get(self.count)

    def _pass(self, incident: Incident) -> None:
        self.befell.append(incident)
        if incident.kind in CRASHES:
            raise Crash(incident.kind)
        self._befall(incident)

    def tear(self, incident: Incident) -> None:
        """Crash in the middle of a write, of which the disk has kept its part."""
        self._pass(incident)

    def disk_fault(self, *kinds: Kind) -> Incident | None:
        """Return the disk's fault that is due for one of *kinds*, once; a full disk stays full."""
        for number, incident in enumerate(self._disk):
            if incident.at > self.count:
                return None
            if incident.kind in kinds:
                self.befell.append(incident)
                if incident.kind != "disk-full":
                    del self._disk[number]
                return incident
        return None
