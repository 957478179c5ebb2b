"""Who may be started, computed a second time: from the facts alone, slowly, and after the documents.

Shares no code with `fleet.core.rollout` and `fleet.core.state`: every figure is counted anew whenever it is
asked for, as ``docs/limits.md`` has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fleet.core import events as ev
from fleet.core.outside import Outside
from fleet.core.settings import NeverMoreThan, Share, Target

SETTLED = ("verified", "failed", "skipped")


def floor_of(amount: int | Share, servers: int) -> int:
    """Count how many whole servers a share is."""
    if isinstance(amount, int):
        return amount
    count = 0
    while (count + 1) * 100 <= servers * amount.percent + 1e-6:
        count += 1
    return count


class Books:
    """What the facts so far say, kept as plainly as can be."""

    def __init__(self, opened: ev.RunOpened) -> None:
        self.settings = opened.settings
        self.members = {member.id: member for member in opened.members}
        self.status = dict.fromkeys(self.members, "waiting")
        self.row: dict[str, int] = {}
        self.pace: dict[str, int] = {}
        self.owed: dict[str, set[str]] = {name: set() for name in self.members}
        self.off: set[str] = set()
        self.down: set[str] = set()
        self.whole: set[str] = set()
        self.asked: set[str] = set()
        self.touched: set[str] = set()
        self.draining: set[str] = set()
        self.drained_ones: set[str] = set()
        self.returning: set[str] = set()
        self.forgiven: set[str] = set()
        self.approved: set[tuple[str, int]] = set()
        self.baked: set[tuple[str, int]] = set()
        self.groups: list[dict[str, str]] = []
        self.held = self.drained = ""
        self.everybody = False

    # -- facts --------------------------------------------------------------------------------------

    def take(self, event: ev.Event) -> None:
        """Take one fact."""
        match event:
            case ev.RunResumed():
                self.drained = ""
                self.settings = event.settings or self.settings
            case ev.RunHeld():
                self.held = event.reason
            case ev.RunReleased():
                self.held, self.everybody = "", False
                self.groups, self.row, self.pace = [], {}, {}
                self.forgiven = {name for name, status in self.status.items() if status == "failed"}
            case ev.RunDrained():
                self.drained = event.reason
            case ev.GroupHeld():
                self.groups.append(event.group)
            case ev.PaceLowered():
                self.pace[event.target] = event.concurrency
            case ev.Approved():
                self.approved.add((event.target, event.wave))
            case ev.WaveBaked():
                self.baked.add((event.target, event.wave))
            case _ if (name := getattr(event, "server", None)) is not None:
                self.step(event, name, self.members[name])

    def step(self, event: ev.Event, name: str, member: ev.Member) -> None:  # noqa: C901, PLR0912, PLR0915 - a table
        """Take a fact about one server."""
        match event:
            case ev.Admitted():
                self.status[name] = "flying"
                self.returning.discard(name)
                if self.plan(member.target).hooks.around_server and name not in self.drained_ones:
                    self.draining.add(name)
            case ev.Drained():
                self.draining.discard(name)
                self.drained_ones.add(name)
            case ev.Stopped():
                self.draining.discard(name)
            case ev.ReinstallRequested():
                self.asked.add(name)
            case ev.ReinstallRefused() | ev.ReinstallNotTaken():
                self.asked.discard(name)
            case ev.ReinstallAccepted():
                self.touched.add(name)
            case ev.DebtOwed():
                self.owed[name].add(event.debt)
            case ev.DebtPaid(debt="start"):
                self.off.discard(name)
                if name in self.whole:
                    self.down.discard(name)
            case ev.DebtPaid():
                self.drained_ones.discard(name)
                self.owed[name].discard(event.debt)
            case ev.StopRequested() if name not in self.returning:
                self.off.add(name)
            case ev.GivingUp():
                self.draining.discard(name)
                self.returning.add(name)
                self.everybody |= event.everybody
            case ev.ChecksPassed():
                self.returning.add(name)
            case ev.Verified():
                self.status[name] = "verified"
                self.down.discard(name)
                self.row.pop(member.target, None)
                self.row.pop("", None)
            case ev.Failed() | ev.WentBad():
                self.status[name] = "failed"
                self.draining.discard(name)
                if name in self.asked:  # nobody could tell, then and in any later go
                    self.touched.add(name)
                if isinstance(event, ev.Failed) and event.untouched and name not in self.touched:
                    self.whole.add(name)
                    (self.down.add if name in self.off else self.down.discard)(name)
                else:
                    self.whole.discard(name)
                    self.down.add(name)
                self.everybody |= isinstance(event, ev.Failed) and event.everybody
                for key in (member.target, ""):
                    self.row[key] = self.row.get(key, 0) + 1
            case ev.Skipped():
                self.status[name] = "skipped"
                self.down.discard(name)
                self.forgiven.discard(name)
            case ev.Retried() | ev.PutBack():
                self.status[name] = "waiting"
                self.baked.discard((member.target, member.wave))
                self.forgiven.discard(name)
                self.whole.discard(name)

    # -- counting -----------------------------------------------------------------------------------

    def plan(self, target: str) -> Target:
        """Return the target's settings in force."""
        return next(each for each in self.settings.targets if each.name == target)

    def count(self, status: str, target: str | None = None) -> int:
        """Count servers."""
        return sum(
            found == status and target in {None, self.members[name].target}
            for name, found in self.status.items()
        )

    def unforgiven(self, target: str | None = None) -> int:
        """Count failures that a release has not wiped off the slate."""
        return sum(
            found == "failed" and name not in self.forgiven and target in {None, self.members[name].target}
            for name, found in self.status.items()
        )

    def is_out(self, name: str) -> bool:
        """Tell whether a server is out of service because of us."""
        if self.status[name] == "skipped":
            return False
        return self.status[name] == "flying" or name in self.down or bool(self.owed[name])

    def out(self, *, target: str | None = None, attribute: str = "", value: str = "") -> int:
        """Count servers out of service."""
        return sum(
            self.is_out(name)
            and target in {None, member.target}
            and (not attribute or value_of(member, attribute) == value)
            for name, member in self.members.items()
        )

    def wave_settled(self, target: str, wave: int) -> bool:
        """Tell whether all of a wave are settled."""
        return all(
            self.status[name] in SETTLED
            for name, member in self.members.items()
            if (member.target, member.wave) == (target, wave)
        )

    def waves(self, target: str) -> int:
        """Count a target's waves."""
        return max((member.wave for member in self.members.values() if member.target == target), default=0)

    def cap(self, cap: NeverMoreThan, target: str | None) -> int:
        """Return what `never_more_than` allows by now."""
        share = Share(percent=cap.of_verified)
        return max(cap.at_least, floor_of(share, self.count("verified", target)))

    # -- verdicts -----------------------------------------------------------------------------------

    def spent(self) -> Iterator[str]:
        """Yield the budgets that are spent: the run has to be held."""
        if self.everybody:
            yield "everybody"
        for target in self.settings.targets:
            size = sum(member.target == target.name for member in self.members.values())
            if self.unforgiven(target.name) > floor_of(target.rollout.hold_after, size):
                yield f"hold_after {target.name}"
            if self.row.get(target.name, 0) >= (target.rollout.in_a_row or 10**9):
                yield f"in_a_row {target.name}"
        budget = self.settings.budget
        if budget.hold_after is not None and self.unforgiven() > floor_of(
            budget.hold_after, len(self.members)
        ):
            yield "hold_after"
        if self.row.get("", 0) >= (budget.in_a_row or 10**9):
            yield "in_a_row"

    def between(self, target: str, before: int) -> Iterator[str]:
        """Yield what is still to happen after the waves of a target before number *before*."""
        rollout = self.plan(target).rollout
        for wave in range(1, before):
            if not self.wave_settled(target, wave):
                yield f"wave {wave} of {target}"
                continue
            if rollout.bake_s and (target, wave) not in self.baked:
                yield f"bake {wave} of {target}"
            if wave in rollout.approve_after and (target, wave) not in self.approved:
                yield f"approval {wave} of {target}"

    def turn(self, name: str) -> list[str]:
        """Return what has to happen before it is a server's turn."""
        member = self.members[name]
        needs = self.plan(member.target).needs
        if needs is None:
            names = [each.name for each in self.settings.targets]
            needs = tuple(names[: names.index(member.target)])
        before = [what for need in needs for what in self.between(need, self.waves(need) + 1)]
        return before + list(self.between(member.target, member.wave))

    def why_not(self, name: str, outside: Outside) -> list[str]:  # noqa: C901, PLR0912 - one limit after another
        """Return everything that forbids to start a waiting server now."""
        member = self.members[name]
        plan, settings, target = self.plan(member.target), self.settings, member.target
        rollout = plan.rollout
        found = [word for word, given in (("held", self.held), ("drained", self.drained)) if given]
        found += [f"spent {what}" for what in self.spent()]
        found += self.turn(name)
        if outside.closed is not None:
            found.append("closed")
        server = Stand(member)
        if outside.closes_at is not None:
            left_s = (outside.closes_at - outside.now).total_seconds()
            if outside.expected_s(server) > left_s:  # type: ignore[arg-type]  # all that it looks at
                found.append("would end")
        for group in self.groups:
            if all(value_of(member, attribute) == value for attribute, value in group.items()):
                found.append("group")
        flying = self.count("flying", target)
        if flying >= min(rollout.concurrency, self.pace.get(target, 10**9)):
            found.append("concurrency")
        if settings.concurrency is not None and self.count("flying") >= max(
            settings.concurrency, *(each.rollout.concurrency for each in settings.targets)
        ):
            found.append("concurrency of the plan")
        most = settings.limits.draining
        if most is not None and plan.hooks.around_server and len(self.draining) >= most:
            found.append("draining")
        if not self.is_out(name):  # it takes no new room otherwise
            size = sum(each.target == target for each in self.members.values())
            most = rollout.max_unavailable
            if most is not None and self.out(target=target) >= floor_of(most, size):
                found.append("max_unavailable")
            for attribute, limit in rollout.spread.items():
                if self.out(attribute=attribute, value=value_of(member, attribute)) >= limit:
                    found.append(f"spread {attribute}")
        for cap, whose in ((rollout.never_more_than, target), (settings.budget.never_more_than, None)):
            if cap is not None and self.count("failed", whose) + self.count("flying", whose) >= self.cap(
                cap, whose
            ):
                found.append("never_more_than")
        return found

    def is_true(self, words: str, name: str, outside: Outside) -> bool:  # noqa: C901, PLR0912 - a table
        """Tell whether what is said about a waiting server is so, figures and all."""
        member, why = self.members[name], self.why_not(name, outside)
        target = member.target
        if words == f"held: {self.held}":
            return bool(self.held)
        if words == f"drained: {self.drained}":
            return bool(self.drained)
        if words == outside.closed:
            return True
        if found := re.fullmatch(r"waits for target (\S+)", words):
            return any(what.endswith(f"of {found[1]}") for what in why) and found[1] != target
        if found := re.fullmatch(r"waits for wave (\d+)", words):
            return f"wave {found[1]} of {target}" in why
        if found := re.fullmatch(r"wave (\d+) of (\S+) bakes", words):
            return f"bake {found[1]} of {found[2]}" in why
        if found := re.fullmatch(r"waits for approval after wave (\d+) of (\S+)", words):
            return f"approval {found[1]} of {found[2]}" in why
        if found := re.fullmatch(r"concurrency (\d+) is reached(, lowered since .*)?", words):
            return "concurrency" in why and self.count("flying", target) >= int(found[1])
        if found := re.fullmatch(r"concurrency (\d+) of the plan is reached", words):
            return "concurrency of the plan" in why
        if found := re.fullmatch(r"(\d+) are being drained", words):
            return "draining" in why and len(self.draining) >= int(found[1])
        if found := re.fullmatch(r"max_unavailable (\d+): (\d+) of (\S+) are out of service", words):
            return "max_unavailable" in why and int(found[2]) == self.out(target=found[3]) >= int(found[1])
        if found := re.fullmatch(
            r"never_more_than (\d+) with (\d+) verified: (\d+) failed, (\d+) in flight", words
        ):
            said = tuple(int(part) for part in found.groups()[1:])
            true = [
                tuple(self.count(word, whose) for word in ("verified", "failed", "flying"))
                for whose in (target, None)
            ]
            return "never_more_than" in why and said in true and said[1] + said[2] >= int(found[1])
        if found := re.fullmatch(r"(.+) is at its limit: (\d+) out of service", words):
            return any(what.startswith("spread") for what in why)
        if " is held: " in words:
            return "group" in why
        return words.startswith("would end ") and "would end" in why


class Stand:
    """What an expectation looks at of a server."""

    def __init__(self, member: ev.Member) -> None:
        self.member = member


def value_of(member: ev.Member, attribute: str) -> str:
    """Return a server's value of an attribute."""
    if attribute.startswith("tag:"):
        return member.tags.get(attribute[4:], "")
    return {"availability_zone": member.zone, "flavor": member.flavor, "image": member.image}[attribute]
