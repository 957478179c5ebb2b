"""Figures that add up, on every surface: what does not is said, and is never printed as if it did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from support import AT, event_for, make_run

from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.model import ServerId
from fleet.core.state import Phase, Run
from fleet.journal import Journal
from fleet.report import notice_forms, page, tables
from fleet.report.digest import digest_of, keep_of, make, path_of
from fleet.report.document import as_document
from fleet.report.figures import KEYS, PLACES, Miscounted, add_up, figures, headline, rows_amount_to
from fleet.report.inventory import as_inventory
from fleet.report.metrics import metrics_text
from fleet.report.notices import Notice
from fleet.report.status import as_data, as_text, summary
from fleet.report.timeline import Life, Timeline

NOW = AT + timedelta(minutes=10)
WEB = [ServerId(f"web-{n}") for n in range(1, 7)]


def a_run() -> Run:
    """One verified, one failed, one skipped, one in flight, one in doubt, one never touched."""
    run = make_run(6, waves=(6,), concurrency=6, hold_after=6)
    doubt = (ev.Admitted, ev.Stopped, ev.ReinstallRequested)
    ways = (
        (*doubt, ev.ReinstallAccepted, ev.Reinstalled, ev.Started, ev.ChecksPassed, ev.Verified),
        (ev.Admitted, ev.Failed),
        (ev.Skipped,),
        (ev.Admitted,),
        doubt,
    )
    for server, kinds in zip(WEB, ways, strict=False):
        for kind in kinds:
            apply(run, event_for(kind, server), AT)
    return run


def forgotten(run: Run) -> None:
    """The count of a phase has lost a server."""
    run.targets["web"].phases[Phase.VERIFIED] -= 1


def twice(run: Run) -> None:
    """One is counted in two places, and another in none: the sum is right all the same."""
    run.targets["web"].phases[Phase.VERIFIED] += 1
    run.targets["web"].phases[Phase.FAILED] -= 1


def text(run: Run) -> None:
    list(as_text(run, worked_on=None, now=NOW, name="r"))


def last_words(run: Run) -> None:
    list(summary(run, now=NOW, name="r", journal="/j"))


def data(run: Run) -> None:
    as_data(run, worked_on=None, now=NOW, name="r")


def digest(run: Run) -> None:
    make(run, 1, "")


def document(run: Run) -> dict:
    return as_document(Timeline(run), worked_on=None, now=NOW, name="r")


SURFACES = [figures, text, last_words, data, digest, document, as_inventory]


@pytest.mark.parametrize("wrong", [forgotten, twice])
@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.__name__)
def test_every_surface_refuses_figures_that_do_not_add_up(
    surface: Callable[[Run], object], wrong: Callable[[Run], None]
) -> None:
    run = a_run()
    surface(run)
    wrong(run)
    with pytest.raises(Miscounted, match="do not add up"):
        surface(run)


@pytest.mark.parametrize("wrong", [forgotten, twice])
def test_people_read_it_in_the_figures_place_and_everything_else_all_the_same(
    wrong: Callable[[Run], None],
) -> None:
    """At 3 a.m. the list of servers is worth more than an exception: it comes first."""
    run = a_run()
    wrong(run)
    lines = list(_until_it_breaks(as_text(run, worked_on=None, now=NOW, name="r")))
    assert any(line.startswith("a defect of fleet: the figures do not add up") for line in lines)
    assert any("web-5: requested (in doubt)" in line for line in lines)
    assert lines[-1] == "next: fleet resume r"


def _until_it_breaks(lines):
    try:
        yield from lines
    except Miscounted:
        return


TABLES = [tables.as_csv, tables.as_junit, tables.as_markdown]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_table_that_lost_or_moved_a_server_is_refused(table: Callable[[dict], str]) -> None:
    whole = msgspec.to_builtins(document(a_run()))
    table(document(a_run()))
    for key in KEYS:
        wrong = msgspec.json.decode(msgspec.json.encode(whole))
        wrong["figures"][key] += 1
        with pytest.raises(Miscounted):
            table(wrong)


def test_the_page_counts_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = page.as_document

    def without_one(*args, **options) -> dict:
        found = real(*args, **options)
        del found["servers"][0]
        return found

    def draw() -> str:
        story = Timeline(a_run(), lives=[Life(AT, NOW, "h", 1)], spans={server: [] for server in WEB})
        return page.as_html(story, worked_on=None, now=NOW, name="r")

    assert "<b>6</b> servers" in draw()
    monkeypatch.setattr(page, "as_document", without_one)
    with pytest.raises(Miscounted, match="5 rows"):
        draw()


def test_a_kept_digest_that_does_not_add_up_is_made_anew(tmp_path) -> None:
    run = make_run(3, waves=(3,))
    path = tmp_path / "journal.jsonl"
    book = Journal.create(path)
    book.append(run.opened, AT)
    book.close()
    keep_of(run, path)
    kept = msgspec.json.decode(path_of(path).read_bytes())
    assert kept["figures"]["never_touched"] == 3
    for broken in ({**kept["figures"], "verified": 1}, {"selected": 3}):
        path_of(path).write_bytes(msgspec.json.encode({**kept, "figures": broken}))
        assert digest_of(path).figures == kept["figures"]


def test_two_hosts_under_one_name_are_noticed() -> None:
    """A server that is called like another one's id would push it out of an inventory."""
    run = make_run(2, waves=(2,))
    first, second = run.opened.members
    members = (msgspec.structs.replace(first, name="web-2"), msgspec.structs.replace(second, name=""))
    with pytest.raises(Miscounted, match="1 hosts"):
        as_inventory(Run(msgspec.structs.replace(run.opened, members=members), AT))


def test_every_phase_has_one_place() -> None:
    assert set(PLACES) == set(Phase)
    assert set(PLACES.values()) == set(KEYS)


def test_what_is_drawn_often_looks_at_no_server() -> None:
    """The quick look finds a server that was lost, and leaves the rest to the others."""
    run = a_run()
    twice(run)
    figures(run, quick=True)
    forgotten(run)
    with pytest.raises(Miscounted):
        figures(run, quick=True)
    assert headline(run, quick=True).startswith("a defect of fleet: the figures do not add up")


def test_nothing_is_less_than_nothing() -> None:
    with pytest.raises(Miscounted):
        add_up({"selected": 0, **dict.fromkeys(KEYS, 0), "failed": -1, "verified": 1})
    rows_amount_to({"selected": 1, **dict.fromkeys(KEYS, 0), "failed": 1}, ["failed"])
    with pytest.raises(Miscounted):
        rows_amount_to({"selected": 1, **dict.fromkeys(KEYS, 0), "failed": 1}, ["verified"])


def test_brief_figures_leave_out_zeros() -> None:
    assert headline(make_run(2, waves=(2,)), brief=True) == "2 servers = 2 never touched"
    assert "1 in doubt" in headline(a_run(), brief=True)


@pytest.mark.parametrize("wrong", [forgotten, twice])
def test_what_is_sent_while_a_run_works_says_it_and_ends_nothing(wrong: Callable[[Run], None]) -> None:
    run = a_run()
    assert "fleet_figures_add_up{" in metrics_text(run, now=NOW)
    assert 'add_up{plan="p"} 1' in metrics_text(run, now=NOW)
    wrong(run)
    assert 'add_up{plan="p"} 0' in metrics_text(run, now=NOW)
    notice = Notice(event="held", keys=frozenset(), title="held", lines=("3 failed",))
    data = notice_forms.as_data(notice, run, run.settings, at=NOW, name="r", working=True)
    assert data["figures"] is None
    assert data["lines"][-1].startswith("a defect of fleet: the figures do not add up")
