"""Who was told what of a plan's runs, and what could not be delivered: a small file beside the plan's lock.

It is no part of a journal: nothing that is done to a server depends on it. When it is lost, things are told
once more. Light, since `fleet status` reads it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

KEPT = timedelta(days=60)
"""How long it is known who was told what of earlier runs."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A message that could not be delivered."""

    to: str
    event: str
    title: str
    why: str
    at: datetime


class _Known(msgspec.Struct, kw_only=True):
    """What the file holds: by destination, keys and when they were told; and what could not be."""

    called_at: datetime | None = None
    code: int | None = None
    told: dict[str, dict[str, datetime]] = msgspec.field(default_factory=dict)
    failed: dict[str, dict[str, Failure]] = msgspec.field(default_factory=dict)


def told_path(state: Path, plan: str) -> Path:
    """Return where it is kept who was told what of a plan's runs."""
    return state / "plans" / f"{plan}.told.json"


class Told:
    """Who was told what of a plan's runs, kept in a file. When that is lost, things are told once more.

    Args:
        path: The file; for its owner only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keys(self, to: str) -> set[str]:
        """Return what a destination was told."""
        return set(self._read().told.get(to, {}))

    def moments(self, prefix: str) -> list[tuple[str, str, datetime]]:
        """Return destination, key and time of what was told and whose key begins so, in that order."""
        found = [
            (to, key, at)
            for to, keys in self._read().told.items()
            for key, at in keys.items()
            if key.startswith(prefix)
        ]
        return sorted(found, key=lambda each: each[2])

    def failures(self) -> list[Failure]:
        """Return what could not be delivered, a message once, the oldest first."""
        known = self._read()
        found = {
            (each.to, each.event, each.at): each for keys in known.failed.values() for each in keys.values()
        }
        return sorted(found.values(), key=lambda each: each.at)

    @property
    def called_at(self) -> datetime | None:
        """When a command of this plan was given last."""
        return self._read().called_at

    @property
    def code(self) -> int | None:
        """What that command ended with."""
        return self._read().code

    def called(self, at: datetime, code: int) -> None:
        """Note that a command of this plan was given, and what it ended with."""
        known = self._read()
        known.called_at, known.code = at, code
        self._write(known)

    def deliver(self, to: str, about: AbstractSet[str], at: datetime) -> None:
        """Note that a message was delivered."""
        known = self._read()
        known.told.setdefault(to, {}).update(dict.fromkeys(about, at))
        failed = known.failed.get(to, {})
        for key in about:
            failed.pop(key, None)
        run = min(about).partition("/")[0]
        known.told = {each: _recent(keys, at, run) for each, keys in known.told.items()}
        self._write(known)

    def fail(self, about: AbstractSet[str], failure: Failure) -> None:
        """Note that a message could not be delivered."""
        known = self._read()
        known.failed.setdefault(failure.to, {}).update(dict.fromkeys(about, failure))
        self._write(known)

    def forget(self, destinations: AbstractSet[str], still: AbstractSet[str]) -> None:
        """Keep of what was not delivered only what is still to be told to somebody.

        Args:
            destinations: Who is told anything.
            still: Keys of what is still so.
        """
        known = self._read()
        left = {
            to: {key: each for key, each in keys.items() if key in still}
            for to, keys in known.failed.items()
            if to in destinations
        }
        left = {to: keys for to, keys in left.items() if keys}
        if left != known.failed:
            known.failed = left
            self._write(known)

    def _read(self) -> _Known:
        # Read anew each time: a command that finds the plan locked may write as well.
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Known)
        except (OSError, ValueError):
            return _Known()

    def _write(self, known: _Known) -> None:
        """Write it as a whole, and to the disk. When that fails, things are told once more."""
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            # The state folder first, which may not be there yet: a mode is for the last folder made only.
            self._path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(known))
                file.flush()
                os.fsync(file.fileno())
            aside.rename(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


def _recent(keys: Mapping[str, datetime], now: datetime, run: str) -> dict[str, datetime]:
    """Return what is worth keeping: all about a run that is still told of, and all that is not old."""
    return {key: at for key, at in keys.items() if now - at < KEPT or key.startswith(f"{run}/")}
