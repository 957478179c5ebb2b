"""Which parts of a plan ask for behaviour that is not built yet.

Such a plan is valid: it is checked to the last field. But whoever writes `windows:` and gets a run at noon
has been deceived, so previews and runs refuse, by name.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.errors import Problem
from fleet.plan.merge import Entry
from fleet.plan.reader import Document, Loc

_IN_SELECT = {"older_than": "selecting by age", "inventory": "selecting from an inventory"}


def unbuilt(document: Document, entries: list[Entry]) -> tuple[Problem, ...]:
    """Return a problem for every part of the plan that nothing would act upon."""
    found = [(loc, what) for loc, what in _asked(entries) if _asks(document.get(*loc))]
    return tuple(
        document.problem(
            loc, f"{what}: not built yet", "take it out; until it is built it would be ignored", at_key=True
        )
        for loc, what in dict(found).items()
    )


def _asks(value: object) -> bool:
    """Tell whether a value asks for anything: an empty list and no time at all do not."""
    return value not in (None, [], {}, "0s", "0m")


def _asked(entries: list[Entry]) -> Iterator[tuple[Loc, str]]:
    for place in [("protect",), *((*entry.loc, part) for entry in entries for part in ("select", "exclude"))]:
        for name, what in _IN_SELECT.items():
            yield (*place, name), what
