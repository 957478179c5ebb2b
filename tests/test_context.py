"""The verbs of the steps: batches, timers, and what a failure keeps of the cloud's words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from support import make_run

from fleet.clock import LoopClock, run_virtual
from fleet.cloud.api import ReinstallOrder
from fleet.context import MAX_BATCH, Batch, Context
from fleet.core import events as ev
from fleet.core.model import Call, Server, ServerId
from fleet.core.state import Phase
from fleet.errors import Busy, JournalError, NotFound, OutcomeUnknown, Rejected, Unavailable
from fleet.observe import Observer

IDS = [ServerId(f"s-{n}") for n in range(1, 6)]


class Calls:
    """Notes what is asked for; refuses what it is told to."""

    def __init__(self, **refused: Exception) -> None:
        self.made: list[list[str]] = []
        self.refused = refused
        self.takes_s = 1.0

    async def __call__(self, servers: Sequence[ServerId]) -> None:
        self.made.append(list(servers))
        await asyncio.sleep(self.takes_s)
        for server in servers:
            if (error := self.refused.get(server.replace("-", "_"))) is not None:
                raise error


async def ask(batch: Batch, *servers: ServerId) -> list[Any]:
    return await asyncio.gather(*(batch(server) for server in servers), return_exceptions=True)


# -- batches --------------------------------------------------------------------------------------------


def test_what_is_asked_for_at_about_the_same_time_is_one_call() -> None:
    calls = Calls()
    assert run_virtual(ask(Batch(calls), *IDS)) == [None] * 5
    assert calls.made == [IDS]


def test_what_is_asked_for_later_is_another_call_also_while_the_first_is_under_way() -> None:
    calls = Calls()

    async def story() -> None:
        batch = Batch(calls)
        first = asyncio.create_task(ask(batch, *IDS[:2]))
        await asyncio.sleep(0.5)
        await ask(batch, IDS[2], IDS[0])
        await first

    run_virtual(story())
    assert calls.made == [IDS[:2], [IDS[2], IDS[0]]]


def test_two_who_ask_for_one_server_share_it() -> None:
    calls = Calls()
    assert run_virtual(ask(Batch(calls), IDS[0], IDS[0])) == [None, None]
    assert calls.made == [[IDS[0]]]


def test_a_refused_batch_is_asked_for_server_by_server() -> None:
    """One odd server has spoilt it for the others, who are no worse for it."""
    refusal = Busy("it is being resized")
    calls = Calls(s_3=refusal)
    assert run_virtual(ask(Batch(calls), *IDS)) == [None, None, refusal, None, None]
    assert calls.made[0] == IDS
    assert [each for made in calls.made[1:] for each in made if len(made) == 1] == IDS


def test_a_refusal_that_is_everybodys_is_not_asked_for_again() -> None:
    refusal = Rejected("no permission")
    refusal.everybody = True
    calls = Calls(s_3=refusal)
    assert run_virtual(ask(Batch(calls), *IDS)) == [refusal] * 5
    assert calls.made == [IDS]


@pytest.mark.parametrize(
    "error", [Unavailable("503"), OutcomeUnknown("cut"), JournalError("broken"), RuntimeError("a defect")]
)
def test_whatever_else_goes_wrong_reaches_everybody_who_asked(error: Exception) -> None:
    calls = Calls(s_3=error)
    assert run_virtual(ask(Batch(calls), *IDS)) == [error] * 5
    assert calls.made == [IDS]


def test_who_no_longer_waits_does_not_cancel_the_others() -> None:
    calls = Calls()

    async def story() -> None:
        batch = Batch(calls)
        tasks = [asyncio.create_task(batch(server)) for server in IDS]
        shared = asyncio.create_task(batch(IDS[0]))
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        found = await asyncio.gather(*tasks, shared, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert found[1:] == [None] * 5

    run_virtual(story())
    assert calls.made == [IDS]


def test_an_error_that_nobody_waits_for_any_more_makes_no_noise() -> None:
    """Warnings are errors here: a future whose exception was never fetched would fail the test."""
    calls = Calls(s_1=Unavailable("503"))

    async def story() -> None:
        batch = Batch(calls)
        task = asyncio.create_task(batch(IDS[0]))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.sleep(5)

    run_virtual(story())


def test_a_call_has_a_greatest_size() -> None:
    calls = Calls()
    many = [ServerId(f"s-{n}") for n in range(MAX_BATCH + 1)]
    run_virtual(ask(Batch(calls), *many))
    assert [len(made) for made in calls.made] == [MAX_BATCH, 1]


# -- the context ----------------------------------------------------------------------------------------

WEB = ServerId("web-1")


class NoCloud:
    """Fails reads on demand; counts what it is asked to change."""

    def __init__(self) -> None:
        self.failing = False
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def servers(self, **_: object) -> list[Server]:
        if self.failing:
            raise Unavailable("503")
        return [Server(id=WEB)]

    async def server(self, server: ServerId) -> Server:
        if self.failing:
            raise Unavailable("503")
        return Server(id=server)

    async def stop(self, servers: Sequence[ServerId], *, force: bool) -> None:
        self.asked.append(("force" if force else "soft", tuple(servers)))

    async def start(self, servers: Sequence[ServerId]) -> None:
        self.asked.append(("start", tuple(servers)))

    async def reinstall(self, order: ReinstallOrder, **_: object) -> None:
        self.asked.append(("reinstall", (order.server,)))


class World:
    """A context, and what goes in and out of it."""

    def __init__(self) -> None:
        self.run = make_run()
        self.server = self.run.servers[WEB]
        self.cloud = NoCloud()
        self.recorded: list[ev.Event] = []
        self.over: Exception | None = None
        self.observer = Observer(self.cloud)  # type: ignore[arg-type]
        self.context = Context(
            run=self.run,
            record=self.recorded.append,
            gate=self._gate,
            order=None,  # type: ignore[arg-type]
            cloud=self.cloud,  # type: ignore[arg-type]
            observer=self.observer,
            checker=None,  # type: ignore[arg-type]
            clock=LoopClock(),
        )

    def _gate(self) -> None:
        if self.over is not None:
            raise self.over


def test_a_timer_begins_when_it_is_first_asked_for_and_anew_in_the_next_phase() -> None:
    async def story() -> None:
        world = World()
        watched = world.context.watched
        await asyncio.sleep(50)
        assert watched(world.server) == 0
        await asyncio.sleep(30)
        assert watched(world.server) == pytest.approx(30)
        assert watched(world.server, "other") == 0
        world.server.phase = Phase.STOPPING
        assert watched(world.server) == 0
        await asyncio.sleep(10)
        assert watched(world.server) == pytest.approx(10)
        assert watched(world.server, "other") == pytest.approx(10)

    run_virtual(story())


def test_a_second_go_at_the_same_phase_has_a_timer_of_its_own() -> None:
    async def story() -> None:
        world = World()
        world.server.phase = Phase.REQUESTED
        world.server.sent = 1
        world.context.watched(world.server)
        await asyncio.sleep(500)
        world.server.sent = 2
        assert world.context.watched(world.server) == 0

    run_virtual(story())


def test_who_is_forgotten_is_timed_anew() -> None:
    """Put back and started again an hour later, it is not overdue. Who is settled takes no room."""

    async def story() -> None:
        world = World()
        world.context.watched(world.server, "stop")
        await asyncio.sleep(3600)
        world.context.forget(world.server)
        assert world.context.watched(world.server, "stop") == 0
        world.context.forget(world.server)
        assert not world.context._since

    run_virtual(story())


def test_a_timer_stands_still_while_the_cloud_cannot_be_read() -> None:
    async def story() -> None:
        world = World()
        world.context.watched(world.server)
        await asyncio.sleep(100)
        world.cloud.failing = True
        reading = asyncio.create_task(world.context.look(world.server))
        await asyncio.sleep(600)
        assert world.context.watched(world.server) == pytest.approx(100, abs=15)
        world.cloud.failing = False
        await reading
        await asyncio.sleep(100)
        assert world.context.watched(world.server) == pytest.approx(200, abs=30)

    run_virtual(story())


def test_nothing_is_changed_once_the_run_is_over() -> None:
    """The journal is broken: not even a stop that is gathered already goes out."""

    async def story() -> None:
        world = World()
        world.over = JournalError("disk full")
        order = ReinstallOrder(server=WEB, call=Call.REINSTALL_PLAIN)
        with pytest.raises(JournalError):
            await world.context.reinstall(order, send_by=1, timeout_s=1)
        world.over = None
        asked = [
            asyncio.create_task(world.context.power_off(world.server, force=False)),
            asyncio.create_task(world.context.power_off(world.server, force=True)),
            asyncio.create_task(world.context.power_on(world.server)),
        ]
        await asyncio.sleep(0)
        world.over = JournalError("disk full")
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(each, JournalError) for each in found)
        assert world.cloud.asked == []

    run_virtual(story())


def test_soft_and_hard_stops_and_starts_are_calls_of_their_own() -> None:
    async def story() -> None:
        world = World()
        one, other = (world.run.servers[ServerId(f"web-{n}")] for n in (1, 2))
        await asyncio.gather(
            world.context.power_off(one, force=False),
            world.context.power_off(other, force=True),
            world.context.power_on(one),
            world.context.power_on(other),
        )
        assert sorted(world.cloud.asked) == [
            ("force", ("web-2",)),
            ("soft", ("web-1",)),
            ("start", ("web-1", "web-2")),
        ]

    run_virtual(story())


def test_a_failure_keeps_the_clouds_words() -> None:
    world = World()
    cause = Rejected("quota", hint="ask for more", code="Ecs.0020", request_id="req-1")
    cause.everybody = True
    world.context.fail(world.server, "refused: quota", cause=cause, untouched=True)
    world.context.fail(world.server, "gone", hint="ours", cause=NotFound("404", hint="theirs"))
    world.context.fail(world.server, "late")
    assert world.recorded == [
        ev.Failed(
            server=WEB,
            reason="refused: quota",
            hint="ask for more",
            code="Ecs.0020",
            request_id="req-1",
            everybody=True,
            untouched=True,
        ),
        ev.Failed(server=WEB, reason="gone", hint="ours"),
        ev.Failed(server=WEB, reason="late"),
    ]
