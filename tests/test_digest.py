"""Digests of runs: as true as the journal, and cheap."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from story_support import calm

from fleet import secrets
from fleet.errors import JournalError
from fleet.journal import load
from fleet.rehearsal.stories import tell
from fleet.report.digest import digest_of, keep_of, path_of
from fleet.report.status import figures, state_word


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of a run in which one server failed."""
    from fleet.cloud.simulator.faults import Fault, When  # noqa: PLC0415 - of this test alone

    story = calm(faults=(Fault(kind="job-fails", when=When(server="web-2", count=None)),), attempts=1)
    with secrets.set_aside():
        found = tell(story)
    path = tmp_path_factory.mktemp("told") / "journal.jsonl"
    path.write_bytes(found.journal)
    return path


@pytest.fixture
def journal(told: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(told, tmp_path / "journal.jsonl"))


def test_it_says_what_the_journal_says(journal: Path) -> None:
    run, _ = load(journal)
    made = digest_of(journal)
    assert made.figures == figures(run)
    assert made.figures["failed"] == 1
    assert (made.run, made.settled, made.state) == (run.id, run.is_settled, state_word(run, None))
    [tried] = made.tried
    assert len(tried.verified) == 2
    assert len(tried.failed) == 1
    assert digest_of(journal) == made
    assert path_of(journal).stat().st_mode & 0o777 == 0o600


def test_the_second_time_the_journal_is_not_read(journal: Path) -> None:
    made = digest_of(journal)
    size = journal.stat().st_size
    with journal.open("r+b") as file:  # everything but its end is gone: whoever reads it stumbles
        file.write(b"x" * (size - 200))
    assert digest_of(journal) == made
    path_of(journal).unlink()
    with pytest.raises(JournalError):
        digest_of(journal)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"fleet":"0"}'])
def test_one_that_is_damaged_is_made_anew(journal: Path, damage: bytes) -> None:
    made = digest_of(journal)
    path_of(journal).write_bytes(damage)
    assert digest_of(journal) == made
    assert json.loads(path_of(journal).read_bytes())["run"] == made.run


def test_one_of_a_journal_that_went_on_is_made_anew(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    whole = digest_of(journal)
    for count in range(len(lines) - 1, 2, -3):
        journal.write_bytes(b"".join(lines[:count]))
        run, _ = load(journal)
        assert digest_of(journal).figures == figures(run)
    journal.write_bytes(b"".join(lines))
    assert digest_of(journal) == whole


def test_a_torn_journal_is_read_every_time(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    digest_of(journal)
    assert not path_of(journal).exists()


def test_where_nothing_can_be_written_nothing_is_said(journal: Path) -> None:
    path_of(journal).mkdir()
    made = digest_of(journal)
    assert made.run == load(journal)[0].id
    keep_of(load(journal)[0], journal)
    assert sorted(path.name for path in journal.parent.iterdir()) == ["journal.digest.json", "journal.jsonl"]
