"""Metrics in Prometheus's text format, judged by its own client and, where it is installed, by promtool."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from rollout_support import open_run, settle, take, target
from support import AT, event_for

from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.core.settings import Window
from fleet.core.state import Phase, Run
from fleet.report.metrics import Seen, file_for, metrics_of, metrics_text, write_metrics

NIGHTS = Window(start="22:00", end="04:00", timezone="Europe/Berlin")
NOW = AT + timedelta(hours=3, minutes=30)  # half past midnight in Berlin


def read(text: str) -> dict[tuple[str, ...], float]:
    """Parse as Prometheus does: name, and the values of labels but the plan's, to the figure."""
    return {
        (sample.name, *(value for name, value in sample.labels.items() if name != "plan")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def a_night() -> Run:
    run = open_run((target(waves=(2, 100), approve_after=(1,)), 8), windows=(NIGHTS,))
    settle(run, "verified", "web-1")
    take(run, ev.Admitted(server=ServerId("web-2")), event_for(ev.Stopped, ServerId("web-2")))
    take(run, event_for(ev.ReinstallRequested, ServerId("web-2")), at=AT + timedelta(minutes=5))
    return run


def test_every_figure_of_a_night() -> None:
    run = a_night()
    found = read(metrics_text(run, now=NOW, worked_on="pid 1", calls={"list": 7, "reinstall": 2}))
    assert {phase: found["fleet_servers", str(phase)] for phase in Phase if run.counts()[phase]} == {
        Phase.WAITING: 6, Phase.REQUESTED: 1, Phase.VERIFIED: 1,
    }  # fmt: skip
    assert sum(found["fleet_servers", str(phase)] for phase in Phase) == 8
    assert found["fleet_servers_in_flight",] == found["fleet_servers_in_doubt",] == 1
    assert found["fleet_last_progress_timestamp_seconds",] == (AT + timedelta(minutes=5)).timestamp()
    assert found["fleet_window_open",] == 1
    closes = datetime.fromisoformat("2026-12-06T04:00:00+01:00")
    assert found["fleet_window_closes_timestamp_seconds",] == closes.timestamp()
    assert found["fleet_requests_total", "list"] == 7
    assert found["fleet_run_alive",] == 1
    assert ("fleet_last_exit_code",) not in found
    assert found["fleet_run_held",] == found["fleet_approval_awaited",] == found["fleet_servers_owed",] == 0


def test_what_waits_for_a_person() -> None:
    """A hold and an approval, each with its time; between windows the next opening."""
    run = a_night()
    settle_second = AT + timedelta(hours=2)
    take(run, event_for(ev.ReinstallAccepted, ServerId("web-2")), event_for(ev.Failed, ServerId("web-2")),
         at=settle_second)  # fmt: skip
    take(run, ev.RunHeld(reason="1 of web failed, 0 allowed"), at=settle_second)
    noon = AT + timedelta(hours=16)
    found = read(metrics_text(run, now=noon, code=4, undelivered=1))
    assert found["fleet_run_held",] == found["fleet_approval_awaited",] == 1
    assert found["fleet_run_held_since_timestamp_seconds",] == settle_second.timestamp()
    assert found["fleet_approval_awaited_since_timestamp_seconds",] == settle_second.timestamp()
    assert found["fleet_last_exit_code",] == 4
    assert found["fleet_notifications_undelivered",] == 1
    assert found["fleet_window_open",] == 0
    opens = datetime.fromisoformat("2026-12-06T22:00:00+01:00")
    assert found["fleet_next_window_opening_timestamp_seconds",] == opens.timestamp()
    assert found["fleet_nights_without_progress",] == 0
    third = read(metrics_text(run, now=noon + timedelta(days=2)))
    assert third["fleet_nights_without_progress",] == 2


def test_names_that_would_break_the_format() -> None:
    """Quotes, backslashes and line breaks of foreign words come back as they were."""
    run = a_night()
    cloud = 'https://iam "x" \\n\nfleet_run_held{plan="p"} 1 ü'
    run.opened = replace(run.opened, cloud=cloud)
    (info,) = [
        sample
        for family in text_string_to_metric_families(metrics_text(run, now=NOW))
        for sample in family.samples
        if sample.name == "fleet_run_info"
    ]
    assert info.labels["cloud"] == cloud


def test_several_plans_are_one_exposition() -> None:
    """All samples of a name stand together under one TYPE line, as the format wants it."""
    run = a_night()
    text = metrics_of([Seen(run.settings, run), Seen(replace(run.settings, plan="q"))], now=NOW)
    assert text.count("# TYPE fleet_window_open ") == 1
    plans = [
        sample.labels["plan"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "fleet_window_open"
    ]
    assert plans == ["p", "q"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_of() -> None:
    run = a_night()
    text = metrics_text(run, now=NOW, worked_on="pid 1", code=0, calls={"list": 7}, undelivered=0)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_file_is_replaced_as_a_whole_and_may_be_read_by_all(tmp_path: Path) -> None:
    path = file_for(tmp_path, "web-tier")
    assert path.name == "fleet-web-tier.prom"
    assert file_for(tmp_path / "x.prom", "web-tier") == tmp_path / "x.prom"
    before = os.umask(0o077)
    try:
        write_metrics(path, "a 1\n")
        with path.open() as reader:
            write_metrics(path, "b 2\n")
            assert reader.read() == "a 1\n", "who has it open reads what was there"
    finally:
        os.umask(before)
    assert path.read_text() == "b 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OSError, match="No such file"):
        write_metrics(tmp_path / "missing" / "x.prom", "")
