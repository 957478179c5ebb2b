"""The list that was approved is the list that is done; and the evening on which a selector had grown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from process_support import Fleet, fleet_on, fleet_text, once_each, plan_text

pytestmark = pytest.mark.process

PAIRS = "key_pairs: [{name: demo-key}, {name: other-key}]"


def saved(fleet: Fleet, plan: str, *options: str) -> tuple[str, dict]:
    """Preview and save; return the manifest's path and content."""
    path = fleet.folder / "manifest.json"
    shown = fleet("preview", plan, "--save", str(path), *options)
    assert shown.code == 0, shown.err
    content = json.loads(path.read_text())
    assert f"digest: {content['digest']}" in shown.err
    return str(path), content


def test_the_approved_servers_are_done_and_nobody_else(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        path, content = saved(fleet, plan, "--limit", "web-[12]")
        assert [entry["server"]["name"] for entry in content["servers"]] == ["web-1", "web-2"]
        assert content["worst_case"]["out_of_service"] == 1
        assert content["forecast"]["last_possible_end"]["at"]
        done = fleet("run", plan, "--manifest", path, "--digest", content["digest"][:12], "--yes")
        assert done.code == 0, done.err
        assert cloud.reinstalls() == once_each(2)
        [opened] = [event for event in fleet.events() if event["event"] == "RunOpened"]
        assert opened["manifest"] == content["digest"]
        before = len(cloud.calls())
        again = fleet("run", plan, "--manifest", path, "--yes", "--again")
        assert again.code == 2
        assert f"was used up by run {opened['run']}" in again.err
        assert len(cloud.calls()) == before


def test_it_is_gone_on_with_until_it_is_over(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        path, _ = saved(fleet, plan)
        child = fleet.start("run", plan, "--manifest", path, "--yes")
        fleet.wait_for("ReinstallAccepted", 1, child=child)
        child.kill()
        other = fleet.folder / "other.json"
        assert fleet("preview", plan, "--save", str(other), "--limit", "web-4").code == 0
        refused = fleet("run", plan, "--manifest", str(other), "--yes")
        assert refused.code == 2
        assert "is unfinished, and it is of manifest" in refused.err
        assert fleet("run", plan, "--manifest", path, "--yes").code == 0
        assert cloud.reinstalls() == once_each(4)


def test_what_is_not_as_it_was_approved_is_shown_and_not_done(tmp_path: Path) -> None:
    """One was reinstalled by hand meanwhile; the others are done."""
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        path, _ = saved(fleet, plan, "--limit", "!web-4")
        by_hand = fleet.plan(plan_text("byhand"), "byhand.yaml")
        assert fleet("run", by_hand, "--yes", "--limit", "web-2").code == 0
        done = fleet("run", plan, "--manifest", path, "--yes")
        assert done.code == 0, done.err
        assert "not as in the manifest: web-2: changed since the manifest: system disk " in done.err
        assert cloud.reinstalls() == once_each(3)
        [skipped] = [event for event in fleet.events() if event["event"] == "Skipped"]
        assert skipped["reason"].startswith("changed since the manifest: system disk ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("demo-key", "other-key"), "targets.p.reinstall has changed"),
        (("[1, 100%]", "[2, 100%]"), "targets.p.rollout has changed"),
        (("{role: web}", "{role: web, env: prod}"), "targets.p.select has changed"),
        (("max_failures: 0", "max_failures: 1"), "targets.p.rollout has changed"),
    ],
)
def test_a_plan_that_says_something_else_is_refused(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    with fleet_on(tmp_path, fleet_text(3, more=PAIRS)) as (fleet, cloud):
        text = plan_text()
        path, _ = saved(fleet, fleet.plan(text))
        refused = fleet("run", fleet.plan(text.replace(*change)), "--manifest", path, "--yes")
        assert refused.code == 2
        assert words in refused.err
        # A comment is no change.
        assert fleet("run", fleet.plan(text + "\n# CHG-17\n"), "--manifest", path, "--yes").code == 0
        assert cloud.reinstalls() == once_each(3)


def test_other_user_data_or_another_check_script_is_refused(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        (tmp_path / "web.yaml").write_text("#cloud-config\n")
        script = tmp_path / "joined"
        script.write_text("#!/bin/sh\nexit 0\n")
        script.chmod(0o755)
        more = "verify: {timeout: 30s, checks: [{command: [./joined]}]}\n"
        text = plan_text().replace("verify: {timeout: 30s}\n", more)
        text = text.replace("key_pair: demo-key", "key_pair: demo-key, user_data: {file: web.yaml}")
        plan = fleet.plan(text)
        path, _ = saved(fleet, plan)
        (tmp_path / "web.yaml").write_text("#cloud-config\npackages: [evil]\n")
        script.write_text("#!/bin/sh\nexit 0 # always\n")
        refused = fleet("run", plan, "--manifest", path, "--yes")
        assert refused.code == 2
        assert "targets.p.reinstall has changed" in refused.err
        assert "program joined has changed" in refused.err
        assert cloud.calls() == []


def test_a_manifest_that_was_edited_or_not_the_approved_one_is_refused(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        path, content = saved(fleet, plan)
        wrong = fleet("run", plan, "--manifest", path, "--digest", "0" * 12, "--yes")
        assert wrong.code == 2
        assert "was approved" in wrong.err
        assert fleet("run", plan, "--manifest", path, "--digest", "", "--yes").code == 2
        content["servers"] = content["servers"][1:]
        Path(path).write_text(json.dumps(content))
        edited = fleet("run", plan, "--manifest", path, "--yes")
        assert edited.code == 2
        assert "changed after it was made" in edited.err
        assert fleet("run", plan, "--manifest", plan, "--yes").code == 2
        assert cloud.calls() == []


GREW = """\
speed: 150
servers:
  - {name: "web-{}", count: 6, tags: {role: web, env: prod}, subnet: 10.20.1.0/24}
  - {name: "stage-{:04d}", count: 200, tags: {role: web, env: stage}, subnet: 10.30.0.0/16}
"""


def test_the_selector_that_grew(tmp_path: Path) -> None:
    """Somebody tagged two hundred staging servers `role=web`: nothing is touched, ten strangers are named."""
    with fleet_on(tmp_path, GREW) as (fleet, cloud):
        plan = fleet.plan(plan_text(more="expect: {min: 4, max: 10}\n"))
        refused = fleet("run", plan, "--yes")
        assert refused.code == 2
        assert "matches 206 servers, more than the 10 expected" in refused.err
        assert "6 share tag env=prod, the other 200 do not" in refused.err
        named = refused.err.partition("most unlike the rest: ")[2].splitlines()[0]
        assert named.count("stage-") == 10
        assert "web-1" not in named
        assert cloud.calls() == []
        assert fleet.journals() == []
        # A plan without the bound is warned of.
        warned = fleet("preview", fleet.plan(plan_text("q"), "q.yaml"))
        assert warned.code == 0
        assert "no `expect`" in warned.out
