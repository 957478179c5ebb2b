"""Faults to order: what may go wrong between a client and a cloud, and inside the cloud.

Three families. *Call* faults befall one request or its answer. *Effect* faults are decided when an
operation is accepted, and befall that. *World* faults are what other people do meanwhile: at a time, or
right before a certain call. The list is fed by the ECS API reference (section 13) and by what a real Nova
did in trials: answers lost after acceptance, doubles, false idle states, starts that came to nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal, get_args

import msgspec

from fleet.cloud.simulator.settings import NotNegative, Positive, Share
from fleet.cloud.simulator.things import Show
from fleet.cloud.simulator.world import NO_TWIST, Twist

CallFault = Literal[
    "rejected", "answer-lost", "cut-before", "unreachable", "lands-late", "error-burst", "flow-limit", "slow",
    "html", "garbage", "stale-list", "stale-show",
]  # fmt: skip
EffectFault = Literal[
    "job-fails", "job-stuck", "job-vanishes", "stop-hangs", "accepted-then-nothing", "success-without-change",
    "false-idle",
]  # fmt: skip
WorldFault = Literal[
    "token-expiry", "key-pair-deleted", "key-pair-restored", "renamed-by-other", "resized-by-other",
    "server-disappears", "locked-by-other", "started-by-other",
    "stopped-by-other", "tagged-by-other", "untagged-by-other",
]  # fmt: skip
FaultKind = Literal[CallFault, EffectFault, WorldFault]

CALL_FAULTS: Final[frozenset[str]] = frozenset(get_args(CallFault))
EFFECT_FAULTS: Final[frozenset[str]] = frozenset(get_args(EffectFault))
WORLD_FAULTS: Final[frozenset[str]] = frozenset(get_args(WorldFault))

CallKind = Literal[
    "any", "token", "projects", "list", "show", "block-device", "tags", "limits", "stop", "start", "reboot",
    "reinstall", "job", "image", "key-pair", "volume", "actions", "traces", "lock", "unlock", "tag",
    "scaling", "backup", "version", "other",
]  # fmt: skip

_USUAL_CALL: Final[dict[str, tuple[CallKind, ...]]] = {
    "error-burst": ("any",),
    "slow": ("any",),
    "html": ("any",),
    "garbage": ("any",),
    "unreachable": ("any",),
    "stale-list": ("list",),
    "stale-show": ("show",),
    "stop-hangs": ("stop",),
    "accepted-then-nothing": ("start",),
}
"""Which calls a fault befalls that does not say; a reinstall otherwise."""


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls a fault befalls.

    Attributes:
        call: Kinds of calls; none: the usual ones of the fault. A world fault without any happens at
            *from_s*.
        server: Name, glob or id. ``*`` also matches calls about no server.
        nth: The first call befallen, counted from 1 among those that match.
        count: How many are; None: no limit. In a window (*until_s*, *for_s*) 1 is no limit either.
        probability: Of each.
        from_s, until_s: Seconds of the cloud's time.
        for_s: The window closes so long after the first one befallen.
    """

    call: CallKind | tuple[CallKind, ...] = ()
    server: str = "*"
    nth: Annotated[int, msgspec.Meta(ge=1)] = 1
    count: Annotated[int, msgspec.Meta(ge=1)] | None = 1
    probability: Share = 1.0
    from_s: NotNegative = 0.0
    until_s: NotNegative | None = None
    for_s: Positive | None = None


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault, ordered.

    Attributes:
        code: Of ``rejected``, ``job-fails``; of an ``error-burst`` in place of the usual one.
        status: HTTP status of ``error-burst`` (429, 500, 502, 503, 504) and ``html`` (200, 502).
        accepted: The call is carried out nevertheless: ``error-burst``, ``html``, ``garbage``.
        seconds: How late (``lands-late``), slow, stale, long (``false-idle``), or after how long
            (``job-vanishes``, world faults) it is.
        retry_after_s: Header ``Retry-After`` of an ``error-burst``.
        lose_disk: A failed reinstall leaves no system disk.
        leaves: What a server shows after a failed reinstall.
        done: Of ``job-stuck``: the server gets done, and only the job never ends.
        key_pair: Name of the key pair that is deleted; empty: all of them.
        text: The job's reason, or the body of ``html`` and ``garbage``; of ``tagged-by-other`` the tag
            (``key=value``), of ``untagged-by-other`` how the keys begin that are taken off.
    """

    kind: FaultKind
    when: When = When()
    code: str = ""
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 0
    accepted: bool = False
    seconds: NotNegative | None = None
    retry_after_s: NotNegative | None = None
    lose_disk: bool = False
    leaves: Literal["SHUTOFF", "ERROR"] = "SHUTOFF"
    done: bool = False
    key_pair: str = ""
    text: str = ""

    @property
    def calls(self) -> tuple[CallKind, ...]:
        """The kinds of calls it befalls; none for a world fault that happens at a time."""
        call = self.when.call
        if call:
            return call if isinstance(call, tuple) else (call,)
        return () if self.kind in WORLD_FAULTS else _USUAL_CALL.get(self.kind, ("reinstall",))


_SECONDS: Final = {
    "lands-late": 20.0,
    "slow": 10.0,
    "stale-list": 30.0,
    "stale-show": 30.0,
    "false-idle": 10.0,
}
_WHEN_FIELDS: Final = frozenset(When.__struct_fields__)


def fault(kind: FaultKind, **fields: object) -> Fault:
    """Order a fault with the fields of `When` and of `Fault` side by side, as tests like it."""
    when = {name: value for name, value in fields.items() if name in _WHEN_FIELDS}
    rest = {name: value for name, value in fields.items() if name not in _WHEN_FIELDS}
    return msgspec.convert({"kind": kind, "when": when, **rest}, Fault)


def seconds_of(order: Fault) -> float:
    """Return the seconds of a fault, the kind's usual ones where it does not say."""
    return _SECONDS.get(order.kind, 0.0) if order.seconds is None else order.seconds


@dataclass(slots=True)
class _Standing:
    """A fault on order, and how often it was met."""

    order: Fault
    calls: frozenset[str]
    met: int = 0
    struck: int = 0
    closes: float | None = None


class FaultBook:
    """The faults on order. Says which of them befall a call, and counts."""

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        self._standing: list[_Standing] = []
        self._random = random.Random(seed ^ 0x5EED)
        for order in faults:
            self.order(order)

    @property
    def orders(self) -> list[Fault]:
        """All that was ordered."""
        return [standing.order for standing in self._standing]

    @property
    def struck(self) -> int:
        """How many times any of them befell something."""
        return sum(standing.struck for standing in self._standing)

    def struck_by_kind(self) -> Counter[str]:
        """Return how many times each kind befell a call or an operation."""
        found: Counter[str] = Counter()
        for standing in self._standing:
            if standing.struck:
                found[standing.order.kind] += standing.struck
        return found

    def order(self, order: Fault) -> None:
        """Put one more fault on order."""
        self._standing.append(_Standing(order, frozenset(order.calls)))

    def strikes(
        self, kinds: frozenset[str], call: str, servers: Sequence[tuple[str, str]], now: float
    ) -> list[Fault]:
        """Return the faults of *kinds* that befall a call about *servers* (pairs of id and name) now."""
        return [
            standing.order
            for standing in self._standing
            if standing.order.kind in kinds
            and (call in standing.calls or "any" in standing.calls)
            and self._strikes(standing, servers, now)
        ]

    def _strikes(self, standing: _Standing, servers: Sequence[tuple[str, str]], now: float) -> bool:
        when = standing.order.when
        if now < when.from_s or (when.until_s is not None and now >= when.until_s):
            return False
        if standing.closes is not None and now >= standing.closes:
            return False
        if when.server != "*" and not any(matches(when.server, each) for each in servers):
            return False
        standing.met += 1
        if standing.met < when.nth:
            return False
        # With a window, the window is the limit, unless a count was asked for beyond the usual one.
        windowed = when.for_s is not None or when.until_s is not None
        limit = None if windowed and when.count == 1 else when.count
        if limit is not None and standing.struck >= limit:
            return False
        if when.probability < 1.0 and self._random.random() >= when.probability:
            return False
        standing.struck += 1
        if when.for_s is not None and standing.closes is None:
            standing.closes = now + when.for_s
        return True

    def twist(self, call: str, server: tuple[str, str], now: float) -> Twist:
        """Return what will go wrong with an operation that was just accepted."""
        struck = self.strikes(EFFECT_FAULTS, call, (server,), now)
        return _twist(struck) if struck else NO_TWIST


def matches(wanted: str, server: tuple[str, str]) -> bool:
    """Tell whether a name, glob or id means a server."""
    return wanted in server or fnmatchcase(server[1], wanted)


def _twist(faults: Sequence[Fault]) -> Twist:
    """Put several effect faults together; of two that contradict each other the first one counts."""
    by_kind = {order.kind: order for order in reversed(faults)}
    fails, stuck = by_kind.get("job-fails"), by_kind.get("job-stuck")
    vanishes, idle = by_kind.get("job-vanishes"), by_kind.get("false-idle")
    return Twist(
        fails=(fails.code or "Ecs.0202") if fails else "",
        reason=fails.text if fails else "",
        loses_disk=fails.lose_disk if fails else False,
        leaves=Show.ERROR if fails and fails.leaves == "ERROR" else Show.OFF,
        stuck=stuck is not None and not stuck.done,
        job_stuck=stuck is not None and stuck.done,
        vanishes_after_s=seconds_of(vanishes) if vanishes else None,
        hangs="stop-hangs" in by_kind,
        nothing="accepted-then-nothing" in by_kind,
        no_change="success-without-change" in by_kind,
        false_idle_s=seconds_of(idle) if idle else 0.0,
    )


def _lost_answers(rng: random.Random, name: str) -> Fault:
    kind: FaultKind = rng.choice(("answer-lost", "answer-lost", "cut-before", "lands-late", "unreachable"))
    call = rng.choice(("reinstall", "reinstall", "stop", "start"))
    return fault(kind, call=call, server=name, seconds=rng.uniform(1, 30))


def _errors(rng: random.Random, name: str) -> Fault:
    status = rng.choice((429, 500, 502, 503, 504))
    accepted = status != 429 and rng.random() < 0.5
    # The usual code of a 503 is flow control, which proves that nothing was done: not so if it was accepted.
    code = "Common.0001" if accepted and status == 503 else ""
    return fault("error-burst", call="reinstall", server=name, status=status, accepted=accepted, code=code)


def _read_errors(rng: random.Random, _name: str) -> Fault:
    call = rng.choice(("list", "show", "job", "token"))
    return fault("error-burst", call=call, status=rng.choice((429, 500, 503)), nth=rng.randint(1, 5), count=2)


def _jobs(rng: random.Random, name: str) -> Fault:
    kind: FaultKind = rng.choice(
        ("job-fails", "job-fails", "job-vanishes", "success-without-change", "job-stuck")
    )
    return fault(
        kind,
        server=name,
        lose_disk=rng.random() < 0.3,
        leaves=rng.choice(("SHUTOFF", "ERROR")),
        seconds=rng.uniform(0, 60),
        done=rng.random() < 0.5,
    )


def _states(rng: random.Random, name: str) -> Fault:
    kind: FaultKind = rng.choice(
        ("false-idle", "stop-hangs", "accepted-then-nothing", "stale-list", "stale-show")
    )
    about = "*" if kind.startswith("stale") else name
    return fault(kind, server=about, nth=rng.randint(1, 3), seconds=rng.uniform(2, 30))


def _others(rng: random.Random, name: str) -> Fault:
    kind: FaultKind = rng.choice(("started-by-other", "locked-by-other", "stopped-by-other", "token-expiry"))
    about = "*" if kind == "token-expiry" else name
    return fault(kind, server=about, from_s=rng.uniform(1, 400))


def _answers(rng: random.Random, name: str) -> Fault:
    kind: FaultKind = rng.choice(("html", "garbage", "slow", "flow-limit", "rejected"))
    return fault(
        kind,
        call="reinstall",
        server=name,
        accepted=kind in {"html", "garbage"} and rng.random() < 0.5,
        seconds=rng.uniform(1, 90),
        code="Ecs.0603" if kind == "rejected" else "",
    )


_FAMILIES: Final = (_lost_answers, _lost_answers, _errors, _read_errors, _jobs, _states, _others, _answers)


def random_faults(rng: random.Random, servers: Sequence[str], intensity: float = 0.3) -> list[Fault]:
    """Make up faults for a story, about *intensity* for each server; lost answers are the common case.

    Args:
        rng: Where chance comes from; the same state gives the same faults.
        servers: Names.
        intensity: 0 gives none, 1 about one for each server.
    """
    return [rng.choice(_FAMILIES)(rng, name) for name in servers if rng.random() < intensity]
