"""What a plan says without meaning it, with the consequence: computed for these servers, not guessed. Pure.

Nothing here stops a run. Every sentence names what was written and what follows from it, so that the reader
can say "intended" and go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleet.core import pace
from fleet.core.events import Member
from fleet.core.model import Server, ServerId
from fleet.core.preflight import Finding
from fleet.core.select import LOWEST_NAMED
from fleet.core.settings import SHUFFLE, Amount, Settings, SshCheck, Target, TcpCheck
from fleet.core.state import attribute_of
from fleet.core.worst import TargetBound, WorstCase, plan_concurrency

LARGE = 20
"""From so many servers on it is worth a sentence that a single failure stops the night."""

SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class _About:
    """A target, and what its servers are."""

    settings: Settings
    target: Target
    members: Sequence[Member]
    bound: TargetBound

    @property
    def waves(self) -> list[int]:
        return [wave.servers for wave in self.bound.waves]


def lint(
    settings: Settings,
    members: Sequence[Member],
    worst: WorstCase,
    servers: Mapping[ServerId, Server],
) -> Iterator[Finding]:
    """Yield what is odd about a plan for *members*, the servers that will be started.

    Args:
        settings: The plan.
        members: In their waves.
        worst: Of the same servers.
        servers: The project's.
    """
    for target, bound in zip(settings.targets, worst.targets, strict=True):
        about = _About(settings, target, [each for each in members if each.target == target.name], bound)
        if not about.members:
            continue
        for check in (_concurrency, _budget, _waves, _values, _checks, _hooks, _login, _selection):
            for message, hint in check(about, servers):
                yield Finding(message, hint, target.name, stops=False)
    for message, hint in _plan(settings):
        yield Finding(message, hint, stops=False)


Said = Iterator[tuple[str, str]]


def say(message: str, hint: str = "") -> tuple[str, str]:
    """Make a sentence with its remedy."""
    return message, hint


def _concurrency(about: _About, _: object) -> Said:
    """Limits that keep `concurrency` from ever being reached."""
    asked = about.target.rollout.concurrency
    largest = max(about.waves)
    reached = about.bound.in_flight
    most = pace.most_by_rate(about.settings)
    if min(asked, largest) > most:
        rate = f"{about.settings.cloud.requests_per_second:g}"
        yield say(
            f"`requests_per_second: {rate}` lets {_servers(most)} be in flight, so `concurrency: {asked}` is "
            "never reached",
            "raise it to what the cloud allows, or lower concurrency to what will happen",
        )
        return
    if reached >= min(asked, largest):
        if largest < asked:
            yield say(
                f"no wave has more than {_servers(largest)}, so `concurrency: {asked}` is never reached",
                "larger waves, or leave it: it does no harm",
            )
        return
    by = max(about.bound.waves, key=lambda wave: wave.at_once).limited_by
    word, _, attribute = by.partition(" ")
    if word == "never_more_than":
        yield say(
            f"`never_more_than` never lets more than {reached} be in flight, so `concurrency: {asked}` is a "
            "dead letter",
            "raise of_verified, or lower concurrency to what will happen",
        )
    elif word == "spread":
        yield say(
            f"`spread` over {attribute} makes `concurrency: {asked}` never exceed {reached}",
            f"more per value of {attribute}, or lower concurrency to what will happen",
        )
    elif word == "max_unavailable":
        yield say(
            f"`max_unavailable: {_written(about.target.rollout.max_unavailable)}` makes "
            f"`concurrency: {asked}` never exceed {reached}",
            "failed servers that are left down count as well: each takes one more off",
        )


def _budget(about: _About, _: object) -> Said:
    """Budgets that hold at once, late, or never."""
    rollout, may, servers = about.target.rollout, about.bound.may_fail, about.bound.servers
    written = _written(rollout.hold_after)
    if may >= servers:
        yield say(
            f"`hold_after: {written}` lets all {servers} servers fail: nothing ever holds",
            "write how many you would be willing to lose",
        )
    elif (
        len(about.waves or ()) > 1
        and may >= about.waves[0]
        and 1 not in rollout.approve_after
        and (rollout.in_a_row is None or rollout.in_a_row > about.waves[0])
    ):
        yield say(
            f"`hold_after: {written}` lets the whole of wave 1 fail ({about.waves[0]} of {about.waves[0]}), "
            "and wave 2 starts all the same",
            "hold_after (short: max_failures) below the size of wave 1, in_a_row: 1, or approve_after: [1]",
        )
    elif may == 0 and servers >= LARGE:
        yield say(
            f"the first failure of {servers} servers holds, in wave 1 as in the last: intended?",
            "`hold_after: 2` would let two fail",
        )
    if rollout.in_a_row is not None and rollout.in_a_row > may + 1:
        yield say(
            f"`in_a_row: {rollout.in_a_row}` is a dead letter: the {ordinal(may + 1)} failure holds, "
            "in a row or not",
            "raise hold_after, or take in_a_row out",
        )


def _waves(about: _About, _: object) -> Said:
    """Things between waves that never happen."""
    rollout, count = about.target.rollout, len(about.waves)
    late = [number for number in rollout.approve_after if number >= count]
    if late:
        numbers = ", ".join(str(number) for number in late)
        yield say(
            f"`approve_after: [{numbers}]` never asks: there {_are(count, 'wave')}, "
            "and nothing follows the last",
            f"numbers from 1 to {count - 1}" if count > 1 else "more waves, or take it out",
        )
    if rollout.bake_s > 0 and count == 1:
        yield say(
            "`bake` never happens: there is 1 wave, and nothing follows it", "more waves, or take it out"
        )


def _values(about: _About, _: object) -> Said:
    """Attributes that servers lack."""
    rollout = about.target.rollout
    for attribute in rollout.spread:
        without = [each for each in about.members if not attribute_of(each, attribute)]
        if without:
            yield say(
                f"`spread` over {attribute}: {_servers(len(without))} of {len(about.members)} "
                f"{'lacks' if len(without) == 1 else 'lack'} it and count as one group ({_some(without)})",
                f"tag them, or no more than {rollout.spread[attribute]} of them are started at once",
            )
    for attribute in rollout.order:
        if attribute != SHUFFLE and attribute.startswith("tag:"):
            without = [each for each in about.members if not attribute_of(each, attribute)]
            if without:
                yield say(
                    f"`order` by {attribute}: {_servers(len(without))} of {len(about.members)} "
                    f"{'lacks' if len(without) == 1 else 'lack'} it and come last ({_some(without)})",
                )


def _checks(about: _About, _: object) -> Said:
    """Checks that prove less than they seem to."""
    checks = about.target.verify.checks
    if not checks:
        yield say(
            "no `checks`: a server counts as verified as soon as it is up on a new disk, whatever runs on it",
            "verify: {checks: [ssh: 22]} at least",
        )
    elif all(isinstance(each, TcpCheck | SshCheck) for each in checks):
        ports = ", ".join(
            f"`{'tcp' if isinstance(each, TcpCheck) else 'ssh'}: {each.port}`"
            for each in checks
            if isinstance(each, TcpCheck | SshCheck)
        )
        yield say(
            f"{ports} would also pass on the old system; that the disk is a new one covers it, but not that "
            "your user data was carried out",
            "an http or a command check that only the new system passes",
        )
    if about.target.reinstall.mode == "with-stop-server":
        yield say(
            "`mode: with-stop-server` takes away the cloud's own guard, "
            "that a running server is not reinstalled",
            "leave it out, unless stopping by hand does not work here",
        )


def _hooks(about: _About, _: object) -> Said:
    """Pairs that do not undo what they do."""
    for around in about.target.hooks.around_server:
        name = around.do[0].rsplit("/", 1)[-1]
        if around.undo[0].rsplit("/", 1)[-1] in {"true", ":", "false"}:
            yield say(
                f"nothing returns what `do: {name}` does: its undo is `{around.undo[0].rsplit('/', 1)[-1]}`",
                "name what gives the server back",
            )
        elif around.undo == around.do:
            yield say(
                f"`do` and `undo` are the same command ({name}): the server is not given back",
                "name what undoes it",
            )


def _login(about: _About, servers: Mapping[ServerId, Server]) -> Said:
    """A key pair that looks mistyped."""
    name = about.target.reinstall.key_pair
    have = Counter(each.key_pair for each in servers.values() if each.key_pair)
    if name and have and not have[name]:
        own = Counter(servers[each.id].key_pair for each in about.members if each.id in servers)
        usual = next((key for key, _ in own.most_common() if key), "")
        yield say(
            f"key pair {name!r} is on none of the project's {len(servers)} servers"
            + (f"; these have {usual!r} now" if usual else ""),
            "right, if it is a new one",
        )


def _selection(about: _About, _: object) -> Said:
    """Selectors that may grow unnoticed."""
    target = about.target
    if target.expect_max is None and not target.select.ids and len(about.members) >= LOWEST_NAMED:
        yield say(
            "no `expect`: a selector that matches ten times as many tomorrow is not noticed",
            f"expect: {{max: {_round_up(len(about.members))}}}",
        )


def _plan(settings: Settings) -> Said:
    """The plan as a whole."""
    bound = plan_concurrency(settings)
    if bound is not None and settings.concurrency is not None and bound > settings.concurrency:
        names = [each.name for each in settings.targets if each.rollout.concurrency > settings.concurrency]
        yield say(
            f"`concurrency: {settings.concurrency}` of the plan gives way to target {' and '.join(names)}, "
            f"which {'asks' if len(names) == 1 else 'ask'} for more: up to {bound} servers of all at once",
            "",
        )
    if settings.limits.draining is not None and not any(
        target.hooks.around_server for target in settings.targets
    ):
        yield say("`limits.draining` bounds nothing: no target has `around_server` hooks", "take it out")
    most = max((target.rollout.concurrency for target in settings.targets), default=0)
    for name in ("draining", "booting"):
        limit = getattr(settings.limits, name)
        if limit is not None and limit >= (bound or most) and len(settings.targets) == 1:
            yield (f"`limits.{name}: {limit}` bounds nothing: no more are in flight at once", "lower it")
    if settings.budget.in_a_row is not None and len(settings.targets) == 1:
        own = settings.targets[0].rollout.in_a_row
        if own is not None and own <= settings.budget.in_a_row:
            yield say("`failures.in_a_row` of the plan is a dead letter: the target's own holds first", "")


# -- words ----------------------------------------------------------------------------------------------


def ordinal(number: int) -> str:
    """Write ``1st``, ``2nd``, ``3rd``, ``4th``.

    >>> [ordinal(number) for number in (1, 2, 3, 11, 22)]
    ['1st', '2nd', '3rd', '11th', '22nd']
    """
    if number % 100 in {11, 12, 13}:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def _written(amount: Amount | None) -> str:
    return str(amount)


def _servers(count: int) -> str:
    return "1 server" if count == 1 else f"{count} servers"


def _are(count: int, what: str) -> str:
    return f"is 1 {what}" if count == 1 else f"are {count} {what}s"


def _some(members: Sequence[Member]) -> str:
    told = ", ".join(each.name or each.id for each in members[:3])
    return f"{told}, …" if len(members) > len(members[:3]) else told


def _round_up(count: int) -> int:
    """Return a figure with a little room: 63 → 70, 412 → 450."""
    step = 10 if count < 100 else 50 if count < 1000 else 100
    return (count // step + 1) * step
