"""How a target's servers are cut into waves. Pure.

``cover`` is the wave that stands for all: one server of every *kind* that occurs, a kind being what makes a
reinstall turn out differently: image, flavor, zone and user data together. Every combination that occurs is
meant, not every value of each: a new kernel that fails on one flavor's disks fails in one combination. So
the smallest set is one server of each kind, and there is nothing to search for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fleet.core.settings import Amount, Share

Wave = Amount | Literal["cover"]


@dataclass(frozen=True, slots=True, order=True)
class ServerKind:
    """What makes a reinstall turn out differently.

    Attributes:
        image: Id of what is installed.
        user_data: Digest of what is sent, the server's own name, id and addresses left out; empty: none.
    """

    image: str = ""
    flavor: str = ""
    zone: str = ""
    user_data: str = ""

    def __str__(self) -> str:
        parts = (self.flavor, self.zone, f"image {self.image}" if self.image else "")
        told = ", ".join(part for part in parts if part) or "one kind"
        return f"{told}, user data {self.user_data[:8]}" if self.user_data else told


def wave_size(amount: Amount, servers: int) -> int:
    """Return how many servers a wave of *amount* holds, of *servers* in all; at least 1."""
    if isinstance(amount, Share):
        return max(1, math.ceil(round(servers * amount.percent / 100, 6)))
    return amount


def cut_waves(servers: int, sizes: Sequence[Wave]) -> list[int]:
    """Return the sizes of the waves that *servers* servers of one kind make; the last size repeats.

    >>> cut_waves(13, [1, 5])
    [1, 5, 5, 2]
    """
    return [len(wave) for wave in waves_of([None] * servers, sizes)]


def waves_of(kinds: Sequence[object], sizes: Sequence[Wave]) -> list[list[int]]:
    """Cut servers into waves; the last size repeats.

    A wave ``cover`` has the first server of every kind that is in no wave before it. Where they all are, as
    when it repeats, it has one of every kind that is left.

    Args:
        kinds: Of every server, in the order of the rollout.
        sizes: As in ``rollout.waves``.

    Returns:
        Places in *kinds*: every one in exactly one wave, none empty, each in the order of the rollout.

    >>> waves_of(["a", "a", "b", "a"], ["cover", 2])
    [[0, 2], [1, 3]]
    """
    waves: list[list[int]] = []
    left, begin = list(range(len(kinds))), 0
    met: set[object] = set()
    while begin < len(left):
        size = sizes[min(len(waves), len(sizes) - 1)]
        if isinstance(size, str):
            wave = _cover(kinds, left[begin:], met)
            gone = set(wave)
            left, begin = [place for place in left[begin:] if place not in gone], 0
        else:
            wave = left[begin : begin + wave_size(size, len(kinds))]
            begin += len(wave)
        waves.append(wave)
        met.update(kinds[place] for place in wave)
    return waves


def _cover(kinds: Sequence[object], left: Sequence[int], met: set[object]) -> list[int]:
    """Return the first place of every kind that was not met yet, or of every kind when all were."""
    first: dict[object, int] = {}
    for place in left:
        first.setdefault(kinds[place], place)
    new = [place for kind, place in first.items() if kind not in met]
    return new or list(first.values())


@dataclass(frozen=True, slots=True)
class Cover:
    """What a target's first wave stands for.

    Attributes:
        kinds: Kinds in the target.
        missing: Those that no server of the first wave is of, each with the wave that meets it first.
    """

    kinds: int
    missing: tuple[tuple[ServerKind, int], ...]


def cover_of(waves: Sequence[Sequence[ServerKind]]) -> Cover:
    """Say which kinds the first of *waves* leaves out."""
    first: dict[ServerKind, int] = {}
    for number, kind in _numbered(waves):
        first.setdefault(kind, number)
    return Cover(len(first), tuple((kind, number) for kind, number in sorted(first.items()) if number > 1))


def _numbered(waves: Sequence[Sequence[ServerKind]]) -> Iterator[tuple[int, ServerKind]]:
    for number, wave in enumerate(waves, start=1):
        for kind in wave:
            yield number, kind
