"""Plans that are edited, narrowed, repeated or refused: by the command line, against a real process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from process_support import Fleet, fleet_on, fleet_text, once_each, plan_text

pytestmark = pytest.mark.process

PAIRS = "key_pairs: [{name: demo-key}, {name: other-key}]"


def unfinished(fleet: Fleet, plan: str) -> None:
    child = fleet.start("run", plan, "--yes")
    fleet.wait_for("ReinstallAccepted", 1, child=child)
    child.kill()


def test_pacing_may_be_edited_and_who_or_with_what_may_not(tmp_path: Path) -> None:
    """Refused with the difference, nothing sent; pacing is taken over, and on record."""
    with fleet_on(tmp_path, fleet_text(3, more=PAIRS)) as (fleet, cloud):
        text = plan_text()
        plan = fleet.plan(text)
        unfinished(fleet, plan)
        before = len(cloud.calls())
        preview = fleet("preview", plan)
        assert preview.code == 0
        assert "is unfinished: `fleet run` goes on with it" in preview.err
        assert "  2 x waits for wave 1" in preview.out, "who waits there, and why"
        assert fleet("preview", plan, "-o", "json").data["goes_on_with"]["figures"]["in_flight"] == 1
        for edited, words in (
            (text.replace("demo-key", "other-key"), "key_pair: demo-key → other-key"),
            (text.replace("{role: web}", "{role: web, env: prod}"), "select"),
            (text.replace("[1, 100%]", "[3]"), "waves"),
            (text.replace("requests_per_second", "region: elsewhere, requests_per_second"), "region"),
        ):
            fleet.plan(edited)
            refused = fleet("run", plan, "--yes")
            assert refused.code == 2, refused.err
            assert words in refused.err
            assert "fleet resume" in refused.err
        assert len(cloud.calls()) == before
        fleet.plan(text.replace("concurrency: 4", "concurrency: 2"))
        done = fleet("run", plan, "--yes")
        assert done.code == 0, done.err
        assert "the plan was edited: targets.p.rollout.concurrency: 4 → 2" in done.err
        [resumed] = [event for event in fleet.events() if event["event"] == "RunResumed"]
        assert resumed["changes"] == ["targets.p.rollout.concurrency: 4 → 2"]
        assert cloud.reinstalls() == once_each(3)


def test_a_finished_plan_is_not_repeated_unless_asked(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        assert fleet("run", plan, "--yes").code == 0
        before = len(cloud.calls())
        for command in (("run", plan, "--yes"), ("run", plan), ("resume",)):
            again = fleet(*command)
            assert again.code == 0
            assert "nothing to do" in again.err
            assert "--again" in again.err
        assert len(cloud.calls()) == before
        assert fleet("run", plan, "--yes", "--quiet").err == ""
        assert "0 servers will be reinstalled\n" in fleet("preview", plan).out
        assert "2 servers will be reinstalled" in fleet("preview", plan, "--again").out
        assert fleet("run", plan, "--yes", "--again").code == 0
        assert set(cloud.reinstalls().values()) == {2}
        assert len(fleet.journals()) == 2


def test_limit_narrows_and_stays_what_it_was(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        assert fleet("run", plan, "--yes", "--limit", "nobody-*").code == 2
        child = fleet.start("run", plan, "--yes", "--limit", "web-1", "-l", "web-3")
        fleet.wait_for("ReinstallAccepted", 1, child=child)
        child.kill()
        wider = fleet("run", plan, "--yes", "--limit", "web-2")
        assert wider.code == 2
        assert "--limit cannot change" in wider.err
        assert fleet("run", plan, "--yes").code == 0
        assert cloud.reinstalls() == {"web-1": 1, "web-3": 1}


def test_an_unfit_server_stops_everything_or_is_skipped(tmp_path: Path) -> None:
    text = (
        "speed: 150\nservers:\n"
        '  - {name: "web-{}", count: 3, tags: {role: web}, subnet: 10.20.1.0/24, locked: 1}\n'
    )
    with fleet_on(tmp_path, text) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        refused = fleet("run", plan, "--yes")
        assert refused.code == 2
        assert "web-1: it is locked" in refused.err
        assert "--skip-unfit" in refused.err
        assert cloud.calls() == []
        done = fleet("run", plan, "--yes", "--skip-unfit")
        assert done.code == 0, done.err
        assert cloud.reinstalls() == {"web-2": 1, "web-3": 1}
        assert fleet("status", "-o", "json").data["figures"]["skipped"] == 1


def test_a_journal_of_ones_own_choice(tmp_path: Path) -> None:
    """`--journal PATH`, gone on with by the same command and by path; another plan's journal is refused."""
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        journal = tmp_path / "mine" / "night.jsonl"
        for count in (1, 2):
            child = fleet.start("run", plan, "--yes", "--journal", str(journal))
            fleet.wait_for("ReinstallAccepted", count, child=child, journal=journal)
            child.kill()
        status = fleet("status", str(journal))
        assert status.last == f"next: fleet resume {journal}"
        other = fleet.plan(plan_text(name="other"), "other.yaml")
        foreign = fleet("run", other, "--yes", "--journal", str(journal))
        assert foreign.code == 2
        assert "the journal of plan 'p'" in foreign.err
        assert fleet("resume", str(journal)).code == 0
        assert cloud.reinstalls() == once_each(3)


REFUSED = [
    ("nobody to ask", {}, (), "--yes runs without asking"),
    ("expect", {"more": "expect: {min: 5}\n"}, ("--yes",), "expect"),
    (
        "no server",
        {"more": 'exclude: {name: "web-*"}\n'},
        ("--yes",),
        "no server",
    ),
    ("unknown key pair", {}, ("--yes",), "key pair 'no-such-key' does not exist"),
]  # fmt: skip


def test_what_is_refused_is_exit_2_and_nothing_is_sent(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        for name, options, flags, words in REFUSED:
            text = plan_text(**options)  # type: ignore[arg-type]  # of the table above
            if name == "unknown key pair":
                text = text.replace("demo-key", "no-such-key")
            plan = fleet.plan(text)
            refused = fleet("run", plan, *flags)
            assert refused.code == 2, (name, refused.err)
            assert words in refused.err, (name, refused.err)
            if flags:
                assert fleet("preview", plan).code == 2, name
        both = (
            "targets:\n  - {name: one, select: {name: 'web-*'}, reinstall: {key_pair: demo-key}}\n"
            "  - {name: two, select: {tags: {role: web}}, reinstall: {key_pair: demo-key}}\n"
        )
        twice = fleet("run", fleet.plan("name: twice\ncloud: {provider: simulator}\n" + both), "--yes")
        assert twice.code == 2
        assert "one" in twice.err
        assert "two" in twice.err
        assert "web-1" in twice.err
        assert cloud.calls() == []
        assert fleet.journals() == []


def test_an_inventory_decides_whom_and_a_resume_does_not_need_it(tmp_path: Path) -> None:
    """By name and by address, through preview, run and resume; a changed file would change who."""
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        hosts = tmp_path / "hosts.ini"
        hosts.write_text("[web]\nweb-[1:2]\nthird ansible_host=10.20.1.6\n[gone]\nnobody\n")
        text = plan_text().replace("{tags: {role: web}}", f"{{inventory: {hosts}, older_than: 1h}}")
        plan = fleet.plan(text)
        shown = fleet("preview", plan)
        assert shown.code == 0, shown.err
        assert "no server for nobody of the inventory" in shown.out + shown.err
        assert "the inventory does not list it: web-4" in shown.out
        unfinished(fleet, plan)
        hosts.write_text("[web]\nweb-[1:4]\n")
        other = fleet("run", plan, "--yes")
        assert other.code == 2
        assert "select.hosts.web-4: nothing → web-4" in other.err
        hosts.unlink()
        [journal] = fleet.journals()
        done = fleet("resume", str(journal))
        assert done.code == 0, done.err
        assert sorted(cloud.reinstalls()) == ["web-1", "web-2", "web-3"]
        hosts.write_text("web-[1:4]\n")
        nobody = fleet("preview", fleet.plan(text.replace("1h", "90d")))
        assert nobody.code == 2
        assert "matches no server" in nobody.err


def test_check_is_preview(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        shown = fleet("preview", plan, "--limit", "web-2")
        assert shown.code == 0

        def timeless(text: str) -> list[str]:
            return [line for line in text.splitlines() if " end  " not in line]

        for option in ("--check", "--dry-run"):
            assert timeless(fleet("run", plan, option, "--limit", "web-2").out) == timeless(shown.out)
        data = fleet("preview", plan, "-o", "json").data
        assert [server["name"] for server in data["servers"]] == ["web-1", "web-2", "web-3"]
        assert data["targets"][0]["waves"] == [1, 2]
        assert cloud.calls() == []
        assert fleet.journals() == []


def test_nobody_is_wiped_again_without_being_asked(tmp_path: Path) -> None:
    """A canary, one server redone, edits around the contents: cron's line still has nothing to do."""
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        text = plan_text()
        plan = fleet.plan(text)
        assert fleet("run", plan, "--yes", "--limit", "web-1").code == 0
        rest = fleet("run", plan, "--yes")
        assert rest.code == 0, rest.err
        assert "1 of these servers are left out" in rest.err
        assert cloud.wipes() == once_each(3)
        assert fleet("run", plan, "--yes", "--again", "--limit", "web-3").code == 0
        once_more = once_each(3) | {"web-3": 2}
        for edited in (text, text.replace("[1, 100%]", "[2]"), text + "expect: {min: 1}\n"):
            fleet.plan(edited)
            done = fleet("run", plan, "--yes")
            assert done.code == 0, done.err
            assert "nothing to do" in done.err
            assert cloud.wipes() == once_more


def test_a_plan_with_nothing_but_defaults_resumes_and_is_not_repeated(tmp_path: Path) -> None:
    """The shortest plan: killed and given again, and then again."""
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        plan = fleet.plan(
            "cloud: {provider: simulator}\nselect: {tags: {role: web}}\nkey_pair: demo-key\n", "short.yaml"
        )
        unfinished(fleet, plan)
        done = fleet("run", plan, "--yes")
        assert done.code == 0, done.err
        assert "nothing to do" in fleet("run", plan, "--yes").err
        assert cloud.wipes() == once_each(3)


def test_a_server_that_changed_is_not_even_stopped(tmp_path: Path) -> None:
    """Reinstalled by another run since this one was opened: left running, and said so."""
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        first = fleet.plan(plan_text("p", concurrency=1, max_failures=3), "p.yaml")
        unfinished(fleet, first)
        other = fleet.plan(plan_text("q"), "q.yaml")
        assert fleet("run", other, "--yes", "--limit", "web-3").code == 0
        before = len(cloud.calls("stop"))
        done = fleet("run", first, "--yes")
        assert done.code == 3, done.err
        assert "neither stopped nor wiped" in done.out
        assert cloud.wipes()["web-3"] == 1
        stopped = [server for call in cloud.calls("stop")[before:] for server in call["servers"]]
        names = cloud.names()
        assert "web-3" not in {names[server] for server in stopped}


@pytest.mark.parametrize("damage", ["zeros", "folder", "dangling"])
def test_a_journal_that_cannot_be_used_is_never_taken_for_none(tmp_path: Path, damage: str) -> None:
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        assert fleet("run", plan, "--yes").code == 0
        [journal] = fleet.journals()
        size = journal.stat().st_size
        journal.unlink()
        if damage == "zeros":
            journal.write_bytes(b"\0" * size)
        elif damage == "folder":
            journal.mkdir()
        else:
            journal.symlink_to("nowhere")
        refused = fleet("run", plan, "--yes")
        assert refused.code == 9, refused.err
        assert cloud.wipes() == once_each(2)


def test_a_copy_of_a_run_in_the_state_folder_is_ignored_aloud(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        unfinished(fleet, plan)
        [journal] = fleet.journals()
        shutil.copytree(
            journal.parent,
            journal.parent.with_name(journal.parent.name + ".bak"),
            ignore=shutil.ignore_patterns("*.control"),
        )
        done = fleet("run", plan, "--yes")
        assert done.code == 0, done.err
        assert "is a copy of run" in done.err
        assert cloud.wipes() == once_each(3)


def test_a_failed_server_that_was_wiped_is_not_wiped_again_by_an_edit(tmp_path: Path) -> None:
    """Success without a change on one: wiped or not, nobody knows better than a person; exit 3 stays 3."""
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        text = plan_text(max_failures=2).replace("verify: {timeout: 30s}", "verify: {timeout: 4s}")
        plan = fleet.plan(text)
        cloud.order({"kind": "success-without-change", "when": {"server": "web-2"}})
        assert fleet("run", plan, "--yes").code == 3
        before = cloud.reinstalls()
        fleet.plan(text.replace("[1, 100%]", "[2]"))
        again = fleet("run", plan, "--yes")
        assert again.code == 3, again.err
        assert "1 failed" in again.err
        assert cloud.reinstalls() == before == once_each(2)
