"""Servers by what others know them by: the hosts of an inventory, and how long they have been there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from fleet.core.model import Server
from fleet.core.settings import Select
from fleet.errors import Problem

_NAMED = 5
_DAY_S = 86400


def listed(select: Select, server: Server) -> bool:
    """Tell whether the inventory of *select* has *server*, by its name or by one of its addresses."""
    return server.name in select.hosts or not _addresses(server).isdisjoint(select.hosts.values())


def too_young(select: Select, server: Server, now: datetime) -> str | None:
    """Return why *server* is not as old as *select* asks, or None when it is."""
    age = age_s(server, now)
    if age is None:
        return f"the cloud does not say when it was created, so that it is not known to be {_old(select)}"
    return None if age >= (select.older_than_s or 0) else f"created {_days(age)} ago: not {_old(select)}"


def age_s(server: Server, now: datetime) -> float | None:
    """Return for how long *server* has been there, or None when the cloud does not say."""
    try:
        created = datetime.fromisoformat(server.created)
    except ValueError:
        return None
    return (now - (created if created.tzinfo else created.replace(tzinfo=UTC))).total_seconds()


def _old(select: Select) -> str:
    return f"{_days(select.older_than_s or 0)} old"


def _days(seconds: float) -> str:
    if seconds < 2 * _DAY_S:
        return f"{seconds / 3600:.3g} hours"
    return f"{seconds / _DAY_S:.5g} days"


@lru_cache(maxsize=65536)
def _normal(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def _addresses(server: Server) -> set[str]:
    return {_normal(each) for each in (*server.addresses, *server.public_addresses)}


def unmatched(
    path: str, select: Select | None, servers: Sequence[Server], meant: Sequence[Server]
) -> Iterator[tuple[bool, Problem]]:
    """Yield what is odd about an inventory, and whether it is doubtful who is meant.

    Args:
        path: Where it stands in the plan.
        select: Whose inventory.
        servers: Everything that the cloud shows.
        meant: Those that the whole of *select* matches.
    """
    if select is None or not select.hosts:
        return
    known = _by_word(servers)
    missing = [host for host, address in select.hosts.items() if host not in known and address not in known]
    if missing:
        yield (
            False,
            Problem(
                f"the cloud shows no server for {_names(missing)} of the inventory, by name or address",
                hint="mistyped, deleted, or in another project or region",
                path=path,
            ),
        )
    found = _by_word(meant)
    for host, address in select.hosts.items():
        both = found.get(host, {}) | found.get(address, {})
        if len(both) > 1:
            told = _names([f"{each.label} ({each.id})" for each in both.values()])
            yield (
                True,
                Problem(
                    f"the host {host} of the inventory may be any of {told}",
                    hint="say which in the same selector, such as with vpc or tags, or list ids instead",
                    path=path,
                ),
            )


def _by_word(servers: Sequence[Server]) -> dict[str, dict[str, Server]]:
    """Return servers by id, by every name and address that a host may have."""
    found: dict[str, dict[str, Server]] = {}
    for server in servers:
        for word in (server.name, *_addresses(server)):
            found.setdefault(word, {})[server.id] = server
    return found


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
