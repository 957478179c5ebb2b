"""The judge of a run by the cloud's own record: what the run explains, and what it does not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from support import AT, event_for, make_run

from fleet.core import events as ev
from fleet.core.model import JobId, ServerId
from fleet.journal import encode_line
from fleet.referee_cloud import Comparison, Evidence, Record, compare

ONE = ServerId("web-1")
WAY = (ev.Admitted, ev.Stopped, ev.ReinstallRequested)
REST = (ev.Reinstalled, ev.Started, ev.ChecksPassed, ev.Verified)


def journal(*events: Any) -> bytes:
    """Write a journal of three servers, an event a minute."""
    opened = make_run(3, waves=(3,)).opened
    crc, lines = 0, []
    for number, event in enumerate((opened, *events)):
        line, crc = encode_line(number + 1, AT + timedelta(minutes=number), event, crc)
        lines.append(line)
    return b"".join(lines)


def done(*, job: str | None = "job-1") -> list[Any]:
    """Return the facts of a server that was reinstalled; without a job its answer was lost."""
    accepted = ev.ReinstallAccepted(server=ONE, job=JobId(job) if job else None)
    return [*(event_for(kind, ONE) for kind in WAY), accepted, *(event_for(kind, ONE) for kind in REST)]


def record(job: str | None = "job-1", *, minute: float = 3, **fields: Any) -> Record:
    given = {"server": "web-1", "by": "deploy", "call": "call", "accepted": True} | fields
    return Record(at=AT + timedelta(minutes=minute), job=job, **given)


def judged(data: bytes, *records: Record, late: datetime | None = None, **fields: Any) -> Comparison:
    disks = {"web-1": "new", "web-2": None, "web-3": None} | fields.pop("disks", {})
    disks = {name: disk for name, disk in disks.items() if disk != "gone"}
    evidence = Evidence(
        source=fields.pop("source", "the trail"),
        missing="",
        records=records,
        back_to=fields.pop("back_to", None),
        late=late or AT + timedelta(days=1),
        disks=disks,
    )
    return compare(data, evidence)


def test_a_wipe_that_the_run_asked_for() -> None:
    found = judged(journal(*done()), record())
    assert (found.servers, found.wipes, found.unexplained, found.odd, found.notes) == (3, 1, 0, [], [])


def test_an_answer_that_was_lost_is_explained_by_the_request() -> None:
    """The journal has no job; the trail has one. One such wipe is explained, a second one is not."""
    assert judged(journal(*done(job=None)), record("job-7")).odd == []
    twice = judged(journal(*done(job=None)), record("job-7"), record("job-8", minute=4))
    assert (twice.wipes, twice.unexplained) == (2, 1)
    assert twice.odd == [
        "web-1 was wiped by deploy at 2026-12-05 20:04:00 UTC (call), and this run did not ask for it"
    ]


def test_a_wipe_by_somebody_else_meanwhile() -> None:
    """Of a server of the run it is odd; of another one it is a note."""
    found = judged(
        journal(*done()),
        record(),
        record("job-9", minute=5, by="mallory"),
        record("job-10", minute=5, by="eva", server="db-1", name="db-1"),
    )
    assert found.unexplained == 1
    (odd,) = found.odd
    assert odd.startswith("web-1 was wiped by mallory at 2026-12-05 20:05:00 UTC")
    (note,) = found.notes
    assert note.startswith("meanwhile db-1, which is not of this run, was wiped by eva")


def test_what_was_refused_is_no_wipe() -> None:
    found = judged(journal(*done()), record(), record(None, minute=2, accepted=False))
    assert (found.wipes, found.odd) == (1, [])


def test_a_conclusion_that_the_trail_contradicts() -> None:
    """The journal settled that the request was not taken, and asked again: the trail has both."""
    events = [*(event_for(kind, ONE) for kind in WAY), event_for(ev.ReinstallNotTaken, ONE)]
    again = [event_for(ev.Stopped, ONE), event_for(ev.ReinstallRequested, ONE), *done()[3:]]
    found = judged(journal(*events, *again), record("job-0", minute=3), record(minute=7))
    assert (found.wipes, found.unexplained) == (2, 1)
    assert "and the journal concluded: not taken" in found.odd[0]


def test_accepted_by_the_journal_and_not_on_record() -> None:
    """Odd, unless the record is late or does not go back so far."""
    data = journal(*done())
    assert judged(data).odd == ["web-1: its reinstall of 2026-12-05 20:03:00 UTC is not in the trail"]
    young = judged(data, late=AT)
    assert (young.odd, young.notes) == (
        [], ["web-1: its reinstall of 2026-12-05 20:03:00 UTC may not be on record yet"],
    )  # fmt: skip
    old = judged(data, back_to=AT + timedelta(hours=1))
    assert old.odd == []
    assert "is older than the trail goes back" in old.notes[0]


@pytest.mark.parametrize(("minute", "words"), [(-3, "before this run"), (60, "since then")])
def test_wipes_outside_of_the_run_s_time_are_not_its_own(minute: int, words: str) -> None:
    found = judged(journal(*done()), record(), record("job-9", minute=minute, by="eva"))
    assert (found.wipes, found.odd) == (1, [])
    assert found.notes[0].startswith(f"{words} web-1 was wiped by eva")


NOT_OURS = "and this run did not reinstall it"
DISKS = [
    ({"web-1": "other"}, "web-1 has another system disk (other) than the one that was verified (new)"),
    ({"web-1": "gone"}, "web-1 does not exist any more"),
    (
        {"web-2": "other"},
        f"web-2 has another system disk (other) than when the run was opened (None), {NOT_OURS}",
    ),
]


@pytest.mark.parametrize(("disks", "words"), DISKS)
def test_servers_that_are_not_as_the_run_left_them(disks: dict[str, str], words: str) -> None:
    """Also where there is no record at all."""
    assert judged(journal(*done()), record(), disks=disks).odd == [words]
    assert judged(journal(*done()), source=None, disks=disks).odd == [words]


@pytest.mark.parametrize(("minute", "odd"), [(60, 0), (-3, 1)])
def test_a_later_wipe_on_record_explains_another_disk(minute: int, odd: int) -> None:
    """An audit of an old run names nobody whom a later one has reinstalled; an earlier one is no reason."""
    wiped = record("job-9", minute=minute, by="fleet")
    found = judged(journal(*done()), record(), wiped, disks={"web-1": "other"})
    assert len(found.odd) == odd
    assert len(found.notes) == 1


def test_who_is_in_flight_may_have_any_disk() -> None:
    data = journal(*done()[:4])
    for disk in ("old", "new", None):
        assert judged(data, record(), disks={"web-1": disk}).odd == []


def test_a_torn_last_line_is_left_out() -> None:
    assert judged(journal(*done()) + b'{"seq":99,"at":"20', record()).odd == []
