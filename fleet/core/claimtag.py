"""The tag by which a run says on a server itself that it works on it, for runs on other machines to see.

Every life of a run has a key of its own, so that two claims stand side by side and neither overwrites the
other: whoever writes first and reads then cannot miss the other (``docs/claims.md`` has the argument).
Within what clouds allow: keys of up to 36, values of up to 43 letters, digits, ``-`` and ``_``, ten tags on a
server (ECS API reference, "Adding tags to an ECS").
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

PREFIX = "fleet-run-"
"""How the keys of claim tags begin. Such tags are in `Server.claims`, and in `Server.tags` they are not."""

MAX_VALUE = 43
_STAMP = "%Y%m%dT%H%M%SZ"
_TAIL = re.compile(r"\d{8}T\d{6}Z-[0-9a-z]+$", re.ASCII)
_VALUE = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-z]+)_(\d+)_(\d+)_([A-Za-z0-9-]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ClaimTag:
    """One claim, read.

    Attributes:
        key: The tag's key.
        run: The end of the run's id, from its time on: ``20261205T200000Z-7k3f``.
        life: Which of the run's lives, from 1.
        since: When it was made, to the minute.
        host: Where, as far as there was room for it.
    """

    key: str
    run: str
    life: int
    since: datetime
    host: str

    def __str__(self) -> str:
        return f"run …-{self.run} on {self.host or 'another machine'} since {self.since:%Y-%m-%d %H:%M}Z"

    def value(self) -> str:
        """Return the tag's value."""
        minutes = int((self.since - _stamp(self.run)).total_seconds()) // 60
        return f"{self.run}_{self.life}_{max(0, minutes)}_{self.host}"[:MAX_VALUE]


def claim_tag(run: str, life: int, host: str, nonce: str, now: datetime) -> ClaimTag:
    """Make the claim of a life of a run.

    Args:
        run: The run's id.
        life: Which life of it.
        host: The machine's name.
        nonce: Letters and digits that no other life has, at most 26.
        now: The time of day.
    """
    first_label = re.sub(r"[^A-Za-z0-9]+", "-", host.partition(".")[0], flags=re.ASCII).strip("-")
    return ClaimTag(PREFIX + nonce, tail_of(run), life, now.astimezone(UTC), first_label)


def tail_of(run: str) -> str:
    """Return the part of a run's id that a claim has room for; of an odd id one that is as good."""
    if match := _TAIL.search(run):
        return match[0]
    return f"19700101T000000Z-{hashlib.sha256(run.encode()).hexdigest()[:4]}"


def read(key: str, value: str) -> ClaimTag | None:
    """Read a claim; None when it is none of ours, or of a newer kind."""
    if (match := _VALUE.fullmatch(value)) is None:
        return None
    stamp, letters, life, minutes, host = match.groups()
    try:
        since = _stamp(f"{stamp}-{letters}") + timedelta(minutes=int(minutes))
    except (ValueError, OverflowError):
        return None
    return ClaimTag(key, f"{stamp}-{letters}", int(life), since, host)


def _stamp(run: str) -> datetime:
    return datetime.strptime(run.partition("-")[0], _STAMP).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Claims:
    """What the claims on a server are to one life of a run.

    Attributes:
        held: The life's own claim is there.
        earlier: Keys of this run's earlier lives: ours to take away.
        others: Who else claims it, in words; also another process that goes on with a copy of this run.
    """

    held: bool
    earlier: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def sort_out(claims: Mapping[str, str], run: str, life: int, key: str | None) -> Claims:
    """Tell our own claims from those of others.

    Args:
        claims: As a look at the server shows them.
        run: Our run's id.
        life: Which life of it.
        key: The key of this life's own claim; None: it makes none.
    """
    earlier: list[str] = []
    others: list[str] = []
    for found, value in sorted(claims.items()):
        claim = read(found, value)
        if found == key:
            continue
        if claim is None:
            others.append(f"a claim that this fleet cannot read ({found}={value})")
        elif claim.run == tail_of(run) and claim.life < life:
            earlier.append(found)
        else:
            others.append(str(claim))
    return Claims(key in claims, tuple(earlier), tuple(others))


def yields(key: str, claims: Mapping[str, str]) -> bool:
    """Tell whether, of claims made at the same time, the one with *key* gives way at once."""
    return any(other < key for other in claims if other != key)
