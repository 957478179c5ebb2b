"""The table of transitions, the fold over it, and what the counts must always say."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import AT, event_for, make_run

from fleet.core import events as ev
from fleet.core.fold import apply, may_follow
from fleet.core.model import ServerId
from fleet.core.phases import TRANSITIONS
from fleet.core.rollout import allowed_failures, cut_waves, decide, wave_size, why_waiting
from fleet.core.settings import Share
from fleet.core.state import IN_FLIGHT, SETTLED, IllegalEventError, Phase, Run

SERVER_EVENTS = list(ev.ServerEvent.__args__)


def test_every_phase_in_flight_can_fail_and_no_settled_one_moves_by_itself() -> None:
    for phase in Phase:
        assert (ev.Failed in TRANSITIONS[phase]) == (phase in IN_FLIGHT)
    assert set(TRANSITIONS[Phase.FAILED]) - {ev.Unclaimed, ev.DebtPaid, ev.UndoFailed} == {
        ev.Retried,
        ev.Skipped,
    }
    assert set(TRANSITIONS[Phase.VERIFIED]) - {ev.Unclaimed, ev.DebtPaid, ev.UndoFailed} == {ev.WentBad}


def test_only_the_announcement_leads_to_requested_and_only_from_stopped() -> None:
    """Whoever is asked for was announced; whoever is announced was stopped first."""
    into = {
        (phase, kind)
        for phase, row in TRANSITIONS.items()
        for kind, to in row.items()
        if to is Phase.REQUESTED and phase is not to
    }
    assert into == {(Phase.STOPPED, ev.ReinstallRequested)}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("kind", SERVER_EVENTS)
def test_what_the_table_does_not_name_is_refused(phase: Phase, kind: type) -> None:
    run = make_run()
    server = run.servers[ServerId("web-1")]
    server.phase = phase
    server.changed = phase is Phase.SKIPPED
    legal = kind in TRANSITIONS[phase]
    if legal:
        run.targets["web"].phases[phase] += 1
        apply(run, event_for(kind, server.id), AT)
        assert server.phase is TRANSITIONS[phase][kind]
    else:
        with pytest.raises(IllegalEventError):
            apply(run, event_for(kind, server.id), AT)


def test_who_was_skipped_by_a_person_is_not_retried() -> None:
    """Only who was left alone because it had changed may get another look."""
    run = make_run()
    server = run.servers[ServerId("web-1")]
    apply(run, ev.Skipped(server=server.id, reason="decommissioned"), AT)
    with pytest.raises(IllegalEventError):
        apply(run, event_for(ev.Retried, server.id), AT)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, len(SERVER_EVENTS) - 1)), max_size=120),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_the_counts_are_right_after_any_story(story: list[tuple[int, int]], two: bool) -> None:  # noqa: FBT001
    """However events follow one another, the counters agree with a recount from scratch."""
    run = make_run(6 if not two else 3, targets=("a", "b") if two else ("web",), hold_after=99)
    ids = list(run.servers)
    for index, kind in story:
        server = run.servers[ids[index]]
        event = event_for(SERVER_EVENTS[kind], server.id)
        if not may_follow(server, type(event)):
            continue
        apply(run, event, AT)
        assert run.counts() == Counter(each.phase for each in run.servers.values())
        for target in run.targets.values():
            mine = [each for each in run.servers.values() if each.member.target == target.name]
            assert target.in_flight == sum(each.phase in IN_FLIGHT for each in mine)
            for number, wave in enumerate(target.waves, 1):
                members = [each for each in mine if each.member.wave == number]
                assert wave.unsettled == sum(each.phase not in SETTLED for each in members)
                assert set(wave.waiting) == {each.id for each in members if each.phase is Phase.WAITING}
            unfinished = [n for n, wave in enumerate(target.waves) if wave.unsettled]
            assert target.current == (unfinished[0] if unfinished else len(target.waves))


def settle(run: Run, server: ServerId, *, failed: bool = False) -> None:
    """Take a server from waiting to its end."""
    kinds = [ev.Admitted, ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted, ev.Reinstalled, ev.Started]
    kinds += [ev.Failed] if failed else [ev.ChecksPassed, ev.Verified]
    for kind in kinds:
        apply(run, event_for(kind, server), AT)


def test_waves_follow_one_another_within_the_concurrency() -> None:
    run = make_run(6, waves=(1, 3), concurrency=2)
    assert decide(run).start == ("web-1",)
    settle(run, ServerId("web-1"))
    assert decide(run).start == ("web-2", "web-3")
    apply(run, ev.Admitted(server=ServerId("web-2")), AT)
    assert decide(run).start == ("web-3",)
    assert why_waiting(run, run.servers[ServerId("web-5")]) == "waits for wave 2"


def test_targets_follow_one_another() -> None:
    run = make_run(1, targets=("db", "web"))
    assert decide(run).start == ("db-1",)
    assert why_waiting(run, run.servers[ServerId("web-1")]) == "waits for target db"
    settle(run, ServerId("db-1"))
    assert decide(run).start == ("web-1",)


def test_the_third_failure_holds_when_two_are_allowed() -> None:
    run = make_run(6, waves=(6,), concurrency=6, hold_after=2)
    for n in (1, 2):
        settle(run, ServerId(f"web-{n}"), failed=True)
    assert decide(run).hold is None
    settle(run, ServerId("web-3"), failed=True)
    hold = decide(run).hold
    assert hold == "3 of web failed, 2 allowed"
    apply(run, ev.RunHeld(reason=hold), AT)
    assert decide(run).start == ()
    assert decide(run).hold is None
    assert why_waiting(run, run.servers[ServerId("web-4")]) == "held: 3 of web failed, 2 allowed"


def test_a_release_forgives_what_was() -> None:
    run = make_run(6, waves=(6,), concurrency=6, hold_after=0)
    settle(run, ServerId("web-1"), failed=True)
    apply(run, ev.RunHeld(reason="x"), AT)
    apply(run, ev.RunReleased(reason="mended"), AT)
    assert decide(run).hold is None
    settle(run, ServerId("web-2"), failed=True)
    assert decide(run).hold == "1 of web failed since the release, 0 allowed"


def test_a_cause_that_is_everybodys_holds_at_once() -> None:
    run = make_run(6, waves=(6,), hold_after=5)
    apply(run, ev.Admitted(server=ServerId("web-1")), AT)
    apply(run, ev.Failed(server=ServerId("web-1"), reason="key pair gone", everybody=True), AT)
    assert decide(run).hold == "every server would meet this: key pair gone"


def test_a_drained_life_starts_nothing_and_the_next_one_does() -> None:
    run = make_run()
    apply(run, ev.RunDrained(reason="SIGINT"), AT)
    assert decide(run).start == ()
    apply(run, ev.RunResumed(host="h", pid=2), AT)
    assert decide(run).start == ("web-1",)


def test_was_off_is_what_the_first_look_said() -> None:
    """A server that we stopped, and that a later life finds off, was not off when we came."""
    run = make_run()
    web = ServerId("web-1")
    apply(run, ev.Admitted(server=web), AT)
    apply(run, ev.StopRequested(server=web), AT)
    apply(run, ev.Stopped(server=web, state="SHUTOFF", was_off=False), AT)
    apply(run, event_for(ev.ReinstallRequested, web), AT)
    apply(run, ev.ReinstallRefused(server=web, reason="busy"), AT)
    apply(run, ev.Stopped(server=web, state="SHUTOFF", was_off=True), AT)
    assert run.servers[web].was_off is False


@pytest.mark.parametrize(
    ("servers", "sizes", "expected"),
    [
        (13, (1, 5), [1, 5, 5, 2]),
        (10, (1, Share(percent=25)), [1, 3, 3, 3]),
        (3, (Share(percent=25),), [1, 1, 1]),
        (4, (100,), [4]),
        (0, (1,), []),
        (7, (Share(percent=100),), [7]),
    ],
)
def test_waves_are_cut_with_the_last_size_repeating(servers: int, sizes: tuple, expected: list[int]) -> None:
    assert cut_waves(servers, sizes) == expected


@pytest.mark.parametrize(
    ("percent", "servers", "wave", "failures"),
    [
        (25, 10, 3, 2),
        (10, 50, 5, 5),
        (10, 49, 5, 4),
        (1, 10, 1, 0),
        (33.3, 9, 3, 2),
        (100, 7, 7, 7),
        (28, 25, 7, 7),
    ],
)
def test_shares_round_up_for_waves_and_down_for_limits(
    percent: float, servers: int, wave: int, failures: int
) -> None:
    assert wave_size(Share(percent=percent), servers) == wave
    assert allowed_failures(Share(percent=percent), servers) == failures


def test_a_server_listed_twice_is_no_run() -> None:
    opened = make_run(2).opened
    twice = ev.RunOpened(
        **{name: getattr(opened, name) for name in opened.__struct_fields__} | {"members": opened.members * 2}
    )
    with pytest.raises(IllegalEventError, match="listed twice"):
        Run(twice, AT + timedelta(seconds=1))


# -- counts across releases, retries and skips ----------------------------------------------------------


def failed_run(servers: int = 8, *, failed: int, hold_after: int = 0) -> Run:
    run = make_run(servers, waves=(servers,), hold_after=hold_after)
    for n in range(1, failed + 1):
        fail(run, n)
    return run


def fail(run: Run, n: int, **fields) -> None:
    server = ServerId(f"web-{n}")
    apply(run, ev.Admitted(server=server), AT)
    apply(run, ev.Failed(server=server, reason="broken", **fields), AT)


def test_a_released_failure_that_is_retried_makes_no_room_for_others() -> None:
    """Released, then retried: the slate is clean, it has no credit. The next failure holds again."""
    run = failed_run(failed=3)
    apply(run, ev.RunHeld(reason="3 failed"), AT)
    apply(run, ev.RunReleased(reason="fixed"), AT)
    assert decide(run).hold is None
    for n in (1, 2, 3):
        apply(run, ev.Retried(server=ServerId(f"web-{n}"), reason="again"), AT)
    assert run.targets["web"].forgiven == 0
    fail(run, 4)
    assert decide(run).hold == "1 of web failed, 0 allowed"


def test_a_released_failure_that_is_skipped_makes_no_room_either() -> None:
    run = failed_run(failed=2)
    apply(run, ev.RunReleased(reason="fixed"), AT)
    apply(run, ev.Skipped(server=ServerId("web-1"), reason="gone"), AT)
    assert decide(run).hold is None
    fail(run, 3)
    assert decide(run).hold == "1 of web failed since the release, 0 allowed"


def test_a_failure_after_the_release_that_is_retried_leaves_the_forgiven_ones_forgiven() -> None:
    run = failed_run(failed=2, hold_after=1)
    apply(run, ev.RunReleased(reason="fixed"), AT)
    fail(run, 3)
    apply(run, ev.Retried(server=ServerId("web-3"), reason="again"), AT)
    fail(run, 3)
    assert decide(run).hold is None, "one since the release, one allowed"
    fail(run, 4)
    assert decide(run).hold == "2 of web failed since the release, 1 allowed"


def test_a_spent_budget_holds_also_while_the_life_drains() -> None:
    """Exit 4, not 5: a run that cannot go on by itself does not pretend that a later life would."""
    run = failed_run(failed=1)
    apply(run, ev.RunDrained(reason="SIGTERM"), AT)
    assert decide(run).hold == "1 of web failed, 0 allowed"


def reinstalled(run: Run, n: int) -> ServerId:
    server = ServerId(f"web-{n}")
    for kind in (ev.Admitted, ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted):
        apply(run, event_for(kind, server), AT)
    return server


def test_untouched_is_said_of_nobody_who_was_reinstalled_in_an_earlier_go() -> None:
    run = make_run()
    server = reinstalled(run, 1)
    apply(run, ev.Failed(server=server, reason="checks"), AT)
    apply(run, ev.Retried(server=server, reason="again"), AT)
    assert run.servers[server].accepted == 0
    fail(run, 1, untouched=True)
    assert not run.servers[server].untouched


def test_untouched_is_said_of_nobody_who_is_undecidable() -> None:
    run = make_run()
    server = ServerId("web-1")
    for kind in (ev.Admitted, ev.Stopped, ev.ReinstallRequested, ev.Failed, ev.Retried):
        apply(run, event_for(kind, server), AT)
    assert run.servers[server].wiped is None
    fail(run, 1, untouched=True)
    assert not run.servers[server].untouched


def test_untouched_is_said_of_one_whose_requests_were_all_refused() -> None:
    run = make_run()
    server = ServerId("web-1")
    for kind in (ev.Admitted, ev.Stopped, ev.ReinstallRequested, ev.ReinstallRefused):
        apply(run, event_for(kind, server), AT)
    apply(run, ev.Failed(server=server, reason="refused", untouched=True), AT)
    assert run.servers[server].untouched
