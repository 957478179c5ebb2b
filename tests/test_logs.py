"""Logs: one line for each event, without secrets, whoever reads them or no longer does."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog
from support import AT, event_for, make_run

from fleet import logs
from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.model import ServerId
from fleet.secrets import MARK, register

WEB = ServerId("web-1")
SECRET = "Planted-s3cret in a log"


@pytest.fixture(autouse=True)
def _as_before() -> None:
    yield
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def log_to(*, as_json: bool = True, **options) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(as_json=as_json, stream=stream, **options)
    return stream


def test_a_line_for_each_event_with_its_own_name_and_where_the_server_belongs() -> None:
    stream = log_to()
    log = logs.event_logger(make_run())
    log(ev.Admitted(server=WEB), AT)
    log(ev.ReinstallAccepted(server=WEB, job="job-1"), AT)
    first, second = lines(stream)
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "Admitted",
        "level": "info",
        "run": "r",
        "server": "web-1",
        "target": "web",
        "wave": 1,
    }
    assert (second["event"], second["job"]) == ("ReinstallAccepted", "job-1")
    assert "request_id" not in second, "what says nothing is left out"


def test_every_event_can_be_logged() -> None:
    stream = log_to()
    run = make_run()
    log = logs.event_logger(run)
    kinds = list(ev.ServerEvent.__args__)
    for kind in kinds:
        log(event_for(kind, WEB), AT)
    others = [
        run.opened,
        ev.RunResumed(host="h", pid=1, settings=run.settings, changes=("a: 1 → 2",)),
        ev.RunHeld(reason="x"),
        ev.RunReleased(reason="x"),
        ev.RunDrained(reason="x"),
        ev.RunFinished(verified=1, failed=0, skipped=0),
        ev.WaveStarted(target="web", wave=1, of=2, servers=1),
    ]
    for event in others:
        log(event, AT)
    found = lines(stream)
    assert [line["event"] for line in found] == [
        *(k.__name__ for k in kinds),
        *(type(o).__name__ for o in others),
    ]
    assert not any({"settings", "members"} & set(line) for line in found)


def test_a_nought_is_a_figure_like_any_other() -> None:
    stream = log_to()
    logs.event_logger(make_run())(ev.RunFinished(verified=6, failed=0, skipped=0), AT)
    (line,) = lines(stream)
    assert (line["verified"], line["failed"], line["skipped"]) == (6, 0, 0)


def test_what_needs_somebody_is_a_warning_and_all_that_quiet_shows() -> None:
    stream = log_to(level=logging.WARNING)
    run = make_run()
    log = logs.event_logger(run)
    for event in (
        ev.Admitted(server=WEB),
        ev.Failed(server=WEB, reason="broken"),
        ev.RunHeld(reason="1 failed"),
    ):
        apply(run, event, AT)
        log(event, AT)
    assert [(line["level"], line["event"]) for line in lines(stream)] == [
        ("warning", "Failed"),
        ("warning", "RunHeld"),
    ]


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_wherever_it_stands(*, as_json: bool) -> None:
    register(SECRET)
    stream = log_to(as_json=as_json)
    logger = structlog.get_logger()
    logger.info("sent", text=f"body {SECRET}", argv=[SECRET, "x"], deep={"a": {"b": SECRET}})
    try:
        raise ValueError(f"401 for {SECRET}")  # noqa: TRY301  # to have it logged
    except ValueError:
        logger.exception("failed")
    assert "Planted" not in stream.getvalue()
    assert stream.getvalue().count(MARK) >= 4


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_shows_no_locals(*, as_json: bool) -> None:
    """Locals are where passwords live that nobody has registered yet."""
    stream = log_to(as_json=as_json)

    def fails() -> None:
        password = "-".join(["not", "registered", "yet"])  # noqa: FLY002  # not in the source line
        raise RuntimeError(f"a defect of {len(password)}")

    try:
        fails()
    except RuntimeError:
        structlog.get_logger().exception("defect")
    assert "a defect of 18" in stream.getvalue()
    assert "not-registered-yet" not in stream.getvalue()


def test_a_name_cannot_speak_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = log_to(as_json=False)
    structlog.get_logger().info("Admitted", server="web\x1b[2J\x07")
    assert "\x1b" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()
    assert "web?[2J?" in stream.getvalue()


def test_a_line_that_nobody_takes_is_dropped() -> None:
    """A closed terminal, a full log disk: neither may stop a run half-way."""
    stream = log_to()
    stream.close()
    structlog.get_logger().info("into the void")

    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    logs.configure(as_json=False, stream=Full())
    structlog.get_logger().info("into the full")


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False), ({}, False)],
)
def test_colours_are_for_terminals_that_want_them(
    environ: dict, monkeypatch: pytest.MonkeyPatch, *, coloured: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    stream = log_to(as_json=False)
    structlog.get_logger().info("Admitted")
    assert ("\x1b[" in stream.getvalue()) is coloured
