"""Which parts of a plan ask for behaviour that is not built yet.

Such a plan is valid: it is checked to the last field. But whoever writes `windows:` and gets a run at noon
has been deceived, so previews and runs refuse, by name.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.errors import Problem
from fleet.plan.merge import Entry
from fleet.plan.reader import Document, Loc

_EVERYWHERE = {
    "windows": "windows",
    "freeze": "frozen dates",
    "gates": "gates",
    "notify": "notifications",
}
_IN_ROLLOUT = {
    "max_unavailable": "a bound on servers out of service",
    "spread": "spreading over an attribute",
    "bake": "waiting between waves",
    "approve_after": "approvals",
}
_IN_FAILURES = {
    "in_a_row": "holding after failures in a row",
    "never_more_than": "a failure cap that opens with evidence",
}
_IN_SELECT = {"older_than": "selecting by age", "inventory": "selecting from an inventory"}


def unbuilt(document: Document, entries: list[Entry]) -> tuple[Problem, ...]:
    """Return a problem for every part of the plan that nothing would act upon."""
    found = [(loc, what) for loc, what in _asked(document, entries) if _asks(document.get(*loc))]
    return tuple(
        document.problem(
            loc, f"{what}: not built yet", "take it out; until it is built it would be ignored", at_key=True
        )
        for loc, what in dict(found).items()
    )


def _asks(value: object) -> bool:
    """Tell whether a value asks for anything: an empty list and no time at all do not."""
    return value not in (None, [], {}, "0s", "0m")


def _asked(document: Document, entries: list[Entry]) -> Iterator[tuple[Loc, str]]:
    for name, what in _EVERYWHERE.items():
        yield (name,), what
    yield ("cloud", "profile"), "profiles of clouds.yaml"
    if document.get("cloud", "provider") == "openstack":
        yield ("cloud", "provider"), "the provider openstack"
    places: list[Loc] = list(dict.fromkeys([(), ("defaults",), *(entry.loc for entry in entries)]))
    for place in places:
        for name, what in _IN_ROLLOUT.items():
            yield (*place, "rollout", name), what
        for name, what in _IN_FAILURES.items():
            yield (*place, "rollout", "failures", name), what
        waves = document.get(*place, "rollout", "waves")
        if waves == "cover" or (isinstance(waves, list) and "cover" in waves):
            yield (*place, "rollout", "waves"), "the wave `cover`"
        for name in ("around_server", "on_failure"):
            yield (*place, "hooks", name), f"hooks ({name})"
    for place in [("protect",), *((*entry.loc, part) for entry in entries for part in ("select", "exclude"))]:
        for name, what in _IN_SELECT.items():
            yield (*place, name), what


def needs_unbuilt(document: Document, entries: list[Entry]) -> Iterator[Problem]:
    """Yield a problem for every `needs` that asks for another order than the one of the file.

    Unlike other empty lists, ``needs: []`` asks for something: to start at once.
    """
    before: list[str] = []
    for entry in entries:
        loc = (*entry.loc, "needs")
        needs = entry.target.needs if entry.target else None
        if entry.loc and needs is not None and needs != before:
            yield document.problem(
                loc,
                "needs: not built yet",
                "take it out: targets follow one another in the order of the file",
                at_key=True,
            )
        before = [entry.name]
