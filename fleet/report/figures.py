"""The figures of a run, counted in two ways, so that nobody is forgotten and nobody counted twice.

Every surface takes them from here: status, live display, heartbeat, list of runs, report in each of its
forms. What does not add up is a defect of ours and no figure: commands that read raise `Miscounted`, and what
goes on beside a run at work says it in the figures' place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from fleet.core.state import IN_FLIGHT, Phase, Run

PLACES: dict[Phase, str] = {
    Phase.VERIFIED: "verified",
    Phase.FAILED: "failed",
    Phase.SKIPPED: "skipped",
    **dict.fromkeys((phase for phase in Phase if phase in IN_FLIGHT), "in_flight"),
    Phase.REQUESTED: "in_doubt",
    Phase.WAITING: "never_touched",
}
"""Where a server of each phase is counted."""

KEYS = ("verified", "failed", "skipped", "in_flight", "in_doubt", "never_touched")


class Miscounted(RuntimeError):
    """Figures that do not add up: a defect of ours."""


def figures(run: Run, *, quick: bool = False) -> dict[str, int]:
    """Return the counts that add up: selected = all the others together.

    Args:
        run: Whose.
        quick: Compare the run's own counts with its size, and look at no server: for what is drawn often.

    Raises:
        Miscounted: They do not add up, or the servers themselves say otherwise.
    """
    counts = run.counts()
    found = {"selected": len(run.servers), **_placed(counts)}
    add_up(found)
    if not quick:
        seen = _placed(Counter(server.phase for server in run.servers.values()))
        for key in KEYS:
            amounts_to(found, key, seen[key], "servers")
    return found


def counted(run: Run) -> tuple[dict[str, int] | None, str]:
    """Return the figures, or None and what is wrong with them: for what goes on beside a run at work."""
    try:
        return figures(run), ""
    except Miscounted as error:
        return None, f"a defect of fleet: {error}"


def _placed(counts: Mapping[Phase, int]) -> dict[str, int]:
    placed = dict.fromkeys(KEYS, 0)
    for phase, count in counts.items():
        placed[PLACES[phase]] += count
    return placed


def add_up(found: Mapping[str, int]) -> None:
    """Raise `Miscounted` unless selected is all the others together, and none of them is negative."""
    if found["selected"] != sum(found[key] for key in KEYS) or min(found.values()) < 0:
        raise Miscounted(f"the figures do not add up: {_sum(found)}")


def amounts_to(found: Mapping[str, int], key: str, count: int, what: str) -> None:
    """Raise `Miscounted` unless a list that is shown is as long as its figure says.

    Args:
        found: The figures.
        key: Of the one, or of several with ``+`` between them.
        count: How long the list is.
        what: What it is a list of.
    """
    wanted = sum(found[each] for each in key.split("+"))
    if count != wanted:
        raise Miscounted(f"the figures do not add up: {wanted} {key}, and {count} {what} ({_sum(found)})")


def rows_amount_to(found: Mapping[str, int], phases: Iterable[str]) -> None:
    """Raise `Miscounted` unless a table with a row a server, of these phases, amounts to the figures."""
    add_up(found)
    rows = Counter(phases)
    amounts_to(found, "selected", rows.total(), "rows")
    placed = _placed({Phase(phase): count for phase, count in rows.items()})
    for key in KEYS:
        amounts_to(found, key, placed[key], "rows")


def sentence(found: Mapping[str, int], *, brief: bool = False) -> str:
    """Return figures in one line; *brief* leaves out the zeros."""
    add_up(found)
    return _sum(found, brief=brief)


def _sum(found: Mapping[str, int], *, brief: bool = False) -> str:
    parts = [f"{found[key]} {key.replace('_', ' ')}" for key in KEYS if found[key] or not brief]
    return f"{found['selected']} servers = {' + '.join(parts) or 0}"


def headline(run: Run, *, brief: bool = False, quick: bool = False) -> str:
    """Return the figures in one line, or that they do not add up: never raises, since it ends no run."""
    try:
        return sentence(figures(run, quick=quick), brief=brief)
    except Miscounted as error:
        return f"a defect of fleet: {error}"
