"""The live display: it fits every screen, says the same on all of them, and costs what is on it."""

from __future__ import annotations

import io
import time
from datetime import timedelta

import msgspec
import pytest
from rich.console import Console
from rich.text import Text
from support import AT, event_for, glance_at, make_run

from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.model import ServerId
from fleet.core.state import Run
from fleet.report.ahead import Horizon
from fleet.report.glance import Eye, Glance
from fleet.report.meter import Rate
from fleet.report.progress import Progress, hint_for
from fleet.report.pulse import Pulse

SIZES = [(width, height) for width in (40, 80, 200) for height in (10, 14, 24, 50)]
STOPS = (ev.Admitted, ev.Stopped)
ACCEPTED = (*STOPS, ev.ReinstallRequested, ev.ReinstallAccepted)
VERIFIED = (*ACCEPTED, ev.Reinstalled, ev.Started, ev.ChecksPassed, ev.Verified)
EVIL = "\x1b[2Jno " + "very long reason " * 20


def go(run: Run, server: str, *kinds: type, after_s: float = 0.0) -> None:
    for number, kind in enumerate(kinds):
        apply(run, event_for(kind, ServerId(server)), AT + timedelta(seconds=after_s + number))


def busy(servers: int) -> Run:
    """Verified, failed for three causes, owed, in flight in several phases, waiting for two reasons."""
    run = make_run(servers, waves=(servers // 4, servers // 4), concurrency=servers // 8, hold_after=servers)
    names = iter(f"web-{n}" for n in range(1, servers + 1))
    for _ in range(servers // 16):
        go(run, next(names), *VERIFIED)
    for number in range(max(3, servers // 80)):
        name = next(names)
        go(run, name, ev.Admitted, ev.StopRequested)
        reason = ("no capacity", EVIL, "not stopped")[number % 3]
        apply(run, ev.Failed(server=ServerId(name), reason=reason, untouched=number == 0), AT)
    for number in range(servers // 8):
        go(run, next(names), *(STOPS, ACCEPTED, ACCEPTED[:3])[number % 3])
    return run


def screen(see: Glance, width: int, height: int, *, mine: bool = True, **options) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, **options)
    console.print(Progress(see, hint_for(see, mine=mine)))
    return out.getvalue().splitlines()


RATE = Rate(at=AT, per_s=14.25, total=100, ceiling=50, slowed={"reinstall": 0.8})


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("servers", [40, 4000])
def test_it_fits_the_screen(width: int, height: int, servers: int) -> None:
    """No line is longer than the screen, none is too many, and what matters is on each of them."""
    see = glance_at(busy(servers), AT + timedelta(minutes=5), rate=RATE)
    lines = screen(see, width, height)
    assert len(lines) < height
    assert max(len(line) for line in lines) <= width
    text = " ".join(line.strip() for line in lines)
    assert "\x1b" not in text
    assert f"{servers} servers = " in text
    assert "never touched" in text
    assert "owed to 1 server" in text
    if height > 10:
        for wanted in (
            f"{servers // 8} in flight, ",
            "owed to 1 server",
            "failed",
            "not started",
            "wave 1",
            "ends about",
            "14.2 of 50",
        ):
            assert wanted in text, wanted
    if height >= 24:
        assert "no capacity" in text
        assert "waits for wave 1" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_same_is_said_without_colour(width: int) -> None:
    """What colour says is in the words too: only the styles are missing."""
    see = glance_at(busy(40), AT + timedelta(minutes=5), rate=RATE)
    coloured = screen(see, width, 40, force_terminal=True, color_system="truecolor", legacy_windows=False)
    plain = screen(see, width, 40, force_terminal=True, color_system="truecolor", no_color=True)
    bare = screen(see, width, 40)
    assert any("\x1b[31m" in line for line in coloured)
    assert not any("\x1b[31m" in line for line in plain)
    assert [_unstyled(line) for line in coloured] == [_unstyled(line) for line in plain] == bare


def _unstyled(line: str) -> str:
    return Text.from_ansi(line).plain


def test_an_old_terminal_sees_a_bar_of_plain_letters() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    Console(file=out, width=100, height=30, force_terminal=True, color_system=None).print(
        Progress(glance_at(busy(40)))
    )
    out.seek(0)
    drawn = out.read()
    assert "#...." in drawn
    assert "━" not in drawn


def test_whole_pictures() -> None:
    """Line by line, on a usual terminal and on a narrow one."""
    see = glance_at(busy(40), AT + timedelta(minutes=5), rate=RATE)
    assert screen(see, 80, 24)[:4] == [
        "r, 5m00s: running (this process)",
        "40 servers = 2 verified + 3 failed + 4 in flight + 1 in doubt + 30 never touched",
        "ends about 20:05 · 14.2 of 50 requests/s; throttled: reinstall to 0.8/s",
        "Ctrl-C: start nothing more (drain); twice: stop at once",
    ]
    assert any(line.startswith("web ━━━─────") for line in screen(see, 80, 24))
    assert any(line.endswith("wave 1 of 4: 5 of 10 settled") for line in screen(see, 80, 24))
    assert any(line.startswith("web 5/40  wave 1/4") for line in screen(see, 40, 24))


def test_lists_that_are_cut_say_how_much_is_missing() -> None:
    lines = screen(glance_at(busy(4000), rate=RATE), 100, 24)
    flying = lines[next(n for n, line in enumerate(lines) if line.startswith("500 in flight")) + 1 :]
    assert flying[-1] == f"  … and {500 - len(flying) + 1} more"
    assert all(line.startswith("  web-") for line in flying[:-1])


def test_who_is_overdue_comes_first_and_nobody_else_moves() -> None:
    """Rows stand in the order of admission, whatever happens to phases; only who is late moves, once."""
    run = make_run(12, waves=(12,), concurrency=12, hold_after=12)
    pulse = Pulse(run)
    eye = Eye(pulse, Horizon(pulse), "r")

    def tell(server: int, kind: type, seconds: float) -> None:
        at = AT + timedelta(seconds=seconds)
        apply(run, event_for(kind, ServerId(f"web-{server}")), at)
        pulse.hear(event_for(kind, ServerId(f"web-{server}")), at)

    for n in range(1, 9):
        tell(n, ev.Admitted, n)
    for n in (1, 2, 3, 5, 6, 7, 8):
        tell(n, ev.Stopped, 30 + n)

    def order(seconds: float) -> list[str]:
        see = eye.look(AT + timedelta(seconds=seconds), worked_on="x")
        return [f"{row.label}{'!' * row.overdue}" for row in see.flying]

    calm = [f"web-{n}" for n in range(1, 9)]
    assert order(40) == calm
    assert order(63) == calm, "twice as long as usual is the limit"
    assert order(66) == ["web-4!", *(each for each in calm if each != "web-4")]
    tell(2, ev.ReinstallRequested, 67)
    assert order(68) == ["web-4!", *(each for each in calm if each != "web-4")]
    see = eye.look(AT + timedelta(seconds=66), worked_on="x")
    assert see.flying[0].words() == "web-4: stopping for 1m02s, usually 30s"
    assert see.overdue == 1
    assert any("web-4 stopping" in line and "overdue" in line for line in screen(see, 100, 24))
    assert any("web-4 stopping     1m02s (30s)" in line for line in screen(see, 40, 24))


@pytest.mark.parametrize("width", [40, 60, 120])
def test_in_doubt_is_said_on_every_screen(width: int) -> None:
    run = make_run(1, waves=(1,))
    go(run, "web-1", *ACCEPTED[:3])
    assert "in doubt" in screen(glance_at(run), width, 24)[-1]
    assert "(in doubt)" in glance_at(run).flying[0].words()


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([ev.RunHeld(reason="3 failed, 2 allowed")], "running (x), held: 3 failed, 2 allowed"),
        ([ev.RunDrained(reason="SIGINT")], "running (x), draining: SIGINT"),
    ],
)
def test_what_stops_a_run_is_in_its_first_line_and_the_reason_of_everybody(
    events: list[ev.Event], words: str
) -> None:
    run = make_run(4, waves=(4,))
    for event in events:
        apply(run, event, AT)
    see = glance_at(run, worked_on="x")
    assert see.state == words
    assert list(see.waiting.values()) == [4]
    assert see.ends == "", "nothing more is started"
    assert screen(see, 100, 24)[0] == f"r, 0s: {words}"


def test_what_stops_a_run_ends_its_forecast_at_once() -> None:
    """It is made anew every few seconds only, but never shown of a run that does not go on."""
    run = make_run(4, waves=(4,))
    eye = Eye(pulse := Pulse(run), Horizon(pulse), "r")
    assert eye.look(AT, worked_on="x").ends.startswith("ends about")
    apply(run, ev.RunDrained(reason="SIGINT"), AT)
    assert eye.look(AT, worked_on="x").ends == ""


def test_who_is_said_to_settle_is_who_is_in_flight() -> None:
    """Both figures are of one moment, though a forecast is not made anew with every look."""
    run = make_run(6, waves=(6,), concurrency=6)
    pulse = Pulse(run)
    eye = Eye(pulse, Horizon(pulse), "r")

    def heard(server: str, *kinds: type) -> None:
        for number, kind in enumerate(kinds):
            at = AT + timedelta(seconds=number)
            apply(run, event := event_for(kind, ServerId(server)), at)
            pulse.hear(event, at)

    heard("web-1", *VERIFIED)
    heard("web-2", *ACCEPTED)
    heard("web-3", *ACCEPTED)
    apply(run, ev.RunHeld(reason="x"), AT)
    for settled, words in (
        (None, "2 in flight settle by about "),
        ("web-2", "1 in flight settles by about "),
    ):
        if settled:
            heard(settled, *VERIFIED[len(ACCEPTED) :])
        see = eye.look(AT + timedelta(seconds=1), worked_on="this process")
        assert see.ends.startswith(words)
        assert f"+ {see.in_flight} in flight" in see.figures
    assert eye.look(AT, worked_on=None).ends == "", "nobody brings it to its end"


def test_groups_held_and_paces_lowered_are_said() -> None:
    run = make_run(40, waves=(40,), concurrency=20)
    apply(run, ev.GroupHeld(group={"flavor": "s3"}, reason="2 failed alike"), AT)
    apply(run, ev.PaceLowered(target="web", concurrency=10, reason="slower"), AT)
    text = "\n".join(screen(glance_at(run), 100, 24))
    assert "flavor s3 is held: 2 failed alike" in text
    assert "web: at most 10 at once instead of 20" in text


def test_many_targets_show_the_one_that_is_worked_on() -> None:
    names = tuple(f"t{n:02}" for n in range(20))
    run = make_run(2, waves=(2,), concurrency=9, hold_after=9, targets=names)
    for name in names[:12]:
        for n in (1, 2):
            go(run, f"{name}-{n}", *VERIFIED)
    lines = screen(glance_at(run), 80, 14)
    assert "20 targets, 12 finished" in lines
    assert lines[lines.index("20 targets, 12 finished") + 1].startswith("t12 ")


def test_who_watches_is_told_how_to_go_on() -> None:
    run = make_run(2, waves=(2,))
    see = glance_at(run, worked_on=None)
    lines = screen(see, 80, 24, mine=False)
    assert "r, 0s: unfinished: its process has ended" in lines
    assert "next: fleet resume r" in lines
    assert "Ctrl-C: stop watching" in lines
    assert "Ctrl-C: stop watching; the run goes on" in screen(
        glance_at(run, worked_on="x"), 80, 24, mine=False
    )


def test_drawing_a_hundred_times_as_many_costs_no_more() -> None:
    """A ratio within one run: 100,000 servers that wait, and as many in flight, against 1,000."""

    def cost(servers: int) -> float:
        run = make_run(servers, waves=(servers // 2,), concurrency=50, hold_after=9)
        members = tuple(
            msgspec.structs.replace(each, zone=f"z{n % 3}") for n, each in enumerate(run.opened.members)
        )
        run = Run(msgspec.structs.replace(run.opened, members=members), AT)
        for n in range(1, 51):
            go(run, f"web-{n}", *ACCEPTED)
        pulse = Pulse(run)
        eye = Eye(pulse, Horizon(pulse), "r")
        best = float("inf")
        for number in range(9):
            began = time.perf_counter()
            screen(eye.look(AT + timedelta(minutes=number), worked_on="x"), 80, 24)
            best = min(best, time.perf_counter() - began)
        return best

    assert cost(100_000) < 3 * cost(1_000)
