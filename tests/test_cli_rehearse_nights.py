"""`fleet rehearse` of plans with windows, with durations that are known, and of many nights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fleet.cli.main import run_command_line
from fleet.errors import Exit

PLAN = """\
version: 1
name: nightly
cloud: {{provider: simulator}}
{windows}
rollout: {{waves: [1, 3], concurrency: 1, max_failures: {failures}}}
defaults:
  reinstall: {{key_pair: demo-key, timeout: 5m, attempts: 1}}
  stop: {{soft_timeout: 1m}}
  verify: {{timeout: 2m}}
targets:
  - {{name: web, select: {{name: "web-*"}}}}
"""
NIGHT = "windows: [{{days: [sat, sun], from: '22:00', to: '{}', timezone: Europe/Berlin}}]"
FLEET = "servers:\n  - {name: 'web-{}', count: 4}\n"
FRIDAY = ("--at", "2026-12-04T12:00")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


class Rehearsal:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.err = ""

    def text(self, windows: str, *options: str, failures: int = 1, fleet: str = FLEET) -> tuple[int, str]:
        (self.folder / "plan.yaml").write_text(PLAN.format(windows=windows, failures=failures))
        (self.folder / "fleet.yaml").write_text(fleet)
        plan, servers = str(self.folder / "plan.yaml"), str(self.folder / "fleet.yaml")
        code = run_command_line(["rehearse", plan, "--fleet-file", servers, *options])
        out, self.err = self._capsys.readouterr()
        return code, out

    def data(self, windows: str, *options: str, **more: Any) -> tuple[int, Any]:
        code, out = self.text(windows, *options, "-o", "json", **more)
        return code, msgspec.json.decode(out)


@pytest.fixture
def rehearsal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Rehearsal:
    return Rehearsal(tmp_path, capsys)


def test_it_begins_at_the_next_opening(rehearsal: Rehearsal) -> None:
    """The window is closed on Friday: Saturday night is played, and is enough."""
    code, out = rehearsal.text(NIGHT.format("04:00"), *FRIDAY)
    assert code == Exit.OK, out
    assert "it begins when the window opens: Sat 2026-12-05 22:00 CET" in rehearsal.err
    assert "window 1, Sat 2026-12-05 22:00 CET to Sun 2026-12-06 04:00 CET: 4 begun, 4 verified" in out
    assert "done in window 1, Sat 2026-12-05 22:" in out


def test_it_begins_now_without_a_word(rehearsal: Rehearsal) -> None:
    """Whatever the clock shows now, a plan with a window is played to its end."""
    code, found = rehearsal.data(NIGHT.format("04:00"))
    (night,) = found["nights"]
    assert (code, night["servers"], night["violations"]) == (Exit.OK, {"verified": 4}, [])


def test_several_nights(rehearsal: Rehearsal) -> None:
    """A window too short for two after another, by the time-outs: the next ones go on, unless one must do."""
    code, found = rehearsal.data(NIGHT.format("22:30"), *FRIDAY)
    (night,) = found["nights"]
    assert code == Exit.OK
    assert night["done_in_window"] == 4, night["windows"]
    assert [each["window"] for each in night["windows"]] == [1, 2, 3, 4]
    assert sum(each["verified"] for each in night["windows"]) == 4
    assert night["done_at"].startswith("2026-12-13T21:")
    assert 0 < night["windows"][0]["used_share"] <= 1
    assert found["ends"]["break_window"] == 0

    code, out = rehearsal.text(NIGHT.format("22:30"), *FRIDAY, "--nights", "1")
    assert code == Exit.UNFINISHED
    assert ": more than 1" in out


def test_a_window_in_which_nobody_is_ever_started(rehearsal: Rehearsal) -> None:
    """Shorter than a server may take: said in words, and no defect of ours."""
    code, out = rehearsal.text(NIGHT.format("22:05"), *FRIDAY)
    assert code == Exit.UNFINISHED
    assert "not done: nobody was ever started: would end 22:" in out, out
    assert "P7" not in out


def test_a_window_that_never_opens(rehearsal: Rehearsal) -> None:
    """It is over: nothing is played."""
    windows = "windows: [{from: 2026-01-01T22:00:00Z, to: 2026-01-02T04:00:00Z}]"
    code, out = rehearsal.text(windows, *FRIDAY)
    assert (code, out) == (Exit.UNFINISHED, "nobody would ever be started: no window opens any more\n")
    assert rehearsal.data(windows, *FRIDAY)[1]["exit_code"] == Exit.UNFINISHED


def test_earlier_runs_are_reckoned_with(rehearsal: Rehearsal, state: Path) -> None:
    """They say how long a server takes, and so that all fit into the first window; and it takes so long."""
    known(state, [150.0, 160.0] * 10)
    code, found = rehearsal.data(NIGHT.format("22:30"), *FRIDAY)
    assert found["durations"] == "as 20 servers took in earlier runs of nightly"
    assert (code, found["nights"][0]["done_in_window"]) == (Exit.OK, 1)
    assert found["nights"][0]["took_s"] == pytest.approx(4 * 155, rel=0.2)


def test_who_overran_is_named(rehearsal: Rehearsal, state: Path) -> None:
    """Earlier runs were quick; tonight a guest ignores its stop, and is not done at the close."""
    known(state, [150.0, 160.0] * 10)
    fleet = FLEET + "faults:\n  - {kind: stop-hangs, when: {server: web-1}}\n"
    code, found = rehearsal.data(NIGHT.format("22:03"), *FRIDAY, fleet=fleet)
    (night,) = found["nights"]
    assert code == Exit.UNFINISHED
    assert list(night["overran"]) == ["web-1"]
    assert night["overran"]["web-1"] > 10
    assert night["windows"][0]["used_share"] > 1
    assert night["servers"] == {"verified": 4}
    _, out = rehearsal.text(NIGHT.format("22:03"), *FRIDAY, fleet=fleet)
    assert "1 not done when the window closed:\n    web-1: by " in out


def known(state: Path, took: list[float]) -> None:
    kind = {"image": "i", "flavor": "f", "zone": "z"}
    path = state / "plans" / "nightly.durations"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({**kind, "s": each}) + "\n" for each in took))


def test_stated_durations(rehearsal: Rehearsal, tmp_path: Path) -> None:
    """By an option or a file; a reinstall that outlasts its time-out fails, and a fourth is too many."""
    code, quick = rehearsal.data("", "--reinstall-takes", "30s")
    assert code == Exit.OK
    stated = tmp_path / "stated.yaml"
    stated.write_text("stop: 30s\nreinstall: 2m\n")
    code, slow = rehearsal.data("", "--durations", str(stated))
    assert code == Exit.OK
    assert slow["nights"][0]["took_s"] > quick["nights"][0]["took_s"] + 4 * 60
    assert rehearsal.data("", "--reinstall-takes", "20m")[0] == Exit.HELD
    assert rehearsal.data("", "--reinstall-takes", "20m", failures=4)[0] == Exit.FAILED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stop: 30s\nreboot: 2m\n", "stated.yaml:2: 'reboot' is no step"),
        ("reinstall: 12\n", "stated.yaml:1: reinstall: '12' is no duration"),
        ("reinstall: 0s\n", "must be above 0"),
        ("reinstall: [1m]\n", "stated.yaml:1: reinstall: a duration was expected"),
        ("", "states no duration"),
        ('{"image": "i", "flavor": "f", "zone": "z", "s": 9}\n', "has 1 durations, 10 are needed"),
    ],
)
def test_a_wrong_file_is_named(rehearsal: Rehearsal, tmp_path: Path, text: str, words: str) -> None:
    """File, line and remedy."""
    stated = tmp_path / "stated.yaml"
    stated.write_text(text)
    code, _ = rehearsal.text("", "--durations", str(stated))
    assert code == Exit.USAGE
    assert words in rehearsal.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--durations", "stated"), "no duration is stated"),
        (("--durations", "history"), "seen 0 servers, 10 are needed"),
        (("--durations", "nowhere.yaml"), "cannot be read"),
        (("--durations", "history", "--reinstall-takes", "1m"), "give one"),
        (("--reinstall-takes", "soon"), "'soon' is no duration"),
        (("--at", "tonight"), "'tonight' is no time"),
    ],
)
def test_a_wrong_option_is_named(rehearsal: Rehearsal, options: tuple[str, ...], words: str) -> None:
    """Before anything is played."""
    assert rehearsal.text("", *options)[0] == Exit.USAGE
    assert words in rehearsal.err


def test_more_failures_than_allowed_in_the_last_servers(rehearsal: Rehearsal) -> None:
    """Nobody is left to be held back, and the plan's limit is broken all the same."""
    fleet = "servers:\n  - {name: 'web-{}', count: 2}\n"
    code, found = rehearsal.data("", "--reinstall-takes", "20m", fleet=fleet)
    assert (found["nights"][0]["exit_code"], code) == (Exit.FAILED, Exit.HELD)
    assert found["ends"]["held"] == 1


def test_many_nights(rehearsal: Rehearsal) -> None:
    """Median, 95 % and worst, and how many would break the window."""
    code, found = rehearsal.data(NIGHT.format("22:30"), *FRIDAY, "--runs", "5", "--nights", "1")
    ends, took = found["ends"], sorted(night["took_s"] for night in found["nights"])
    assert (ends["median_s"], ends["p95_s"], ends["worst_s"]) == (took[2], took[4], took[4])
    assert (code, ends["runs"]) == (Exit.UNFINISHED, 5)
    assert ends["break_window"] == sum(night["done_in_window"] != 1 for night in found["nights"]) > 0
    _, out = rehearsal.text("", "--runs", "2")
    assert "2 nights: over after " in out
    assert "0 would break the window" in out
