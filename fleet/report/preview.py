"""What a run would do: at worst, in which waves, to whom, and what speaks against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from fleet.core.lint import ordinal
from fleet.core.rounds import End
from fleet.core.settings import COVER, SHUFFLE, Target
from fleet.core.waves import Cover, ServerKind, cover_of
from fleet.core.worst import ZONE, GroupBound, TargetBound, WorstCase
from fleet.report.outlook import Outlook, duration
from fleet.survey import Survey

_NAMES = 8
_KINDS = 5

NO_CLAIM = (
    "runs on other machines are seen only by what they do to a server (its task, power and disk): "
    "`claim: true` makes them see each other"
)


def as_text(found: Survey, *, everything: bool = False, outlook: Outlook | None = None) -> Iterator[str]:
    """Yield the lines for people: first the worst, last what is odd."""
    worst = found.worst
    yield f"cloud: {found.identity.cloud}, as {found.identity.user_name}"
    count = worst.servers
    yield f"{_servers(count)} will be reinstalled" + ("; every system disk is wiped" if count else "")
    yield from _worst(worst)
    if outlook is not None and count:
        yield from _when(outlook)
    for target, bound in zip(found.settings.targets, worst.targets, strict=True):
        yield from _target(found, target, bound, everything=everything)
    if SHUFFLE in {key for target in found.settings.targets for key in target.rollout.order}:
        yield f"order: shuffled by {found.seed}; another run draws another number, a manifest keeps it"
    yield from _left_out(found, everything=everything)
    if not found.settings.claim:
        yield NO_CLAIM
    for difference in found.differences:
        yield f"not as in the manifest: {one_line(difference)}"
    for problem in found.resolution.warnings:
        yield f"warning: {problem}"
    # What stops the run is raised as an error, by `Survey.refuse`.
    fits = outlook.findings() if outlook else ()
    for finding in (*found.warnings, *found.oddities, *fits):
        yield f"warning: {finding}"


def one_line(text: str) -> str:
    r"""Return foreign text as one line: a name with a line break in it must not forge a second one.

    >>> one_line("web-1\nweb-2")
    'web-1\\nweb-2'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _servers(count: int) -> str:
    return "1 server" if count == 1 else f"{count} servers"


# -- at worst -------------------------------------------------------------------------------------------


def _worst(worst: WorstCase) -> Iterator[str]:
    if not worst.servers:
        return
    yield "at worst, until a person releases or retries:"
    rows = [("in flight at once", f"{worst.in_flight} of {worst.servers}", "")]
    rows.append(
        ("out of service at once", f"{worst.out} of {worst.servers}", "in flight, or failed and left down")
    )
    rows += [_group(group) for group in worst.groups]
    rows.append(("lost before it holds", f"{worst.lost} of {worst.servers}", _holds(worst)))
    yield from _table(rows)


def _group(group: GroupBound) -> tuple[str, str, str]:
    what = "zone" if group.attribute == ZONE else group.attribute
    return f"… in one {what}", f"{group.out} of {group.servers}", one_line(group.value) or f"no {what}"


def _holds(worst: WorstCase) -> str:
    begun = [bound for bound in worst.targets if bound.servers]
    said = [
        f"the {ordinal(bound.may_fail + 1)} failure{f' of {bound.name}' if len(begun) > 1 else ''} holds"
        for bound in begun
        if bound.may_fail < bound.servers
    ]
    return ", ".join(said) or "nothing holds"


def _when(outlook: Outlook) -> Iterator[str]:
    each = ", ".join(
        f"{duration(seconds)} {f'a server of {name}' if len(outlook.each) > 1 else 'a server'}"
        for name, seconds in outlook.each.items()
    )
    waits = "; approvals are waited for besides" if outlook.approvals else ""
    rows = [
        ("expected end", _end(outlook.expected, outlook), f"{each}, {outlook.source}{waits}"),
        ("last possible end", _end(outlook.latest, outlook), "if every server used up its time-outs"),
    ]
    yield from _table(rows)


def _end(end: End, outlook: Outlook) -> str:
    if end.at is None:
        return "never"
    at = end.at.astimezone(outlook.zone)
    nights = f", {ordinal(end.nights)} window" if end.nights > 1 else ""
    return f"{at:%a %d %b %H:%M %Z}{nights}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows in columns, two spaces in."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()


# -- one target -----------------------------------------------------------------------------------------


def _target(found: Survey, target: Target, bound: TargetBound, *, everything: bool) -> Iterator[str]:
    members = [member for member in found.started if member.target == target.name]
    waves = "1 wave" if len(bound.waves) == 1 else f"{len(bound.waves)} waves"
    yield f"{target.name}: {_servers(len(members))} in {waves}, at most {bound.in_flight} in flight"
    if not members:
        return
    calls = Counter(str(member.call) for member in members)
    yield f"  calls: {', '.join(f'{count} x {call}' for call, count in calls.items())}"
    login = f"key pair {target.reinstall.key_pair}" if target.reinstall.key_pair else "an admin password"
    data = target.reinstall.user_data
    sent = f"{data.size} bytes ({data.path or data.kind})" if data else "none"
    yield f"  login: {login}; user data: {sent}"
    names: dict[int, list[str]] = {}
    kinds: dict[int, list[ServerKind]] = {}
    for member in members:
        names.setdefault(member.wave, []).append(one_line(member.name or member.id))
        if member.id in found.kinds:
            kinds.setdefault(member.wave, []).append(found.kinds[member.id])
    late = any(wave.if_late is not None for wave in bound.waves)
    head = ["wave", "servers", "at once", "limited by", "lost at worst"]
    rows = [(*head, "if seen at the bake only", "who") if late else (*head, "who")]
    for wave in bound.waves:
        row = [str(wave.number), str(wave.servers), str(wave.at_once), wave.limited_by, str(wave.lost)]
        more = ["" if wave.if_late is None else str(wave.if_late)] if late else []
        rows.append((*row, *more, _some(names[wave.number], everything)))
    yield from _table(rows)
    yield from _cover(target, cover_of([kinds[number] for number in sorted(kinds)]), everything=everything)


def _cover(target: Target, cover: Cover, *, everything: bool) -> Iterator[str]:
    """Say what the first wave stands for: what is wrong with a kind that it lacks shows in a later one."""
    if cover.kinds < 2:
        return
    if not cover.missing:
        yield f"  wave 1 has all {cover.kinds} kinds of server (image, flavor, zone and user data together)"
        return
    met = cover.kinds - len(cover.missing)
    instead = "" if target.rollout.waves[0] == COVER else f"; `waves: [{COVER}, …]` would take {cover.kinds}"
    yield (
        f"  wave 1 has {met} of {cover.kinds} kinds of server (image, flavor, zone and user data together)"
        f"{instead}. Not in it:"
    )
    shown = cover.missing if everything else cover.missing[:_KINDS]
    for kind, number in shown:
        yield f"    {one_line(str(kind))}: first in wave {number}"
    if len(shown) < len(cover.missing):
        yield f"    … and {len(cover.missing) - len(shown)} more; --all shows them"


def _some(names: Sequence[str], everything: bool) -> str:  # noqa: FBT001 - private to this page
    if everything or len(names) <= _NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: _NAMES - 2])}, … {names[-1]} ({len(names)})"


def _left_out(found: Survey, *, everything: bool) -> Iterator[str]:
    reasons = Counter(found.resolution.left_out.values())
    if reasons:
        yield f"left out: {sum(reasons.values())}"
        names: dict[str, list[str]] = {}
        for server, reason in found.resolution.left_out.items():
            label = found.servers[server].label if server in found.servers else server
            names.setdefault(reason, []).append(one_line(label))
        for reason, count in reasons.most_common(None if everything else 12):
            yield f"  {count} x {one_line(reason)}: {_some(names[reason], everything)}"
    if found.skipped and not found.manifest:  # there they are differences
        labels = {member.id: member.name or member.id for member in found.members}
        yield f"skipped: {len(found.skipped)}"
        skipped: dict[str, list[str]] = {}
        for server, reason in found.skipped.items():
            skipped.setdefault(reason, []).append(one_line(labels.get(server, server)))
        for reason, who in skipped.items():
            yield f"  {_some(who, everything)}: {one_line(reason)}"


# -- for a pipe -----------------------------------------------------------------------------------------


def worst_data(worst: WorstCase) -> dict[str, Any]:
    """Return the worst case for JSON."""
    return {
        "servers": worst.servers,
        "in_flight": worst.in_flight,
        "out_of_service": worst.out,
        "lost": worst.lost,
        "groups": [
            {
                "attribute": group.attribute,
                "value": group.value,
                "out_of_service": group.out,
                "of": group.servers,
            }
            for group in worst.groups
        ],
        "targets": {
            bound.name: {
                "in_flight": bound.in_flight,
                "out_of_service": bound.out,
                "lost": bound.out,
                "holds_at_failure": bound.may_fail + 1,
                "waves": [
                    {
                        "servers": wave.servers,
                        "in_flight": wave.at_once,
                        "limited_by": wave.limited_by,
                        "lost": wave.lost,
                        "lost_if_seen_at_the_bake": wave.if_late,
                    }
                    for wave in bound.waves
                ],
            }
            for bound in worst.targets
        },
    }


def as_data(found: Survey, *, outlook: Outlook | None = None) -> dict[str, Any]:
    """Return everything, for JSON. No secret is in it."""
    worst = found.worst
    odd = (*found.oddities, *(outlook.findings() if outlook else ()))
    return {
        "plan": found.settings.plan,
        "cloud": found.identity.cloud,
        "user": found.identity.user_name,
        "worst_case": worst_data(worst),
        "forecast": outlook.as_data() if outlook else None,
        "targets": [
            {
                "name": bound.name,
                "servers": bound.servers,
                "waves": [wave.servers for wave in bound.waves],
                "most_in_flight": bound.in_flight,
                "most_lost": bound.out,
            }
            for bound in worst.targets
        ],
        "servers": [
            {
                "id": m.id,
                "name": m.name,
                "target": m.target,
                "wave": m.wave,
                "call": str(m.call),
                "image": m.image,
            }
            for m in found.members
        ],
        "seed": found.seed,
        "left_out": [
            {
                "id": server,
                "name": found.servers[server].name if server in found.servers else "",
                "reason": reason,
            }
            for server, reason in found.resolution.left_out.items()
        ],
        "skipped": dict(found.skipped),
        "manifest": found.manifest or None,
        "differences": list(found.differences),
        "problems": [str(problem) for problem in found.resolution.problems],
        "findings": [
            {"target": f.target, "server": f.server, "message": f.message, "hint": f.hint, "stops": f.stops}
            for f in found.findings
        ],
        "lint": [{"target": f.target, "message": f.message, "hint": f.hint} for f in odd],
    }
