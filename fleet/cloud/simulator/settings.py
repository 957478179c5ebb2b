"""How the built-in cloud behaves: durations, and which of the documented or seen variants it shows.

Durations are seconds of the cloud's own time. The figures come from the ECS API reference, section 13
(stop 15-35 s, hard 5-15 s, start 15-35 s, reinstall 60-240 s, jobs 0-15 s beside the server), with medians
a little shorter for the reinstall.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Annotated, Final, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

_MASK: Final = (1 << 64) - 1
_NORMAL: Final = NormalDist()
_LONGEST_S: Final = 1200.0
"""A reinstall's tail ends at 20 minutes (ECS API reference, section 13)."""


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lognormal duration.

    Attributes:
        median_s: Half of the draws are shorter.
        sigma: Of the logarithm; 0 makes every draw the median, 0.3 keeps two thirds within a third of it.
    """

    median_s: NotNegative
    sigma: NotNegative = 0.3


class Durations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long things take.

    Attributes:
        queue: From acceptance until a reinstall begins; its job says INIT.
        reinstall: From there until the server is as it will be.
        job_lag: How far a job's end is from the server's, before or after it.
        latency: Of one answer.
    """

    stop_soft: Spread = Spread(20.0)
    stop_hard: Spread = Spread(8.0)
    start: Spread = Spread(20.0)
    reboot: Spread = Spread(30.0)
    queue: Spread = Spread(2.0, 0.5)
    reinstall: Spread = Spread(90.0)
    job_lag: Spread = Spread(4.0, 0.6)
    latency: Spread = Spread(0.05)


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which of the variants that clouds show, or may show, this one shows.

    Attributes:
        strict: A reinstall without ``mode`` needs a stopped server (or one whose reinstall failed), as
            OTC and Flexible Engine document it.
        profile: What a server shows during a reinstall. A: status REBUILD with its three task states.
            B: SHUTOFF, no task, no system disk. mixed: seeded, by server.
        job: Shape of a reinstall's job.
        temporary_server: During which profile's reinstalls the platform's temporary server is listed.
        ends_shutoff: Share of reinstalls after which the server is left off, though the job says SUCCESS.
        soft_hangs: Share of soft stops that the guest ignores.
        soft_force_s: After how long the cloud forces such a stop; None: never, as on OTC.
        unfit_in_batch: An unfit server in a batch stop or start refuses the batch, or fails its own sub job.
        doubles_while_queued: A second reinstall is accepted while the first has not begun, and runs after
            it: rare, but a real Nova did so (2 of 46).
        sparse: Share of servers whose descriptions lack half of the optional fields.
        token_life_s: 24 hours in the reference.
        job_life_s: How long a finished job is remembered: 24 hours in the reference.
        volume_quota: Disks that the project may have at once, or None for no limit. A reinstall in flight
            needs one more.
        throttle: Limit calls by class and user, per minute of the cloud's time (see `throttle`).
        rate_limit: Calls a second of wall time over all classes, or None.
    """

    strict: bool = True
    profile: Literal["A", "B", "mixed"] = "mixed"
    job: Literal["single", "parent", "mixed"] = "mixed"
    temporary_server: Literal["B", "always", "never"] = "B"
    ends_shutoff: Share = 0.0
    soft_hangs: Share = 0.0
    soft_force_s: Positive | None = None
    unfit_in_batch: Literal["refuse", "sub-job"] = "refuse"
    doubles_while_queued: bool = False
    sparse: Share = 0.1
    token_life_s: Positive = 86400.0
    job_life_s: Positive = 86400.0
    volume_quota: Annotated[int, msgspec.Meta(ge=0)] | None = None
    throttle: bool = False
    rate_limit: Positive | None = None


def uniform(seed: int, *key: int) -> float:
    """Return a number in (0, 1) that depends on *seed* and *key* alone.

    So a server's third stop takes as long in one run as in another, whoever asks and in whatever order:
    two clients can be compared on the same durations. SplitMix64 is the mixer.
    """
    state = seed & _MASK
    for part in key:
        state = (state + 0x9E3779B97F4A7C15 + part * 0xD1342543DE82EF95) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return ((state >> 11) + 0.5) / (1 << 53)


def draw(spread: Spread, seed: int, *key: int) -> float:
    """Return seconds from *spread*, by *seed* and *key* alone (see `uniform`)."""
    if not spread.sigma or not spread.median_s:
        return spread.median_s
    z = _NORMAL.inv_cdf(min(uniform(seed, *key), 1 - 1e-9))
    return min(spread.median_s * math.exp(spread.sigma * z), max(_LONGEST_S, spread.median_s))
