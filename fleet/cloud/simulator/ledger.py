"""The cloud's own record: what it was asked to change, what it took, and what really happened to disks.

A referee judges a run by this and by nothing else. It is written while the request is processed, so an
answer that is lost afterwards changes nothing in it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec


class CallEntry(msgspec.Struct, frozen=True, kw_only=True, tag_field="entry", tag="call"):
    """One call that would change something.

    Attributes:
        at: Seconds of the cloud's time.
        time: The same, ISO 8601.
        kind: ``reinstall`` (change of OS included), ``stop``, ``start``, ``reboot``, ``lock``, ``unlock``.
        accepted: Taken: it happens, whatever the client was told.
        status: What was, or would have been, answered; 0 when the request never arrived.
        fault: Kind of the ordered fault that touched it, or empty.
        late: It landed after the client had been cut off.
    """

    at: float
    time: str
    kind: str
    method: str
    path: str
    servers: tuple[str, ...]
    accepted: bool
    status: int
    code: str = ""
    request_id: str = ""
    job: str = ""
    user: str = ""
    fault: str = ""
    late: bool = False


class EffectEntry(msgspec.Struct, frozen=True, kw_only=True, tag_field="entry", tag="effect"):
    """One thing that really happened to a server.

    Attributes:
        effect: ``disk-replaced``, ``disk-lost`` (both destroy what was on the system disk), ``stopped``,
            ``started``, ``removed``, ``locked``.
        old, new: System disks, where it is about one.
    """

    at: float
    time: str
    effect: str
    server: str
    old: str = ""
    new: str = ""
    job: str = ""


Entry = CallEntry | EffectEntry


class Ledger:
    """Everything on record, in order.

    Attributes:
        requests: How many requests of every kind arrived, reads included.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.requests: Counter[str] = Counter()

    def add(self, entry: Entry) -> None:
        """Put *entry* on record."""
        self.entries.append(entry)

    def calls(self, kind: str | None = None, *, accepted: bool | None = None) -> list[CallEntry]:
        """Return the calls on record, of one kind and one fate if wanted."""
        return [
            entry
            for entry in self.entries
            if isinstance(entry, CallEntry)
            and (kind is None or entry.kind == kind)
            and (accepted is None or entry.accepted is accepted)
        ]

    def effects(self, *effects: str) -> list[EffectEntry]:
        """Return the effects on record, of the given names if any is given."""
        return [
            entry
            for entry in self.entries
            if isinstance(entry, EffectEntry) and (not effects or entry.effect in effects)
        ]

    def reinstalls(self) -> dict[str, int]:
        """Return how many reinstalls of each server were accepted."""
        return dict(Counter(entry.servers[0] for entry in self.calls("reinstall", accepted=True)))

    def wipes(self) -> dict[str, int]:
        """Return how many times each server's system disk was destroyed."""
        return dict(Counter(entry.server for entry in self.effects("disk-replaced", "disk-lost")))

    def summary(self) -> dict[str, Any]:
        """Return the figures that a referee asks for first."""
        return {"reinstalls": self.reinstalls(), "wipes": self.wipes(), "requests": dict(self.requests)}

    def lines(self, start: int = 0) -> list[bytes]:
        """Return the entries from the *start*-th on as JSON lines, without line breaks."""
        return [msgspec.json.encode(entry) for entry in self.entries[start:]]
