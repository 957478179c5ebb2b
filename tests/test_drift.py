"""What a selection of today would have otherwise than the run."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace
from rollout_support import open_run, target

from fleet.core.drift import drift
from fleet.core.model import Server, ServerId
from fleet.core.settings import Select
from fleet.core.state import Run

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def a_run(servers: int = 3) -> Run:
    chosen = replace(target(), select=Select(name=("web-*",)))
    return open_run((chosen, servers))


def shown(*names: str) -> list[Server]:
    return [Server(id=ServerId(name.partition("=")[0]), name=name.rpartition("=")[2]) for name in names]


def words(run: Run, *names: str) -> list[str]:
    return drift(run, shown(*names), list(run.servers.values()), NOW)


def test_the_same_list_is_no_drift() -> None:
    assert words(a_run(), "web-1", "web-2", "web-3", "db-1") == []


def test_who_came_who_went_who_changed() -> None:
    """By id, since names may be given again; a rename takes a server out of the selection."""
    assert words(a_run(), "web-1", "web-2=old-2", "web-8", "web-9") == [
        "web-8, web-9 would be selected now, and are not in this run",
        "web-3 is not there any more",
        "web-2 would not be selected now: name is not web-*",
    ]


def test_what_is_being_built_is_not_told() -> None:
    """A cloud may make a server of its own for each reinstall, much like the one in flight."""
    run = a_run()
    servers = [*shown("web-1", "web-2", "web-3"), replace(shown("web-2-temp")[0], status="BUILD")]
    assert drift(run, servers, list(run.servers.values()), NOW) == []
    built = [replace(each, status="ACTIVE") for each in servers]
    assert drift(run, built, list(run.servers.values()), NOW) == [
        "web-2-temp would be selected now, and is not in this run"
    ]


def test_many_are_counted() -> None:
    found = words(a_run(9), *(f"x-{n}" for n in range(3)))
    assert found == ["web-1, web-2, web-3, web-4, web-5 and 4 more are not there any more"]


def test_the_run_s_limit_counts() -> None:
    run = a_run()
    run.opened = replace(run.opened, limit=("web-1", "web-2", "web-3"))
    assert words(run, "web-1", "web-2", "web-3", "web-4") == []
