"""No schedule breaks a limit, and none waits without a reason: random fleets, plans, outcomes and crashes.

Every start is judged by `rollout_oracle`, which counts everything anew; every server that is not started
has a reason, and what is said about it is so.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Step
from hypothesis import strategies as st
from rollout_oracle import SETTLED, Books
from rollout_support import open_run, target
from story_support import calm
from support import AT, event_for

from fleet import secrets
from fleet.cloud.simulator.face import Face
from fleet.cloud.simulator.faults import fault
from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.model import ServerId
from fleet.core.outside import Outside
from fleet.core.rollout import Decision, Kind, approval_awaited, decide, why_waiting
from fleet.core.settings import (
    Around,
    Budget,
    Hooks,
    Limits,
    NeverMoreThan,
    Rollout,
    Settings,
    Share,
    Target,
)
from fleet.core.state import START, Phase, Run, ServerState
from fleet.errors import Exit
from fleet.rehearsal.life import Life, Scene

PAIR = Hooks(around_server=(Around(do=("do",), undo=("undo",)),))
REASONS = ("no boot", "checks failed", "job failed")


def some_rollout(rng: random.Random, *, servers: int) -> dict[str, object]:
    """Draw limits, several at once."""
    found: dict[str, object] = {
        "waves": rng.choice(((1,), (1, 2), (2, Share(percent=40)), (20,), ("cover", 3))),
        "concurrency": rng.choice((1, 2, 3, 8)),
        "hold_after": rng.choice((0, 1, 2, 5, 99)),
    }
    if rng.random() < 0.4:
        shares = (Share(percent=50), Share(percent=100)) if servers > 1 else ()
        found["max_unavailable"] = rng.choice((1, 2, 3, *shares))
    if rng.random() < 0.4:
        found["spread"] = rng.choice(
            ({"availability_zone": 1}, {"tag:rack": 1, "availability_zone": 3}, {"flavor": 2})
        )
    if rng.random() < 0.3:
        found["never_more_than"] = some_cap(rng)
    if rng.random() < 0.2:
        found["in_a_row"] = rng.choice((1, 2, 3))
    if rng.random() < 0.3:
        found["bake_s"] = 60.0
    if rng.random() < 0.3:
        found["approve_after"] = rng.choice(((1,), (1, 2), (2,)))
    return found


def some_cap(rng: random.Random) -> NeverMoreThan:
    return NeverMoreThan(at_least=rng.choice((1, 2, 3)), of_verified=rng.choice((20, 50, 100)))


def some_run(rng: random.Random) -> Run:
    """Draw a fleet and a plan."""
    names = ["a", "b", "c"][: rng.choice((1, 1, 2, 3))]
    made: list[tuple[Target, list[dict[str, object]]]] = []
    for place, name in enumerate(names):
        servers = rng.randint(1, 7)
        fields: list[dict[str, object]] = [
            {
                "zone": rng.choice(("z1", "z2")),
                "flavor": rng.choice(("f1", "f2")),
                "image": rng.choice(("i1", "i2")),
                "tags": rng.choice(({}, {"rack": "r1"}, {"rack": "r2"})),
            }
            for _ in range(servers)
        ]
        needs = rng.choice((None, (), tuple(rng.sample(names[:place], k=min(place, 1)))))
        hooks = rng.choice((None, None, PAIR))
        made.append((target(name, needs=needs, hooks=hooks, **some_rollout(rng, servers=servers)), fields))
    return open_run(
        *made,
        concurrency=rng.choice((None, None, 2, 4)),
        limits=Limits(draining=rng.choice((None, 1, 2))),
        budget=Budget(
            hold_after=rng.choice((None, None, 1, 3, Share(percent=50))),
            in_a_row=rng.choice((None, None, 3)),
            never_more_than=some_cap(rng) if rng.random() < 0.2 else None,
        ),
    )


class Play:
    """A run that is worked on as the engine does it, with everything that may happen in between."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.run = some_run(rng)
        self.books = Books(self.run.opened)
        self.journal: list[tuple[ev.Event, object]] = []
        self.now = AT
        self.closed: str | None = None
        self.final = False
        self.closes_s: float | None = None
        self.bakes: dict[tuple[str, int], object] = {}
        self.kind = -1.0  # how likely the next one fails
        self.seen: Counter[str] = Counter()

    def outside(self) -> Outside:
        expected = {"f1": 600.0, "f2": 1800.0}
        return Outside(
            self.now,
            closed=self.closed,
            closes_at=None if self.closes_s is None else self.now + timedelta(seconds=self.closes_s),
            final=self.final,
            expected_s=lambda server: expected[server.member.flavor],
        )

    def record(self, event: ev.Event) -> None:
        self.now += timedelta(seconds=1)
        apply(self.run, event, self.now)
        self.journal.append((event, self.now))
        self.books.take(event)

    # -- what the engine does -----------------------------------------------------------------------

    def admit(self) -> Decision:
        """Start whom `decide` lets through, each judged; then nobody is left waiting without a reason."""
        while True:
            outside = self.outside()
            decision = decide(self.run, outside)
            if decision.hold is not None:
                self.judge_hold(decision.hold)
                self.record(ev.RunHeld(reason=decision.hold))
            elif decision.group is not None:
                self.record(ev.GroupHeld(group=decision.group[0], reason=decision.group[1]))
            elif decision.slower is not None:
                name, most, why = decision.slower
                self.record(ev.PaceLowered(target=name, concurrency=most, reason=why))
            else:
                break
        for wave in decision.bake:
            state = self.run.targets[wave[0]].waves[wave[1] - 1]
            self.bakes.setdefault(wave, state.settled_at)
        for server in decision.start:
            why_not = self.books.why_not(server, outside)
            assert why_not == [], f"{server} is started although {why_not}"
            self.record(ev.Admitted(server=server))
            self.seen["started"] += 1
            if self.rng.random() < 0.03:
                self.crash()
                return Decision(start=decision.start)
        self.judge_waiting()
        self.judge_rest(decision)
        return decision

    def judge_hold(self, reason: str) -> None:
        """A hold is for a budget that is spent, or because nobody can be started without a person."""
        self.seen["held"] += 1
        if not reason.startswith("nobody else can be started: "):
            alike = "servers that share neither" in reason
            assert alike or list(self.books.spent()), reason
            return
        self.seen["stuck"] += 1
        assert self.books.count("flying") == 0, reason
        for name in self.waiting():
            why = self.books.why_not(name, self.outside())
            assert why, f"{name} can be started, and it is held: {reason}"
            # Whoever it is the turn of waits for nothing that comes by itself or by an approval.
            if not self.books.turn(name):
                assert set(why) - {"would end", "closed"}, (name, why, reason)

    def judge_waiting(self) -> None:
        """Whoever waits is kept by something, and what is said is what keeps it."""
        outside = self.outside()
        for name in self.waiting():
            server = self.run.servers[ServerId(name)]
            words = why_waiting(self.run, server, outside)
            assert self.books.why_not(name, outside), f"{name} waits for nothing: {words}"
            assert self.books.is_true(words, name, outside), f"{name}: {words!r} is not so"
            self.seen[words.split(" ")[0]] += 1

    def judge_rest(self, decision: Decision) -> None:
        """With nobody in flight and nobody to be started, what is waited for is named, and is so."""
        if self.books.count("flying") or decision.start or decision.bake or self.bakes:
            return
        if not self.waiting():
            assert self.run.is_settled
            return
        assert decision.waits is not None, self.waiting()
        why = decision.waits
        assert any(self.books.is_true(why.words, name, self.outside()) for name in self.waiting()), why
        assert why.kind not in {Kind.ROOM, Kind.PERSON, Kind.TURN, Kind.BAKE}, why
        if why.kind is Kind.APPROVAL:
            assert approval_awaited(self.run) is not None

    def waiting(self) -> list[str]:
        return [name for name, status in self.books.status.items() if status == "waiting"]

    # -- what happens to a server -------------------------------------------------------------------

    def step(self, *, calm: bool = False) -> bool:
        """Bring somebody in flight one fact further; tell whether there is anybody."""
        flying = [name for name, status in self.books.status.items() if status == "flying"]
        if not flying:
            return False
        server = self.run.servers[ServerId(self.rng.choice(sorted(flying)))]
        bad = 0.0 if calm else self.kind
        self.record(self.next_fact(server, bad))
        return True

    def next_fact(self, server: ServerState, bad: float) -> ev.Event:  # noqa: C901, PLR0912 - a table
        """Draw what comes next in a server's way."""
        rng, name = self.rng, server.id

        def make(kind: type) -> ev.Event:
            return event_for(kind, name)

        match server.phase:
            case Phase.STOPPING:
                plan = self.run.target(server)
                if plan.hooks.around_server and server.id in self.books.draining:
                    return make(ev.DrainStarted)
                if rng.random() < bad:
                    if server.wiped is False and server.noted is None:
                        return make(rng.choice((ev.GivingUp, ev.GivingUp, ev.StopRequested)))
                    return self.failed(server)
                return make(rng.choice((ev.StopRequested, ev.Stopped)))
            case Phase.DRAINING:
                if "1" not in server.owed:
                    return make(ev.DebtOwed)
                if rng.random() < bad:
                    return make(ev.GivingUp)
                return make(ev.Drained)
            case Phase.STOPPED:
                if rng.random() < bad / 2 and server.wiped is False:
                    back = rng.random() < 0.5
                    return ev.GivingUp(server=name, reason=rng.choice(REASONS), back=back)
                return make(ev.ReinstallRequested)
            case Phase.REQUESTED:  # in doubt, as long as nothing else is said
                if rng.random() < bad:
                    kinds = (ev.ReinstallUnanswered, ev.ReinstallNotTaken, ev.ReinstallRefused)
                    return rng.choice((self.failed(server), *(make(kind) for kind in kinds)))
                return make(ev.ReinstallAccepted)
            case Phase.REINSTALLING:
                if rng.random() < bad:
                    return make(ev.ReinstallFailed) if rng.random() < 0.3 else self.failed(server)
                return make(ev.Reinstalled)
            case Phase.REINSTALLED | Phase.STARTING:
                return make(ev.Started)
            case Phase.VERIFYING:
                return self.failed(server) if rng.random() < bad else make(ev.ChecksPassed)
            case _:
                return self.returned(server, bad)

    def returned(self, server: ServerState, bad: float) -> ev.Event:
        """Draw what comes of a server that is given back."""
        up = server.giving_up
        undone = self.rng.random() >= bad
        if up is not None and server.stopped_by_us and undone:
            return ev.DebtPaid(server=server.id, debt=START)
        if server.owed and undone:
            return ev.DebtPaid(server=server.id, debt="1")
        if up is None:
            return event_for(ev.Verified, server.id)
        if up.back and not server.owed and not server.stopped_by_us:
            return event_for(ev.PutBack, server.id)
        return ev.Failed(server=server.id, reason=up.reason, untouched=True)

    def failed(self, server: ServerState) -> ev.Event:
        reason = self.rng.choice((*REASONS, f"broken {server.id}"))
        return ev.Failed(server=server.id, reason=reason, everybody=self.rng.random() < 0.02)

    # -- what happens to the run --------------------------------------------------------------------

    def bake(self) -> bool:
        """Let a bake end; who does not stand the look has gone bad. As in `Engine._bake`."""
        if not self.bakes:
            return False
        wave = self.rng.choice(sorted(self.bakes))
        settled_at = self.bakes.pop(wave)
        state = self.run.targets[wave[0]].waves[wave[1] - 1]
        for server in self.run.servers.values():
            mine = (server.member.target, server.member.wave) == wave and server.phase is Phase.VERIFIED
            if mine and self.rng.random() < self.kind / 4:
                self.record(event_for(ev.WentBad, server.id))
        if not state.unsettled and state.settled_at == settled_at:
            self.record(ev.WaveBaked(target=wave[0], wave=wave[1]))
        return True

    def crash(self) -> None:
        """Die, and be read anew from the journal: the same state, the same decision."""
        before = self.run
        fresh = Run(before.opened, AT)
        for event, at in self.journal:
            apply(fresh, event, at)  # type: ignore[arg-type]
        assert decide(fresh, self.outside()).start == decide(before, self.outside()).start
        assert fresh.counts() == before.counts()
        assert {name: each.out for name, each in fresh.targets.items()} == {
            name: each.out for name, each in before.targets.items()
        }
        assert +fresh.out_by == +before.out_by
        self.run = fresh
        self.bakes.clear()
        edited = self.edited() if self.rng.random() < 0.2 else None
        self.record(ev.RunResumed(host="h", pid=2, settings=edited))
        self.seen["crashes"] += 1

    def edited(self) -> Settings:
        """Return the plan with other limits: pacing may be edited, in either direction."""
        made = [
            msgspec.structs.replace(
                each,
                rollout=msgspec.structs.replace(
                    each.rollout,
                    concurrency=self.rng.choice((1, 4)),
                    max_unavailable=self.rng.choice((None, 1, 3)),
                    spread=self.rng.choice(({}, {"flavor": 1})),
                ),
            )
            for each in self.run.settings.targets
        ]
        return msgspec.structs.replace(self.run.settings, targets=tuple(made))

    def person(self) -> None:
        """Let a person decide something."""
        rng, run = self.rng, self.run
        failed = sorted(name for name, status in self.books.status.items() if status == "failed")
        waits = sorted(self.waiting())
        choices: list[Callable[[], ev.Event]] = []
        if run.held is not None or run.groups_held:
            choices += [lambda: ev.RunReleased(reason="mended")] * 3
        if (awaited := approval_awaited(run)) is not None:
            choices += [lambda: ev.Approved(target=awaited[0], wave=awaited[1], reason="seen")] * 2
        if failed:
            choices += [lambda: event_for(ev.Retried, ServerId(rng.choice(failed)))] * 2
            choices.append(lambda: event_for(ev.Skipped, ServerId(rng.choice(failed))))
            owing = [name for name in failed if self.books.whole & {name} and name in self.books.off]
            if owing:
                choices.append(lambda: ev.DebtPaid(server=ServerId(rng.choice(owing)), debt=START))
        if waits and rng.random() < 0.2:
            choices.append(lambda: event_for(ev.Skipped, ServerId(rng.choice(waits))))
        if rng.random() < 0.05 and run.held is None:
            choices.append(lambda: ev.RunHeld(reason="INC-4711", by="alice"))
        left = sorted(name for name, owed in self.books.owed.items() if owed)
        settled = [name for name in left if self.books.status[name] in SETTLED]
        if settled:
            choices.append(lambda: ev.DebtPaid(server=ServerId(rng.choice(settled)), debt="1"))
        if choices:
            self.record(rng.choice(choices)())

    def weather(self) -> None:
        """Open and close windows, turn gates red and green."""
        rng = self.rng
        self.closed, self.final = rng.choice(
            ((None, False), (None, False), ("gate is red: 503", False), ("window opens Sat 22:00 CET", True))
        )
        self.closes_s = rng.choice((None, None, 60.0, 700.0, 3600.0))

    # -- the play -----------------------------------------------------------------------------------

    def act(self) -> None:
        """Do one thing by chance."""
        roll = self.rng.random()
        if roll < 0.7:
            self.step()
        elif roll < 0.78:
            self.bake()
        elif roll < 0.88:
            self.person()
        elif roll < 0.93:
            self.weather()
        elif roll < 0.96:
            self.crash()
        elif roll < 0.97 and self.run.drained is None:
            self.record(ev.RunDrained(reason="SIGINT"))

    def to_the_end(self) -> None:
        """Nothing more goes wrong and somebody is there to decide: everybody gets to an end."""
        self.closed = self.closes_s = None
        self.kind = 0.0
        if self.run.drained is not None:
            self.crash()
        for _ in range(5000):
            decision = self.admit()
            if self.run.is_settled:
                return
            if self.run.held is not None or self.run.groups_held:
                self.seen["released"] += 1
                for server in self.run.servers.values():
                    if server.phase is Phase.FAILED or (server.phase is Phase.WAITING and server.is_out):
                        self.record(event_for(ev.Skipped, server.id))
                    elif server.owed and server.phase is Phase.VERIFIED:
                        self.record(ev.DebtPaid(server=server.id, debt="1"))
                self.record(ev.RunReleased(reason="mended"))
            elif decision.waits is not None and decision.waits.kind is Kind.APPROVAL:
                awaited = approval_awaited(self.run)
                assert awaited is not None
                self.record(ev.Approved(target=awaited[0], wave=awaited[1], reason="seen"))
            elif not self.step(calm=True):
                assert self.bake(), f"stuck: {decision}"
        raise AssertionError("it never ends")


@given(st.randoms(use_true_random=False), st.sampled_from((0.0, 0.05, 0.2, 0.6)))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # "explain" traces every line, which takes ten times as long.
    phases=[Step.explicit, Step.reuse, Step.generate, Step.shrink],
)
def test_no_schedule_breaks_a_limit_or_waits_without_a_reason(rng: random.Random, bad: float) -> None:
    """All limits at once, windows, gates, crashes in mid-flight, servers in doubt, and people who decide."""
    play = Play(rng)
    play.kind = bad
    for _ in range(rng.randint(0, 120)):
        play.admit()
        play.act()
    play.to_the_end()


def test_the_property_meets_everything_that_it_is_about() -> None:
    """A property about what never happens in it would prove nothing."""
    words = {
        "started",
        "held",
        "stuck",
        "crashes",
        "waits",
        "concurrency",
        "max_unavailable",
        "never_more_than",
    }
    words |= {"zone", "tag:rack", "flavor", "wave", "would", "gate", "window", "held:", "drained:", "1"}
    seen: Counter[str] = Counter()
    for seed in range(150):
        rng = random.Random(seed)
        play = Play(rng)
        play.kind = rng.choice((0.05, 0.2, 0.6))
        for _ in range(100):
            play.admit()
            play.act()
        play.to_the_end()
        seen += play.seen
        if words <= seen.keys():
            return
    raise AssertionError(f"{words - seen.keys()} is not met by any of 150 schedules: {seen}")


# -- what the property does not reach --------------------------------------------------------------------


def test_a_server_that_is_reinstalled_again_is_drained_again() -> None:
    """It was verified and given back, went bad and is retried: it has traffic, whatever was noted before."""
    run = open_run((target(hooks=PAIR), 1))
    web = ServerId("web-1")
    first = (ev.Admitted, ev.DrainStarted, ev.DebtOwed, ev.Drained)
    wiped = (ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted, ev.Reinstalled, ev.Started)
    for kind in (
        *first,
        *wiped,
        ev.ChecksPassed,
        ev.DebtPaid,
        ev.Verified,
        ev.WentBad,
        ev.Retried,
        ev.Admitted,
    ):
        apply(run, event_for(kind, web), AT)
    assert run.servers[web].is_undrained
    for kind in first[1:]:
        apply(run, event_for(kind, web), AT)
    assert not run.servers[web].is_undrained


def test_a_wave_that_is_reopened_while_it_bakes_bakes_anew() -> None:
    """The bake that was going on says nothing about the server that was given another try meanwhile."""
    rollout = Rollout(waves=(2,), concurrency=2, hold_after=3, bake_s=900)
    faults = (fault("job-fails", server="web-1"),)
    story = calm("web-1", "web-2", "web-3", rollout=rollout, attempts=1, faults=faults)
    scene = Scene(
        face=Face(story.world(), faults=story.faults, base_url="http://127.0.0.1"),
        settings=story.settings,
        user_data={},
        seed=1,
    )
    life = Life(scene, bound_s=1e6)
    seen: list[tuple[str, str, float]] = []

    def again() -> None:
        assert life.engine is not None

        def change(run: Run, record: Callable[[ev.Event], None]) -> str:
            [failed] = [each for each in run.servers.values() if each.phase is Phase.FAILED]
            record(ev.Retried(server=failed.id, reason="again"))
            return ""

        life.engine.steer(change)

    def listen(event: ev.Event, at_s: float) -> None:
        about = str(getattr(event, "server", getattr(event, "wave", "")))
        seen.append((type(event).__name__, about, at_s))
        if [kind for kind, _, _ in seen if kind in {"Verified", "Failed"}] in (
            ["Verified", "Failed"],
            ["Failed", "Verified"],
        ) and isinstance(event, ev.Verified | ev.Failed):
            life.loop.call_later(600.0, again)

    scene.listener = listen
    with secrets.set_aside():
        assert life.play().code is Exit.OK
    [baked] = [at for kind, _, at in seen if kind == "WaveBaked"]
    ends = [at for kind, _, at in seen if kind == "Verified"]
    begins = [at for kind, _, at in seen if kind == "Admitted"]
    assert ends[1] > begins[2] > ends[0], "the second try went on while the wave was baking"
    assert begins[3] >= baked >= ends[1] + 900
