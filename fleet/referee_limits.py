"""The referee's idea of the limits: who may be started, by the plan in force and the journal so far.

Written down from ``docs/limits.md``; it shares no code with what it judges. It does not judge windows and
gates: a journal does not show what the clock and the world were like.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Fact = Mapping[str, Any]
Judge = Callable[[str, bool, Callable[[], str]], None]

IN_FLIGHT, SETTLED = "in flight", ("verified", "failed", "skipped")
_BOOTING = ("requested", "accepted", "reinstalled", "starting", "started")


@dataclass(slots=True)
class Server:
    """What the journal has said about one server so far.

    Attributes:
        off: We stopped it and have not started it again.
        lost: Its old installation is gone, or nobody could tell, in whichever go.
        down: It failed and was left without service.
        changed: It was left alone because somebody had changed it.
        draining: It runs its hooks.
    """

    member: Fact
    state: str = "waiting"
    step: str = ""
    open_request: bool = False
    requests: int = 0
    accepted: int = 0
    accepted_in_go: int = 0
    failed_jobs: int = 0
    retries: int = 0
    may_ask: bool = True
    forgiven: bool = False
    changed: bool = False
    claimed: int = 0
    old_disk: str | None = None
    new_disk: str | None = None
    jobs: list[str] = field(default_factory=list)
    owed: set[Any] = field(default_factory=set)
    tried: set[Any] = field(default_factory=set)
    off: bool = False
    lost: bool = False
    down: bool = False
    draining: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return str(self.member.get("name") or self.member["id"])

    @property
    def target(self) -> str:
        """Its target's name."""
        return str(self.member["target"])

    @property
    def wave(self) -> int:
        """Counted from 1."""
        return int(self.member["wave"])

    @property
    def is_out(self) -> bool:
        """Out of service because of us: in flight, failed and left down, or not undrained."""
        if self.state == "skipped":
            return False
        return self.state == IN_FLIGHT or self.down or bool(self.owed)

    def value(self, attribute: str) -> str:
        """Return its value of an attribute of ``spread`` or of a held group."""
        if attribute.startswith("tag:"):
            return str((self.member.get("tags") or {}).get(attribute[4:], ""))
        field_of = "zone" if attribute == "availability_zone" else attribute
        return str(self.member.get(field_of, ""))


class Limits:
    """Judges every start, and what else a limit bounds.

    Args:
        judge: Notes a verdict.
        servers: All of the run, by id; kept up to date by the referee.

    Attributes:
        settings: The plan in force; see `rules`.
    """

    def __init__(self, judge: Judge, servers: Mapping[str, Server]) -> None:
        self.settings: Fact = {}
        self._judge = judge
        self._servers = servers
        self._held = self._drained = self._paused = self._everybody = False
        self._rows: Counter[str] = Counter()
        self._pace: dict[str, int] = {}
        self._groups: list[Mapping[str, str]] = []
        self._baked: set[tuple[str, int]] = set()
        self._approved: set[tuple[str, int]] = set()
        self._attributes: set[str] = set()
        self._tally: Counter[tuple[object, ...]] = Counter()
        self._sizes: Counter[str] = Counter()
        self._waves: dict[str, set[int]] = {}

    def add(self, server: Server) -> None:
        """Take a server of the run."""
        self._sizes.update((server.target, ""))
        self._waves.setdefault(server.target, set()).add(server.wave)
        self.count(server, 1)

    def rules(self, settings: Fact) -> None:
        """Take the plan that is in force from here on."""
        self.settings = settings
        self._attributes = {
            attribute
            for rules in settings.get("targets") or ()
            for attribute in (rules.get("rollout") or {}).get("spread") or ()
        }
        self._count_all()

    # -- counting -----------------------------------------------------------------------------------

    def _count_all(self) -> None:
        self._tally.clear()
        for server in self._servers.values():
            self.count(server, 1)

    def count(self, server: Server, sign: int) -> None:
        """Count a server, or with -1 take it off: around everything that changes it."""
        tally, state = self._tally, server.state
        out = server.is_out
        for whose in (server.target, ""):
            tally[state, whose] += sign
            tally["unforgiven", whose] += sign * (state == "failed" and not server.forgiven)
            tally["out", whose] += sign * out
        if out:
            for attribute in self._attributes:
                tally["out", attribute, server.value(attribute)] += sign
        if state not in SETTLED:
            tally["open", server.target] += sign
            tally["open", server.target, server.wave] += sign
        tally["draining",] += sign * server.draining
        tally["booting",] += sign * (state == IN_FLIGHT and server.step in _BOOTING)

    # -- facts --------------------------------------------------------------------------------------

    def take(self, event: str, fact: Fact) -> None:
        """Take a fact about the run."""
        wave = (str(fact.get("target")), int(fact.get("wave") or 0))
        match event:
            case "RunResumed":
                self._drained = self._paused = False
            case "RunHeld":
                self._held = True
            case "RunReleased":
                self._held = self._everybody = False
                self._rows.clear()
                self._pace.clear()
                self._groups.clear()
                for server in self._servers.values():
                    server.forgiven = server.state == "failed"
                self._count_all()
            case "RunDrained":
                self._drained = True
            case "Paused" | "Unpaused":
                self._paused = event == "Paused"
            case "GroupHeld":
                self._groups.append(fact["group"])
            case "PaceLowered":
                self._pace[wave[0]] = int(fact["concurrency"])
            case "Approved":
                self._approved.add(wave)
            case "WaveBaked":
                open_ = self._tally["open", *wave]
                self._judge("P4", not open_, lambda: f"wave {wave[1]} baked before its end")
                self._baked.add(wave)
            case _:
                pass

    def step(self, event: str, fact: Fact, server: Server) -> None:  # noqa: C901, PLR0912 - a table
        """Take a fact about a server, before the referee does. It is not counted meanwhile."""
        self._everybody = self._everybody or bool(fact.get("everybody"))
        match event:
            case "Admitted":
                self._admit(server)
            case "DrainStarted":
                self._bound("draining", server)
                server.draining = True
            case "Drained" | "GivingUp":
                server.draining = False
            case "StopRequested":
                server.off = server.off or server.step not in {"checked", "returning"}
            case "ReinstallRequested":
                self._bound("booting", server)
            case "ReinstallAccepted":
                server.lost = True
            case "DebtPaid" if fact.get("debt") == "start":
                server.off = False
                server.down = server.down and server.lost
            case "Verified":
                server.down = False
                for key in (server.target, ""):
                    self._rows[key] = 0
            case "Failed" | "WentBad":
                self._fail(event, fact, server)
            case "Skipped":
                server.down = False
            case "Retried" | "PutBack":
                self._baked.discard((server.target, server.wave))
            case _:
                pass

    def _fail(self, event: str, fact: Fact, server: Server) -> None:
        server.draining = False
        if event == "WentBad" or server.open_request or not fact.get("untouched"):
            # Also one that failed before anything was asked for is not said to run.
            server.lost = server.lost or event == "WentBad" or server.open_request
            server.down = True
        else:
            server.down = server.lost or server.off
        for key in (server.target, ""):
            self._rows[key] += 1

    # -- verdicts -----------------------------------------------------------------------------------

    def _rules(self, target: str) -> Fact:
        for rules in self.settings.get("targets") or ():
            if rules["name"] == target:
                return dict(rules)
        return {}

    def _admit(self, server: Server) -> None:
        """A server is started: may it be?"""
        name = server.name
        self._judge("P8", server.state == "waiting", lambda: f"{name} admitted while {server.state}")
        for what, so in (("held", self._held), ("drained", self._drained), ("paused", self._paused)):
            self._judge("P4", not so, lambda: f"{name} admitted while {what}")  # noqa: B023 - asked at once
        self._judge("P4", not self._everybody, lambda: f"{name} admitted though everybody would fail")
        group = next((group for group in self._groups if _is_of(server, group)), None)
        self._judge("P4", group is None, lambda: f"{name} admitted, and its group is held: {group}")
        before = next(self._before(server), None)
        self._judge("P4", before is None, lambda: f"{name} admitted before {before}")
        rollout = self._rules(server.target).get("rollout") or {}
        self._concurrency(server, rollout)
        self._budgets(server, {"hold_after": 0, **rollout}, server.target)
        self._budgets(server, self.settings.get("budget") or {}, "")
        if not server.is_out:  # it takes no new room otherwise
            self._unavailable(server, rollout)

    def _concurrency(self, server: Server, rollout: Fact) -> None:
        flying = 1 + self._tally[IN_FLIGHT, server.target]
        limit = min(rollout.get("concurrency", 10), self._pace.get(server.target, math.inf))
        self._judge("P4", flying <= limit, lambda: f"{flying} in flight with {server.name}, {limit} allowed")
        if (most := self.settings.get("concurrency")) is None:
            return
        for rules in self.settings.get("targets") or ():
            most = max(most, (rules.get("rollout") or {}).get("concurrency", 10))
        everybody = 1 + self._tally[IN_FLIGHT, ""]
        self._judge(
            "P4",
            everybody <= most,
            lambda: f"{everybody} of the plan in flight with {server.name}, {most} allowed",
        )

    def _budgets(self, server: Server, limits: Fact, key: str) -> None:
        whose = key or "the run"
        if (limit := limits.get("hold_after")) is not None:
            counted, may = self._tally["unforgiven", key], self._amount(limit, key)
            self._judge("P4", counted <= may, lambda: f"{server.name} admitted after {counted} failures")
        if (limit := limits.get("in_a_row")) is not None:
            row = self._rows[key]
            self._judge(
                "P4", row < limit, lambda: f"{server.name} admitted after {row} of {whose} failed in a row"
            )
        if (cap := limits.get("never_more_than")) is not None:
            share = self._tally["verified", key] * float(cap["of_verified"]) / 100
            most = max(int(cap["at_least"]), math.floor(round(share, 6)))
            count = self._tally["failed", key] + self._tally[IN_FLIGHT, key] + 1
            self._judge(
                "P4",
                count <= most,
                lambda: f"{count} of {whose} failed or in flight with {server.name}, {most} allowed",
            )

    def _unavailable(self, server: Server, rollout: Fact) -> None:
        name = server.name
        if (limit := rollout.get("max_unavailable")) is not None:
            out, most = 1 + self._tally["out", server.target], self._amount(limit, server.target)
            self._judge("P4", out <= most, lambda: f"{out} out of service with {name}, {most} allowed")
        for attribute, most in (rollout.get("spread") or {}).items():
            value = server.value(attribute)
            out = 1 + self._tally["out", attribute, value]
            words = f"{out} of {attribute} {value!r} out of service with {name}, {most} allowed"
            self._judge("P4", out <= most, lambda: words)  # noqa: B023 - asked at once

    def _bound(self, stage: str, server: Server) -> None:
        """Hold how many are in a stage against its limit, before one more."""
        if (most := (self.settings.get("limits") or {}).get(stage)) is not None:
            count = 1 + self._tally[stage,]
            self._judge("P4", count <= most, lambda: f"{count} {stage} with {server.name}, {most} allowed")

    def _amount(self, amount: object, key: str) -> int:
        """Return how many a limit lets through: a number, or a share that rounds down."""
        if isinstance(amount, dict):
            servers = self._sizes[key]
            return math.floor(round(servers * float(amount["percent"]) / 100, 6))
        return int(str(amount))

    # -- what comes before what ---------------------------------------------------------------------

    def _before(self, server: Server) -> Iterator[str]:
        """Yield what has to happen before a server is started, and has not."""
        needs = self._rules(server.target).get("needs")
        if needs is None:
            names = [rules["name"] for rules in self.settings.get("targets") or ()]
            needs = names[: names.index(server.target)]
        for need in needs:
            if self._tally["open", need]:
                yield f"target {need} is through"
            yield from self._behind(need, max(self._waves.get(need, ()), default=0) + 1)
        yield from self._behind(server.target, server.wave)

    def _behind(self, target: str, before: int) -> Iterator[str]:
        rollout = self._rules(target).get("rollout") or {}
        for wave in range(1, before):
            if self._tally["open", target, wave]:
                yield f"wave {wave} of {target} is settled"
            if rollout.get("bake_s") and (target, wave) not in self._baked:
                yield f"wave {wave} of {target} was baked"
            if wave in (rollout.get("approve_after") or ()) and (target, wave) not in self._approved:
                yield f"wave {wave} of {target} was approved"


def _is_of(server: Server, group: Mapping[str, str]) -> bool:
    return all(server.value(attribute) == value for attribute, value in group.items())
