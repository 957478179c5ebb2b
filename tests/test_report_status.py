"""Where everybody stands: figures that add up, words that a person can act on."""

from __future__ import annotations

import io
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from support import AT, event_for, glance_at, make_run

from fleet.cli.common import print_lines
from fleet.core import events as ev
from fleet.core.fold import apply, may_follow
from fleet.core.model import ServerId
from fleet.core.settings import Window
from fleet.core.state import Phase, Run
from fleet.report.progress import Progress, hint_for
from fleet.report.status import as_data, as_text, duration, figures, headline, next_step, state_word, summary

NOW = AT + timedelta(minutes=10)
TO_DOUBT = (ev.Admitted, ev.Stopped, ev.ReinstallRequested)
TO_VERIFIED = (*TO_DOUBT, ev.ReinstallAccepted, ev.Reinstalled, ev.Started, ev.ChecksPassed, ev.Verified)


def go(run: Run, n: int, *kinds: type, target: str = "web") -> ServerId:
    server = ServerId(f"{target}-{n}")
    for kind in kinds:
        apply(run, event_for(kind, server), AT)
    return server


def a_bit_of_everything() -> Run:
    run = make_run(12, waves=(12,), hold_after=5)
    go(run, 1, *TO_VERIFIED)
    go(run, 2, *TO_VERIFIED)
    go(run, 3, *TO_DOUBT)
    go(run, 4, ev.Admitted)
    go(run, 5, *TO_DOUBT, ev.ReinstallAccepted)
    failed = go(run, 6, ev.Admitted)
    apply(
        run,
        ev.Failed(
            server=failed,
            reason="quota is spent",
            hint="ask for more",
            code="Ecs.0020",
            request_id="req-1",
            untouched=True,
        ),
        AT,
    )
    go(run, 7, ev.Skipped)
    return run


def text(run: Run, worked_on: str | None = None, **options) -> str:
    return "\n".join(as_text(run, worked_on=worked_on, now=NOW, name=run.id, **options))


def test_figures_add_up() -> None:
    run = a_bit_of_everything()
    assert figures(run) == {
        "selected": 12,
        "verified": 2,
        "failed": 1,
        "skipped": 1,
        "in_flight": 2,
        "in_doubt": 1,
        "never_touched": 5,
    }
    assert headline(run) == (
        "12 servers = 2 verified + 1 failed + 1 skipped + 2 in flight + 1 in doubt + 5 never touched"
    )


SERVER_EVENTS = list(ev.ServerEvent.__args__)


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(SERVER_EVENTS)), max_size=80))
@settings(max_examples=100, deadline=None)
def test_figures_add_up_whatever_happens(story: list[tuple[int, type]]) -> None:
    run = make_run()
    for n, kind in story:
        if may_follow(run.servers[ServerId(f"web-{n}")], kind):
            go(run, n, kind)
        found = figures(run)
        assert found.pop("selected") == sum(found.values()) == 6
        list(as_text(run, worked_on=None, now=NOW, name="r"))


def test_what_a_person_reads() -> None:
    run = a_bit_of_everything()
    assert text(run, worked_on="pid 7 on host") == "\n".join(
        [
            "r: running (pid 7 on host)",
            headline(run),
            "  web: wave 1 of 1, 2 of 12 verified, 1 failed, 3 in flight, 1 of them in doubt",
            "in flight:",
            "  web-4: stopping for 10m00s",
            "  web-3: requested (in doubt) for 10m00s",
            "  web-5: reinstalling for 10m00s",
            "failed:",
            "  web-6: quota is spent [Ecs.0020] (request req-1). It was not touched.",
            "    ask for more",
            "skipped:",
            "  web-7: gone",
            "never touched:",
            "  5 x concurrency 2 is reached",
        ]
    )


def test_who_would_not_be_done_in_time_is_not_said_to_start() -> None:
    """As the process reckons that works on the run: by earlier runs, or by the time-outs."""
    window = Window(start=AT.isoformat(), end=(AT + timedelta(minutes=30)).isoformat())
    run = make_run(2, waves=(2,))
    run.edit(msgspec.structs.replace(run.settings, windows=(window,)))
    took = [(("", "", ""), 60.0)] * 10
    for seen, words in (
        (took, "about to be started"),
        ([], "would end "),
        ([*took, (("", "", ""), 1300.0)], "would end "),
    ):
        rows = as_data(run, worked_on="pid 1", now=NOW, name="r", seen=seen)["servers"]
        assert rows[0]["reason"].startswith(words)
        assert f"2 x {words}" in "\n".join(as_text(run, worked_on="pid 1", now=NOW, name="r", seen=seen))


def test_the_reason_is_told_for_everybody_who_was_not_started() -> None:
    run = make_run(6, waves=(1, 2), targets=("db", "web"))
    reasons = {
        each["id"]: each["reason"] for each in as_data(run, worked_on=None, now=NOW, name="r")["servers"]
    }
    assert reasons["db-1"] == "no process works on the run"
    rows = as_data(run, worked_on="pid 1", now=NOW, name="r")["servers"]
    assert {each["id"]: each["reason"] for each in rows}["db-1"] == "about to be started"
    assert reasons["db-2"] == "waits for wave 1"
    assert reasons["web-1"] == "waits for target db"
    apply(run, ev.RunHeld(reason="3 of db failed, 0 allowed"), AT)
    assert "  12 x held: 3 of db failed, 0 allowed" in text(run)


@pytest.mark.parametrize(
    ("events", "worked_on", "state", "step"),
    [
        ([], None, "unfinished: its process has ended", "fleet resume NAME"),
        ([], "pid 7", "running (pid 7)", None),
        ([ev.RunDrained(reason="SIGINT")], None, "drained: SIGINT", "fleet resume NAME"),
        (
            [ev.RunHeld(reason="1 failed")],
            None,
            "held: 1 failed",
            "fleet release NAME --reason …, then fleet resume NAME",
        ),
        (
            [ev.RunDrained(reason="SIGINT"), ev.RunHeld(reason="1 failed")],
            None,
            "held: 1 failed",
            "fleet release NAME --reason …, then fleet resume NAME",
        ),
    ],
)
def test_what_a_run_is_doing_and_what_goes_on(
    events: list[ev.Event], worked_on: str | None, state: str, step: str | None
) -> None:
    run = make_run()
    for event in events:
        apply(run, event, AT)
    assert state_word(run, worked_on) == state
    assert next_step(run, worked_on, "NAME") == step


def test_a_finished_run_has_nothing_left_but_its_failures() -> None:
    run = make_run(2, waves=(2,))
    go(run, 1, *TO_VERIFIED)
    go(run, 2, *TO_VERIFIED)
    assert (state_word(run, None), next_step(run, None, "r")) == ("finished", None)
    run = make_run(1)
    go(run, 1, ev.Admitted, ev.Failed)
    assert next_step(run, None, "r") == "fleet retry r --reason …"


def test_long_lists_are_cut_unless_all_is_wanted() -> None:
    run = make_run(30, waves=(30,), concurrency=30, hold_after=30)
    for n in range(1, 31):
        go(run, n, ev.Admitted, ev.Failed)
    short = text(run)
    assert short.count("broken") == 20
    assert "  … and 10 more (--all shows them)" in short
    assert text(run, everything=True).count("broken") == 30
    last = list(summary(run, now=NOW, name="r", journal="/j"))
    assert sum("broken" in line for line in last) == 20


def test_a_held_run_says_since_when_and_when_those_in_flight_settle() -> None:
    """Also one that a process works on: its state is "running", and somebody has to know that it is held."""
    run = a_bit_of_everything()
    apply(run, ev.RunHeld(reason="INC-4711 (ann)", by="ann"), AT)
    since = f"held since {AT:%Y-%m-%d %H:%M} UTC"
    assert f"\n{since}\n" in text(run)
    words = text(run, worked_on="pid 1")
    assert f"\n{since}: INC-4711 (ann)\n3 in flight, 1 of them in doubt, settle " in words
    assert ": 2 are brought to their end, 1 not wiped yet is put back\n" in words
    data = as_data(run, worked_on="pid 1", now=NOW, name="r")
    assert (data["held"], data["held_since"]) == ("INC-4711 (ann)", AT)
    apply(run, ev.RunReleased(reason="over", by="ann"), AT)
    apply(run, ev.RunDrained(reason="lunch"), AT)
    assert "\ndraining: lunch\n3 in flight" in text(run, worked_on="pid 1")


def test_the_last_words_say_how_to_go_on_and_say_it_last() -> None:
    found = list(summary(a_bit_of_everything(), now=NOW, name="r", journal="/j.jsonl"))
    assert found[0] == "r: unfinished: its process has ended after 10m00s"
    assert found[-2:] == ["journal: /j.jsonl", "next: fleet resume r"]
    assert (
        "3 left in flight: 1 stopping, 1 requested (in doubt), 1 reinstalling; "
        "the cloud goes on with what it was asked"
    ) in found


def test_data_for_a_pipe() -> None:
    run = a_bit_of_everything()
    data = msgspec.json.decode(msgspec.json.encode(as_data(run, worked_on=None, now=NOW, name="r")))
    assert data["figures"]["selected"] == len(data["servers"]) == 12
    by_id = {each["id"]: each for each in data["servers"]}
    assert by_id["web-3"]["in_doubt"]
    assert by_id["web-3"]["system_disk_before"] == "old"
    assert by_id["web-1"]["system_disk"] == "new"
    assert (by_id["web-6"]["code"], by_id["web-6"]["hint"]) == ("Ecs.0020", "ask for more")
    assert by_id["web-4"]["age_s"] == 600.0
    assert sum(each["phase"] == "verified" for each in data["servers"]) == data["figures"]["verified"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (252, "4m12s"),
        (3600, "1h00m"),
        (3780, "1h03m"),
        (86400 * 2 + 3600 * 4, "2d4h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words


def named(name: str) -> Run:
    run = make_run(2, waves=(2,), hold_after=5)
    members = tuple(msgspec.structs.replace(member, name=name) for member in run.opened.members)
    run = Run(msgspec.structs.replace(run.opened, members=members), AT)
    go(run, 1, ev.Admitted)
    go(run, 2, ev.Admitted, ev.Failed)
    return run


EVIL = "web\x1b[2J\x07\r[/red][bold]"


def test_a_name_cannot_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(as_text(named(EVIL), worked_on=None, now=NOW, name="r"))
    out = capsys.readouterr().out
    assert "web?[2J??[/red][bold]: stopping" in out
    assert not set(out) & {"\x1b", "\x07", "\r"}


def test_nor_to_the_live_display() -> None:
    """Nor is a name in brackets taken for markup, which would end the run with an error."""
    console = Console(file=io.StringIO(), width=120, height=30, color_system=None)
    console.print(Progress(glance_at(named(EVIL), NOW)))
    shown = console.file.getvalue()
    assert shown.count("[/red][bold]") == 2
    assert not set(shown) & {"\x1b", "\x07", "\r"}


def drawn(run: Run) -> Progress:
    see = glance_at(run, NOW)
    return Progress(see, hint_for(see, mine=True))


def test_the_live_display_shows_every_state_of_a_run() -> None:
    console = Console(file=io.StringIO(), width=120, height=30, color_system=None)
    run = a_bit_of_everything()
    console.print(drawn(run))
    shown = console.file.getvalue()
    assert "requested (in doubt)" in shown
    assert "failed: 1 while stopping: quota is spent [Ecs.0020]: web-6" in shown
    assert "wave 1 of 1: 4 of 12 settled" in shown
    apply(run, ev.RunDrained(reason="SIGINT"), AT)
    console.print(drawn(run))
    assert "draining; Ctrl-C again: stop at once" in console.file.getvalue()


def test_every_phase_has_a_place_in_the_figures() -> None:
    for phase in Phase:
        run = make_run(1)
        server = run.servers[ServerId("web-1")]
        run.targets["web"].phases[server.phase] -= 1
        run.targets["web"].phases[phase] += 1
        found = figures(run, quick=True)
        assert sum(found.values()) == 2, phase
