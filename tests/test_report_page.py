"""The report: one story told as a page, JSON, CSV, JUnit and Markdown, with the same figures everywhere."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from click.testing import CliRunner
from support import AT, event_for, make_run

from fleet.cli.report import report
from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.errors import JournalError
from fleet.journal import Journal
from fleet.report.document import as_document, causes_of
from fleet.report.page import Axis, as_html
from fleet.report.tables import as_csv, as_junit, as_markdown
from fleet.report.timeline import Timeline, read_timeline

HOSTILE = '<script>alert("x")</script>|`=1+1`'
WAY = (ev.Admitted, ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted, ev.Reinstalled, ev.Started)
END = (ev.ChecksPassed, ev.Verified)


def _story() -> Iterator[tuple[ev.Event, datetime]]:
    """Yield two nights: 3 verified, 2 failed alike, 1 in doubt, 1 skipped, the rest never touched."""
    run = make_run(12, waves=(2, 100), concurrency=3, hold_after=1)
    (target,) = run.settings.targets
    target = msgspec.structs.replace(
        target, rollout=msgspec.structs.replace(target.rollout, max_unavailable=4)
    )
    first = run.opened.members[0]
    names = (msgspec.structs.replace(first, name=HOSTILE), *run.opened.members[1:])
    settings = msgspec.structs.replace(run.settings, targets=(target,))
    yield msgspec.structs.replace(run.opened, members=names, settings=settings), AT
    at = AT
    for n in (1, 2):
        for kind in (*WAY, *END):
            at += timedelta(seconds=30)
            yield event_for(kind, ServerId(f"web-{n}")), at
    for n in (3, 4, 5, 6):
        yield event_for(ev.Admitted, ServerId(f"web-{n}")), at
    for n in (3, 4):
        at += timedelta(seconds=30)
        yield (
            ev.Failed(server=ServerId(f"web-{n}"), reason=f"web-{n} is <b>broken</b>", code="Ecs.0605",
                      request_id=f"req-{n}"),
            at,
        )  # fmt: skip
    yield ev.RunHeld(reason="2 of web failed, 1 allowed"), at
    yield ev.RunDrained(reason="held"), at
    # The second night, a day later: its process is killed with one in doubt.
    at += timedelta(days=1)
    yield ev.RunResumed(host="h", pid=2), at
    yield ev.RunReleased(reason="seen", by="ann"), at
    for kind in (*WAY[1:], *END):
        at += timedelta(seconds=30)
        yield event_for(kind, ServerId("web-5")), at
    for kind in (ev.Stopped, ev.ReinstallRequested):
        at += timedelta(seconds=30)
        yield event_for(kind, ServerId("web-6")), at
    yield ev.Skipped(server=ServerId("web-7"), reason="=gone"), at


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "r" / "journal.jsonl"
    path.parent.mkdir()
    written = Journal.create(path)
    for event, at in _story():
        written.append(event, at)
    written.close()
    return path


@pytest.fixture
def timeline(journal: Path) -> Timeline:
    return read_timeline(journal)


def _document(timeline: Timeline) -> dict:
    return as_document(timeline, worked_on=None, now=AT + timedelta(days=2), name="r")


class _Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.rows: dict[str, dict[str, str]] = {}
        self.text = self.told = ""
        self.words: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        found = {name: value or "" for name, value in attrs}
        self.links += [value for name, value in found.items() if name in {"src", "href", "action", "data"}]
        if found.get("class") == "row":
            self.rows[found["data-n"]] = found
        self.told = found["data-n"] if tag == "tr" and "data-n" in found else self.told

    def handle_data(self, data: str) -> None:
        self.text += data
        self.words[self.told] = self.words.get(self.told, "") + data


def test_the_story_is_what_the_journal_tells(timeline: Timeline) -> None:
    assert [(life.admitted, life.verified, life.failed) for life in timeline.lives] == [(6, 2, 2), (0, 1, 0)]
    assert [life.last_word for life in timeline.lives] == ["held", ""], "the second was killed"
    spans = timeline.spans[ServerId("web-1")]
    assert [str(span.phase) for span in spans] == [
        "stopping", "stopped", "requested", "reinstalling", "reinstalled", "verifying", "returning",
    ]  # fmt: skip
    assert {(span.end - span.begin).total_seconds() for span in spans if span.end} == {30.0}
    assert timeline.spans[ServerId("web-6")][-1].end is None, "in doubt until today"
    assert ServerId("web-12") not in timeline.spans
    assert timeline.most_out() == 4
    assert timeline.out[-1][1] == {"web": 3}, "two failed and left down, one in doubt"


def test_a_held_night_that_is_released_in_the_morning_was_not_cut_short(tmp_path: Path) -> None:
    """Nor did it last until then: whoever releases and retries writes behind a process that has ended."""
    run = make_run(2)
    path = tmp_path / "journal.jsonl"
    written = Journal.create(path)
    written.append(run.opened, AT)
    for kind in (ev.Admitted, ev.Failed):
        written.append(event_for(kind, ServerId("web-1")), AT)
    written.append(ev.RunHeld(reason="1 of web failed, 0 allowed"), AT)
    morning = AT + timedelta(hours=9)
    written.append(ev.RunReleased(reason="host replaced", by="ann"), morning)
    written.append(ev.Retried(server=ServerId("web-1"), reason="host replaced"), morning)
    (night,) = read_timeline(path).lives
    assert (night.last_word, night.end) == ("1 of web failed, 0 allowed", AT)

    written.append(event_for(ev.Admitted, ServerId("web-1")), morning)
    (night,) = read_timeline(path).lives
    assert (night.last_word, night.end) == ("", morning), "it was at work when it was released"
    written.close()


def test_a_night_that_ends_for_an_approval_was_not_cut_short(tmp_path: Path) -> None:
    run = make_run(2, waves=(1, 1))
    (target,) = run.settings.targets
    rollout = msgspec.structs.replace(target.rollout, approve_after=(1,))
    settings = msgspec.structs.replace(
        run.settings, targets=(msgspec.structs.replace(target, rollout=rollout),)
    )
    path = tmp_path / "journal.jsonl"
    written = Journal.create(path)
    written.append(msgspec.structs.replace(run.opened, settings=settings), AT)
    for kind in (*WAY, *END):
        written.append(event_for(kind, ServerId("web-1")), AT)
    night = AT + timedelta(hours=9)

    def words() -> str:
        page = as_html(read_timeline(path), worked_on=None, now=night, name="r")
        return _Page(page).text.partition("Nights")[2].partition("Servers out")[0]

    assert "waits for approval" in words()
    written.append(ev.Approved(target="web", wave=1, reason="seen", by="ann"), night)
    assert "waited for approval" in words()
    assert "cut short" not in words()
    written.append(ev.RunResumed(host="h", pid=2), night)
    assert words().count("cut short") == 1
    written.close()


def test_figures_add_up_on_every_surface(timeline: Timeline) -> None:
    document = _document(timeline)
    expected = {
        "selected": 12, "verified": 3, "failed": 2, "skipped": 1, "in_flight": 0, "in_doubt": 1,
        "never_touched": 5,
    }  # fmt: skip
    assert document["figures"] == expected
    assert sum(night["verified"] for night in document["nights"]) == 3
    assert sum(len(cause["servers"]) for cause in document["causes"]) == 2
    assert sum(len(each["servers"]) for each in document["never_touched"]) == 5

    rows = list(csv.DictReader(io.StringIO(as_csv(document))))
    assert Counter(row["phase"] for row in rows) == {
        "verified": 3, "failed": 2, "skipped": 1, "requested": 1, "waiting": 5,
    }  # fmt: skip
    assert [row["in_doubt"] for row in rows].count("True") == 1

    suite = ET.fromstring(as_junit(document)).find("testsuite")  # noqa: S314 - our own
    assert suite is not None
    assert {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": 12, "failures": 2, "errors": 1, "skipped": 6,
    }  # fmt: skip
    assert len(suite.findall("testcase/failure")) == 2

    words = "12 servers = 3 verified + 2 failed + 1 skipped + 0 in flight + 1 in doubt + 5 never touched"
    assert words in as_markdown(document)
    page = _Page(as_html(timeline, worked_on=None, now=AT + timedelta(days=2), name="r"))
    assert words in " ".join(page.text.split())


def test_failures_are_grouped_by_cause(timeline: Timeline) -> None:
    """The same code in the same phase is one cause, whatever name stands in its words."""
    (cause,) = causes_of(timeline.run, "r")
    assert (cause.code, cause.requests) == ("Ecs.0605", ("req-3", "req-4"))
    assert [server.label for server in cause.servers] == ["web-3", "web-4"]


def test_the_page_needs_nothing_and_runs_nothing_foreign(timeline: Timeline) -> None:
    text = as_html(timeline, worked_on=None, now=AT + timedelta(days=2), name="r")
    page = _Page(text)
    assert page.links == []
    assert "http://" not in text.replace("http-equiv", "")
    assert "https://" not in text
    assert (page.tags["script"], page.tags["b"] > 0) == (1, True)
    assert "<b>broken</b>" not in text
    assert HOSTILE in page.rows, "shown as it is, and inert"
    assert "verifying 30s" in page.words[HOSTILE]
    assert "requested since" in page.words["web-6"]
    assert page.rows["web-6"]["data-p"] == "requested"
    assert "cut short" in page.text
    assert "ann" in page.text


def test_tables_carry_no_formulas_and_no_markup(timeline: Timeline) -> None:
    document = _document(timeline)
    (skipped,) = [row for row in csv.DictReader(io.StringIO(as_csv(document))) if row["phase"] == "skipped"]
    assert skipped["reason"] == "'=gone"
    assert "<b>" not in as_markdown(document).replace("\\<b\\>", "")


def test_nights_are_to_scale_and_the_day_between_is_not() -> None:
    night, day = timedelta(hours=2), timedelta(hours=24)
    axis = Axis([(AT, AT + night), (AT + day, AT + day + night)])
    assert axis.at(AT) == 0.0
    assert axis.at(AT + day + night) == pytest.approx(1.0)
    assert axis.at(AT + night) == pytest.approx(0.49)
    assert axis.at(AT + day) == pytest.approx(0.51)
    assert axis.at(AT + timedelta(hours=1)) == pytest.approx(0.245)
    places = [axis.at(AT + timedelta(minutes=n)) for n in range(0, 27 * 60, 7)]
    assert places == sorted(places)
    assert axis.at(AT - night) == 0.0
    assert axis.at(AT + 3 * day) == 1.0


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    """Nobody started, no time gone: still a page."""
    path = tmp_path / "journal.jsonl"
    written = Journal.create(path)
    written.append(make_run().opened, AT)
    written.close()
    text = as_html(read_timeline(path), worked_on="pid 1 on h", now=AT, name="r")
    assert "6</b> never touched" in " ".join(text.split())


def test_a_damaged_journal_makes_no_report(journal: Path) -> None:
    data = journal.read_bytes()
    journal.write_bytes(data.replace(b"Ecs.0605", b"Ecs.0606", 1))
    with pytest.raises(JournalError, match="checksum"):
        read_timeline(journal)


def test_the_command_writes_a_private_file_or_none(journal: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    runner = CliRunner()
    done = runner.invoke(report, [str(journal), "--to", str(page)], standalone_mode=False)
    assert done.exception is None, done.output
    assert page.stat().st_mode & 0o777 == 0o600
    assert page.read_text().startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    done = runner.invoke(report, [str(journal), "-o", "json"], standalone_mode=False)
    assert json.loads(done.output)["figures"]["selected"] == 12
    done = runner.invoke(report, [str(journal), "--to", str(tmp_path / "no" / "page.html")])
    assert "cannot write" in str(done.exception)
