"""Which notices are due where a run stands, and how they read in each form."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace
from rollout_support import open_run, settle, take, target
from support import AT, event_for

from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.core.settings import NOTICES, Window
from fleet.core.state import Run
from fleet.errors import Exit
from fleet.report.notice_forms import FORMS, as_data
from fleet.report.notices import Moment, Notice, due

NIGHTS = (Window(start="20:00", end="04:00", timezone="UTC"),)
LATER = AT + timedelta(minutes=30)


def a_run(**rollout: object) -> Run:
    return open_run((target(waves=(1, 9), **rollout), 4), windows=NIGHTS)


def at(now: datetime = LATER, code: int | None = None, **more: object) -> Moment:
    return Moment(now=now, code=code, **{"began": now} | more)  # type: ignore[arg-type]


def events(run: Run | None, moment: Moment, told: frozenset[str] = frozenset()) -> list[str]:
    settings = (run or a_run()).settings
    return [notice.event for notice in due(run, settings, moment, told)]


def keys(run: Run, moment: Moment) -> frozenset[str]:
    return frozenset(key for notice in due(run, run.settings, moment) for key in notice.keys)


def titles(run: Run | None, moment: Moment) -> list[str]:
    return [notice.title for notice in due(run, (run or a_run()).settings, moment)]


def test_a_quiet_run_says_that_it_begins_and_that_it_is_finished() -> None:
    run = a_run()
    take(run, ev.Admitted(server=ServerId("web-1")))
    assert titles(run, at(working=True)) == ["p begins: 4 servers = 1 in flight + 3 never touched"]
    settle(run, "verified", "web-1", "web-2", "web-3", "web-4")
    take(run, ev.RunFinished(verified=4, failed=0, skipped=0), at=LATER)
    assert titles(run, at(working=True, code=0)) == ["p is finished: 4 servers = 4 verified"]


def test_failed_servers_are_one_message_each_told_once() -> None:
    run = a_run()
    settle(run, "lost", "web-1")
    (first,) = due(run, run.settings, at())
    assert first.title == "p: web-1 failed: broken web-1"
    settle(run, "lost", "web-2", "web-3")
    (both,) = due(run, run.settings, at(), first.keys)
    assert both.title == "p: 2 servers failed"
    assert both.lines == ("web-2: broken web-2", "web-3: broken web-3")
    told = first.keys | both.keys
    assert events(run, at(), told) == []
    take(run, ev.Retried(server=ServerId("web-1"), reason="x"), at=LATER)
    take(run, ev.Admitted(server=ServerId("web-1")), at=LATER)
    take(run, ev.Failed(server=ServerId("web-1"), reason="again"), at=LATER)
    assert events(run, at(), told) == ["failed"], "that it failed once more is news"


def test_a_hold_is_told_as_long_as_it_holds() -> None:
    """Also by the process of the next night, if the one that held was killed before it could."""
    run = a_run()
    take(run, ev.Admitted(server=ServerId("web-1")))
    take(run, ev.RunHeld(reason="INC-4711 (eva)", by="eva"), at=LATER)
    assert titles(run, at(code=Exit.HELD)) == ["p is held: INC-4711 (eva)"]
    (held,) = (each for each in due(run, run.settings, at(working=True)) if each.event == "held")
    assert held.lines[0].startswith("1 in flight settles nobody knows when (no durations known yet")
    first = keys(run, at())
    take(run, ev.RunReleased(reason="over"))
    assert events(run, at()) == []
    take(run, ev.RunHeld(reason="INC-4711 (eva)", by="eva"), at=LATER + timedelta(hours=1))
    assert events(run, at(), first) == ["held"], "a second hold is news, whatever its words"


def test_a_held_group_is_told() -> None:
    run = a_run()
    take(run, ev.GroupHeld(group={"flavor": "s3.large.2"}, reason="2 failed alike"))
    assert titles(run, at()) == ["p: flavor s3.large.2 is held: 2 failed alike"]


def test_an_approval_is_asked_for_when_its_wave_is_settled() -> None:
    run = a_run(approve_after=(1,))
    assert events(run, at()) == []
    settle(run, "verified", "web-1")
    (asked,) = due(run, run.settings, at())
    assert (asked.event, asked.since) == ("needs-approval", AT)
    assert asked.title == "p waits for approval after wave 1 of web"
    take(run, ev.Approved(target="web", wave=1, reason="seen"))
    assert events(run, at()) == []


UNFINISHED = [
    (Exit.UNFINISHED, "", "p is unfinished: the window closes 04:00"),
    (Exit.CLOUD, "no answer", "p is unfinished: no answer"),
    (Exit.JOURNAL, "disk full", "p is unfinished: disk full"),
]


@pytest.mark.parametrize(("code", "why", "title"), UNFINISHED)
def test_a_life_that_ends_without_an_end(code: int, why: str, title: str) -> None:
    run = a_run()
    take(run, ev.Admitted(server=ServerId("web-1")), at=LATER)
    take(run, ev.RunDrained(reason="the window closes 04:00"))
    assert titles(run, at(working=True, code=code, why=why)) == [title]


def test_what_went_wrong_before_a_run_began() -> None:
    """Told when cron gave the command, once a day; whoever sits there reads it on the terminal."""
    moment = at(code=Exit.USAGE, why="expect: 4 servers, at most 2")
    (notice,) = due(None, a_run().settings, moment)
    assert notice.title == "p: nothing was done: expect: 4 servers, at most 2"
    tomorrow = at(LATER + timedelta(days=1), code=Exit.USAGE, why="expect: 4 servers, at most 2")
    assert events(None, tomorrow, notice.keys) == ["unfinished"]
    assert events(None, at(code=Exit.USAGE, why="x", scheduled=False)) == []


def test_nights_without_progress_are_counted_aloud() -> None:
    """At the end of every command that has moved nothing: first, second; the same night only once."""
    run = a_run(approve_after=(1,))
    settle(run, "verified", "web-1")
    told = keys(run, at())
    tuesday, wednesday = AT + timedelta(days=1, minutes=10), AT + timedelta(days=2, minutes=10)
    (first,) = due(run, run.settings, at(tuesday, Exit.APPROVAL), told)
    assert first.title == (
        "p: first night without progress: waits for approval after wave 1 of web, since 2026-12-05 20:00 UTC"
    )
    assert events(run, at(tuesday + timedelta(hours=1), Exit.APPROVAL), told | first.keys) == []
    (second,) = due(run, run.settings, at(wednesday, Exit.APPROVAL), told | first.keys)
    assert second.title.startswith("p: second night without progress: waits for approval")
    assert second.nights == 2
    assert events(run, at(tuesday), told) == [], "a process that goes on may still bring something tonight"
    assert events(run, at(wednesday), told) == [], "nor has it been there last night"
    patient = at(wednesday, began=AT + timedelta(hours=1))
    assert events(run, patient, told) == ["no-progress"], "which has waited through a night, and in vain"


def test_a_lock_that_is_held_for_days() -> None:
    """The process that has it may be suspended: whoever finds the lock taken tells, and that alone."""
    run = a_run()
    take(run, ev.Admitted(server=ServerId("web-1")), at=LATER)
    settle(run, "lost", "web-2")
    why = "plan p is being worked on by another process (pid 7)"
    assert events(run, at(LATER + timedelta(hours=2), Exit.LOCKED, why=why)) == []
    moment = at(LATER + timedelta(days=2), Exit.LOCKED, why=why)
    assert titles(run, moment) == [f"p: first night without progress: {why}"]


MISSED = [
    # the last sign of life, now, windows missed
    ("2026-12-05T12:00", "2026-12-05T19:00", 0),
    ("2026-12-05T12:00", "2026-12-06T03:00", 0),  # it is open, and we are here
    ("2026-12-05T12:00", "2026-12-06T12:00", 1),  # cron comes at noon
    ("2026-12-05T21:00", "2026-12-06T12:00", 0),  # somebody was there
    ("2026-12-03T21:00", "2026-12-06T12:00", 2),
]


@pytest.mark.parametrize(("before", "now", "count"), MISSED)
def test_windows_that_nobody_met(before: str, now: str, count: int) -> None:
    """With a run or without: the command came, and not when the window was open."""
    moment = at(
        datetime.fromisoformat(f"{now}+00:00"),
        Exit.UNFINISHED,
        before=datetime.fromisoformat(f"{before}+00:00"),
    )
    found = [each for each in due(None, a_run().settings, moment) if each.event == "window-missed"]
    assert sum(len(each.keys) for each in found) == count
    if count:
        assert "Sat 2026-12-05 20:00 UTC to Sun 2026-12-06 04:00 UTC" in found[0].title


def test_a_finished_run_misses_nothing() -> None:
    run = a_run()
    settle(run, "verified", "web-1", "web-2", "web-3", "web-4")
    moment = at(AT + timedelta(days=9), Exit.OK, before=AT)
    assert events(run, moment) == []


# -- forms ----------------------------------------------------------------------------------------------

NASTY = "web-1 <!channel> @here *x* `y` [z](http://evil/)"


def forms(run: Run, notice: Notice) -> dict[str, dict]:
    data = as_data(notice, run, run.settings, at=LATER, name=run.id)
    return {name: json.loads(json.dumps(form(data), default=str)) for name, form in FORMS.items()}


def test_foreign_words_call_nobody_and_make_no_links() -> None:
    run = a_run()
    settle(run, "lost", "web-2", reason=NASTY)
    (notice,) = due(run, run.settings, at())
    found = forms(run, notice)
    slack = found["slack"]["text"]
    assert "<!channel>" not in slack
    assert "&lt;!channel&gt;" in slack
    assert "@here" not in slack
    (card,) = found["teams"]["attachments"]
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["content"]["type"] == "AdaptiveCard"
    kinds = {block["type"] for block in card["content"]["body"]}
    assert kinds == {"RichTextBlock"}, "a TextBlock would read names as Markdown"
    assert card["content"]["body"][0]["inlines"][0]["text"] == notice.title


def test_everything_that_a_program_needs() -> None:
    run = a_run()
    settle(run, "lost", "web-2")
    take(run, ev.RunHeld(reason="1 of web failed, 0 allowed"), at=LATER)
    failed, held = due(run, run.settings, at())
    found = forms(run, held)["json"]
    assert (found["version"], found["event"], found["plan"], found["run"]) == (1, "held", "p", "r")
    assert found["figures"]["failed"] == 1
    assert found["next"] == "fleet release r --reason …, then fleet resume r"
    assert forms(run, failed)["json"]["servers"] == [
        {"id": "web-2", "name": "web-2", "reason": "broken web-2", "code": None, "hint": None}
    ]
    text = forms(run, held)["slack"]["text"].split("\n")
    assert text[0] == "*p is held: 1 of web failed, 0 allowed*"
    assert "4 servers = 1 failed + 3 never touched" in text


def test_what_to_do_while_a_process_is_at_work() -> None:
    """It goes on by itself: nobody is told to resume it; who is asked for something is told how."""
    run = a_run(approve_after=(1,))
    settle(run, "verified", "web-1")
    settle(run, "lost", "web-2")
    take(run, ev.RunHeld(reason="x"), at=LATER)
    told = {
        notice.event: as_data(notice, run, run.settings, at=LATER, name="r", working=True)["next"]
        for notice in due(run, run.settings, at(working=True))
    }
    assert told == {
        "started": None,
        "failed": None,
        "held": "fleet release r --reason …",
        "needs-approval": "fleet approve r --reason …",
    }


def test_a_message_stays_small() -> None:
    """Teams takes 28 KB, Slack 40,000 characters: 3,000 failures are counted, not listed."""
    run = open_run((target(), 3000))
    for server in run.servers:
        take(run, event_for(ev.Admitted, server), event_for(ev.Failed, server))
    (notice,) = due(run, run.settings, at())
    assert notice.lines[-1] == "… and 2990 more"
    found = forms(run, notice)
    assert len(json.dumps(found["teams"])) < 20_000
    assert len(found["slack"]["text"]) < 5_000


def test_every_event_can_be_wanted() -> None:
    """What `due` yields is what a plan can name, and the other way round."""
    run = a_run(approve_after=(1,))
    settle(run, "verified", "web-1")
    settle(run, "lost", "web-2")
    take(run, ev.RunHeld(reason="x"), at=LATER)
    seen = set(events(run, at(working=True)))
    seen |= set(events(run, at(LATER + timedelta(days=3), Exit.CLOUD, working=True, before=AT, why="x")))
    for server in ("web-3", "web-4"):
        take(run, event_for(ev.Skipped, ServerId(server)))
    take(run, ev.RunFinished(verified=1, failed=1, skipped=2), at=LATER)
    seen |= set(events(run, at(code=Exit.FAILED)))
    assert seen == set(NOTICES)


def test_keys_are_the_same_from_the_journal() -> None:
    """Live times have microseconds, the journal's milliseconds: who has been told stays told."""
    run = a_run()
    exact = LATER + timedelta(microseconds=123456)
    kept = LATER + timedelta(microseconds=123000)
    take(run, ev.RunHeld(reason="x"), at=exact)
    again = a_run()
    take(again, ev.RunHeld(reason="x"), at=kept)
    assert keys(run, at()) == keys(again, at())
    assert replace(run.settings) == again.settings
