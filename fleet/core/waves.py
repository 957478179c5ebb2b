"""How a target's servers are cut into waves. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fleet.core.settings import Amount, Share


def wave_size(amount: Amount, servers: int) -> int:
    """Return how many servers a wave of *amount* holds, of *servers* in all; at least 1."""
    if isinstance(amount, Share):
        return max(1, math.ceil(round(servers * amount.percent / 100, 6)))
    return amount


def cut_waves(servers: int, sizes: Sequence[Amount]) -> list[int]:
    """Return the sizes of the waves that *servers* servers make; the last size repeats.

    >>> cut_waves(13, [1, 5])
    [1, 5, 5, 2]
    """
    waves: list[int] = []
    left = servers
    while left > 0:
        amount = sizes[min(len(waves), len(sizes) - 1)]
        size = min(left, wave_size(amount, servers))
        waves.append(size)
        left -= size
    return waves
