"""A run as an Ansible inventory, and as plain names for a pipe: whom to configure next, whom to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from fleet.core.state import Run, ServerState
from fleet.report.figures import KEYS, PLACES, amounts_to, figures

GROUPS = KEYS
"""Every server is in exactly one of them; the same words as the figures of `fleet status`."""


def as_inventory(run: Run) -> dict[str, Any]:
    """Return an inventory file (JSON is YAML): hosts by outcome, with address, id, target and wave.

    This is the form of a file, which differs from what ``ansible-inventory --list`` prints: that one only a
    program may give. A host is called by its server's name; where two share a name, or there is none, by the
    id.

    Raises:
        Miscounted: A host is missing; a defect of ours.
    """
    groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for host, server in _named(run):
        member = server.member
        facts: dict[str, Any] = {
            "fleet_id": server.id,
            "fleet_phase": str(server.phase),
            "fleet_target": member.target,
            "fleet_wave": member.wave,
        }
        if member.addresses:
            facts["ansible_host"] = member.addresses[0]
        groups[PLACES[server.phase]][host] = facts
    found = figures(run)
    for name, hosts in groups.items():
        amounts_to(found, name, len(hosts), "hosts")
    return {"all": {"children": {name: {"hosts": hosts} for name, hosts in groups.items()}}}


def names(run: Run, only: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the names of servers, of the groups named in *only* or of all, in the order of the rollout."""
    for host, server in _named(run):
        if not only or PLACES[server.phase] in only:
            yield host


def _named(run: Run) -> Iterator[tuple[str, ServerState]]:
    often = Counter(server.member.name for server in run.servers.values())
    for server in run.servers.values():
        name = server.member.name
        yield (name if name and often[name] == 1 else server.id), server
