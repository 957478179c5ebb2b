"""An unkind cloud over real HTTP: answers lost, connections cut, throttling, tokens that expire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from process_support import fleet_on, fleet_text, once_each, plan_text

pytestmark = pytest.mark.process


def test_an_answer_lost_after_acceptance_is_found_by_looking(tmp_path: Path) -> None:
    """The cloud did the work and hung up: the server is watched, and not asked for again."""
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        cloud.order({"kind": "answer-lost", "when": {"server": "web-2"}})
        done = fleet("run", fleet.plan(plan_text()), "--yes")
        assert done.code == 0, done.err
        assert fleet.count("ReinstallUnanswered") == 1
        assert len(cloud.calls("reinstall")) == 3
        assert cloud.reinstalls() == cloud.wipes() == once_each(3)


@pytest.mark.parametrize("fault", ["answer-lost", "cut-before", "lands-late"])
def test_killed_in_doubt_the_next_life_looks_first(tmp_path: Path, fault: str) -> None:
    """Lost, never arrived, or landing late: a crash in the middle of the doubt changes nothing."""
    text = fleet_text(2, speed=100, more="durations: {queue: {median_s: 200, sigma: 0}}")
    with fleet_on(tmp_path, text) as (fleet, cloud):
        cloud.order({"kind": fault, "when": {"server": "web-1"}})
        plan = fleet.plan(plan_text(settle="3s"))
        child = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallUnanswered", child=child)
        child.kill()
        status = fleet("status", "-o", "json")
        assert status.data["figures"]["in_doubt"] == 1
        assert [server["name"] for server in status.data["servers"] if server["in_doubt"]] == ["web-1"]
        done = fleet("run", plan, "--yes")
        assert done.code == 0, done.err
        assert "1 of them in doubt" in done.err
        assert cloud.reinstalls() == cloud.wipes() == once_each(2)


FAULTS: list[tuple[str, list[dict[str, Any]]]] = [
    ("cut before it arrived", [{"kind": "cut-before", "when": {"server": "web-2"}}]),
    (
        "nobody listens for a while",
        [{"kind": "unreachable", "when": {"call": "any", "for_s": 60, "nth": 12}}],
    ),
    ("503 on reads", [{"kind": "error-burst", "status": 503, "when": {"call": "show", "count": 2}}]),
    ("502 on everything", [{"kind": "error-burst", "status": 502, "when": {"for_s": 60, "nth": 15}}]),
    (
        "503 on the reinstall, not taken",
        [{"kind": "error-burst", "status": 503, "when": {"call": "reinstall"}}],
    ),
    (
        "500 on the reinstall, taken",
        [{"kind": "error-burst", "status": 500, "accepted": True, "when": {"call": "reinstall"}}],
    ),
    (
        "429 with Retry-After",
        [{"kind": "error-burst", "status": 429, "retry_after_s": 1, "when": {"nth": 9, "count": 2}}],
    ),
    ("429 on the reinstall", [{"kind": "flow-limit", "when": {"call": "reinstall", "count": 1}}]),
    ("the token expires", [{"kind": "token-expiry", "when": {"call": "reinstall", "nth": 2}}]),
    ("a page of HTML", [{"kind": "html", "when": {"call": "show", "nth": 2}}]),
    ("HTML for a call that was taken", [{"kind": "html", "accepted": True, "when": {"call": "reinstall"}}]),
]  # fmt: skip


@pytest.mark.parametrize("faults", [orders for _, orders in FAULTS], ids=[name for name, _ in FAULTS])
def test_a_bad_night_ends_well(tmp_path: Path, faults: list[dict[str, Any]]) -> None:
    """Throttled, cut off, logged out: it takes longer, nobody fails, nobody is wiped twice."""
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        cloud.order(*faults)
        done = fleet("run", fleet.plan(plan_text()), "--yes")
        assert done.code == 0, done.err
        assert cloud.reinstalls() == cloud.wipes() == once_each(4)


def test_a_cloud_that_cannot_be_used_is_exit_8(tmp_path: Path) -> None:
    """Nobody listens; wrong credentials; no address at all. Nothing was touched."""
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        unreachable = fleet("run", plan, "--yes", env={"FLEET_SIMULATOR_URL": "http://127.0.0.1:9"})
        assert unreachable.code == 8
        assert "hint: " in unreachable.err
        unknown = fleet("preview", plan, env={"FLEET_SIMULATOR_URL": ""})
        assert unknown.code == 8
        assert "fleet simulator" in unknown.err
        ecs = fleet.plan(
            plan_text().replace("provider: simulator", "provider: ecs").replace("settle: 2s", "settle: 2m")
        )
        login = {
            "OS_AUTH_URL": f"{cloud.url}/v3",
            "OS_USERNAME": "fleet",
            "OS_PASSWORD": "wrong-password",
            "OS_USER_DOMAIN_NAME": "simulator",
            "OS_PROJECT_NAME": "sim-1",
        }
        wrong = fleet("run", ecs, "--yes", env=login)
        assert wrong.code == 8
        assert "OS_PASSWORD" in wrong.err
        assert "wrong-password" not in wrong.err
        missing = fleet("run", ecs, "--yes")
        assert missing.code == 8
        assert all(name in missing.err for name in login)
        assert cloud.calls() == []
        assert fleet.journals() == []
