"""Orders by files: what is answered, and when the run ends because of one."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

from fleet.errors import FleetError
from fleet.inbox import Inbox, ask
from fleet.steering import Order

ORDER = Order(verb="hold", reason="the pager rings", by="ann")


def asked(journal: Path) -> tuple[threading.Thread, list[object]]:
    """Give the order from another thread; its answer goes into the list."""
    answers: list[object] = []

    def give() -> None:
        try:
            answers.append(ask(journal, ORDER))
        except FleetError as error:
            answers.append(error)

    thread = threading.Thread(target=give)
    thread.start()
    return thread, answers


def taken(box: Inbox, words: str) -> Order:
    while True:
        for order, answer in box.take():
            answer(words)
            return order


def test_an_order_is_answered_although_the_run_ends_because_of_it(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    box = Inbox(journal)
    thread, answers = asked(journal)
    assert taken(box, "held; nobody is in flight") == ORDER
    box.close()
    thread.join()
    assert answers == ["held; nobody is in flight"]
    assert list(tmp_path.iterdir()) == []


def test_an_order_that_nobody_takes_is_taken_back(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    assert ask(journal, ORDER) is None  # no process has made an inbox
    box = Inbox(journal)
    thread, answers = asked(journal)
    thread.join()
    assert answers == [None]
    box.close()
    assert list(tmp_path.iterdir()) == []


def test_an_order_that_comes_too_late_waits_for_the_next_life(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    box = Inbox(journal)
    thread, answers = asked(journal)
    while not list(tmp_path.glob("*/*.order")):
        pass
    box.close()
    assert taken(Inbox(journal), "held") == ORDER
    thread.join()
    assert answers == ["held"]


def test_what_is_no_order_is_answered_as_such(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    box = Inbox(journal)
    [folder] = tmp_path.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "x.order").write_bytes(b"hold it!")
    assert list(box.take()) == []
    assert "this is no order" in (folder / "x.answer").read_text()
    assert stat.S_IMODE((folder / "x.answer").stat().st_mode) == 0o600
    assert not (folder / "x.order").exists()
    box.close()
