"""The pacer: never a burst, close below a limit that nobody told, and back up again."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import pairwise

import pytest

from fleet.clock import run_virtual
from fleet.cloud.ecs.classify import allowed_rate
from fleet.cloud.ecs.pacer import MAX_SILENCE_S, Lane, Pacer


async def against(hidden, ceiling, window_s, calls=1000):
    """Make *calls* calls against a limit of *hidden* a second; return share used, share refused."""
    loop = asyncio.get_running_loop()
    pacer, recent, refused, answered = Pacer(ceiling), deque(), 0, 0

    async def worker():
        nonlocal refused, answered
        while answered < calls:
            await pacer.slot("job")
            while recent and recent[0] <= loop.time() - window_s:
                recent.popleft()
            fine = len(recent) < hidden * window_s
            if fine:
                recent.append(loop.time())
            await asyncio.sleep(0.05)
            if fine:
                answered += 1
                pacer.succeeded("job")
            else:
                refused += 1
                pacer.throttled("job")

    await asyncio.gather(*(worker() for _ in range(30)))
    return answered / loop.time() / min(hidden, ceiling), refused / (answered + refused)


@pytest.mark.parametrize(
    ("hidden", "ceiling", "window_s"),
    [(20, 19, 1), (20, 20, 1), (10, 20, 1), (5, 20, 1), (20, 100, 1), (50, 100, 1), (10, 20, 60)],
)
def test_it_finds_a_limit_that_nobody_told(hidden, ceiling, window_s):
    share, refused = run_virtual(against(hidden, ceiling, window_s))

    assert share >= 0.75
    assert refused <= 0.03


@pytest.mark.parametrize("told", [None, 20.0])
def test_two_runs_share_a_limit_without_knowing_of_each_other(told):
    """Also where the cloud says how much it allows: to all together."""

    async def story():
        loop = asyncio.get_running_loop()
        recent, answered, refused = deque(), [0, 0], [0, 0]

        async def worker(number, pacer):
            while loop.time() < 600:
                await pacer.slot("job")
                while recent and recent[0] <= loop.time() - 1.0:
                    recent.popleft()
                fine = len(recent) < 20
                if fine:
                    recent.append(loop.time())
                await asyncio.sleep(0.05)
                if fine:
                    answered[number] += 1
                    pacer.succeeded("job")
                else:
                    refused[number] += 1
                    pacer.throttled("job", limit=told)

        pacers = (Pacer(100.0), Pacer(40.0))
        await asyncio.gather(*(worker(n, pacer) for n, pacer in enumerate(pacers) for _ in range(20)))
        return answered, sum(refused)

    answered, refused = run_virtual(story())
    assert sum(answered) >= 0.75 * 20 * 600
    assert min(answered) >= 0.35 * sum(answered)
    assert refused <= 0.05 * sum(answered)


def test_a_limit_that_is_not_reached_costs_nothing():
    share, refused = run_virtual(against(100, 20, 1))

    assert share >= 0.95
    assert refused == 0


async def times(pacer, count, kind="show"):
    async def one():
        await pacer.slot(kind)
        return asyncio.get_running_loop().time()

    return sorted(await asyncio.gather(*(one() for _ in range(count))))


def test_no_burst_not_even_after_a_pause():
    async def story():
        pacer = Pacer(20.0)
        await times(pacer, 5)
        await asyncio.sleep(100)
        return await times(pacer, 40)

    got = run_virtual(story())
    assert all(b - a >= 0.05 - 1e-6 for a, b in pairwise(got))
    assert got[-1] - got[0] == pytest.approx(39 / 20, rel=0.01)


def test_all_kinds_together_stay_below_the_ceiling():
    async def story():
        pacer = Pacer(10.0)
        got = await asyncio.gather(*(times(pacer, 20, kind) for kind in ("list", "show", "job")))
        return sorted(at for part in got for at in part)

    got = run_virtual(story())
    assert all(b - a >= 0.1 - 1e-6 for a, b in pairwise(got))


def test_a_cut_reaches_those_who_wait_already():
    async def story():
        lane = Lane(10.0)
        queue = [asyncio.create_task(lane.slot()) for _ in range(20)]
        await asyncio.sleep(0.35)
        lane.throttled(silence_s=5.0, limit=1.0)
        await asyncio.sleep(4.9)
        during = sum(task.done() for task in queue)
        await asyncio.gather(*queue)
        return during, asyncio.get_running_loop().time()

    during, end = run_virtual(story())
    assert during == 4
    assert end >= 5 + 15 / 1.0


def test_one_cut_for_a_burst_of_refusals():
    async def story():
        lane = Lane(10.0)
        for _ in range(10):
            lane.throttled()
        return lane.rate

    assert run_virtual(story()) == pytest.approx(8.0)


def test_a_lane_waits_no_longer_than_a_minute():
    async def story():
        lane = Lane(10.0)
        lane.throttled(silence_s=86_400.0)
        await lane.slot()
        return asyncio.get_running_loop().time()

    assert run_virtual(story()) == pytest.approx(MAX_SILENCE_S)


def test_without_refusals_it_comes_back_to_the_ceiling():
    async def story():
        lane = Lane(10.0)
        lane.throttled()
        while lane.rate < 10.0:
            await lane.slot()
            lane.succeeded()
        return asyncio.get_running_loop().time()

    assert run_virtual(story()) < 700


@pytest.mark.parametrize(
    ("message", "rate"),
    [
        ("policy user over ratelimit,limit:60,time:1 minute", 1.0),
        ("policy api over ratelimit,limit:10,time:5 second", 2.0),
        ("limit:0,time:1 minute", None),
        ("limit:5,time:0 second", None),
        ("limit:x,time:1 minute", None),
        ("", None),
    ],
)
def test_the_gateway_tells_its_limit(message, rate):
    assert allowed_rate(message) == rate


async def test_what_refusals_have_slowed_down_can_be_shown() -> None:
    """By kind of call, and no more once it is as fast as it may be."""
    pacer = Pacer(10.0)
    await pacer.slot("reinstall")
    await pacer.slot("list")
    assert pacer.slowed() == {}
    pacer.throttled("reinstall", limit=2.0)
    assert pacer.slowed() == {"reinstall": pytest.approx(2.0, rel=0.1)}
    pacer.lane("reinstall").rate = 10.0
    assert pacer.slowed() == {}


def test_two_limits_of_different_height_are_not_one_for_all_calls():
    """Fifty reinstalls a minute must not become fifty calls a minute, since starts were too many as well."""

    async def story():
        pacer = Pacer(20.0)
        pacer.throttled("reinstall", limit=50 / 60)
        pacer.throttled("start", limit=5.0)
        begin = asyncio.get_running_loop().time()
        for _ in range(20):
            await pacer.slot("show")
        return pacer.slowed(), asyncio.get_running_loop().time() - begin

    slowed, took_s = run_virtual(story())
    assert slowed.keys() == {"reinstall", "start"}
    assert took_s < 1.1


# -- who goes first -------------------------------------------------------------------------------------


async def order_of(pacer, *kinds):
    """Ask for a slot of each kind at the same instant; return them in the order in which they got it."""
    got = []

    async def one(kind):
        await pacer.slot(kind, poll=kind == "list")
        got.append(kind)

    await pacer.slot("other")  # so that everybody has to wait
    await asyncio.gather(*(one(kind) for kind in kinds))
    return got


def test_who_acts_goes_before_who_looks_and_polls_come_last():
    kinds = ("list", "job", "show", "stop", "start")
    assert run_virtual(order_of(Pacer(1.0), *kinds)) == ["start", "stop", "show", "job", "list"]

    kinds = ("list", "job", "show", "stop", "reinstall")
    assert run_virtual(order_of(Pacer(1.0), *kinds)) == ["reinstall", "stop", "show", "job", "list"]


def test_whoever_wants_to_announce_a_wipe_comes_behind_the_looks_of_those_who_may():
    """All turns first, then all looks, would let the wipes out in one burst."""

    async def story():
        pacer, sent = Pacer(10.0), []
        loop = asyncio.get_running_loop()

        async def one():
            await pacer.turn_to_wipe()
            await pacer.slot("show")
            await pacer.slot("reinstall")
            sent.append(loop.time())

        await asyncio.gather(*(one() for _ in range(20)))
        return sent

    got = run_virtual(story())
    assert all(b - a >= 0.2 - 1e-6 for a, b in pairwise(got))


def test_a_refusal_takes_kept_turns_away():
    """They were given by a rate that has just proved too high."""

    async def story():
        pacer = Pacer(10.0)
        for _ in range(3):
            await pacer.turn_to_wipe()
        await pacer.slot("reinstall")
        free = asyncio.get_running_loop().time()
        pacer.throttled("reinstall", silence_s=5.0)
        await pacer.slot("reinstall")
        return free, asyncio.get_running_loop().time()

    free, after = run_virtual(story())
    assert free == pytest.approx(0.2)
    assert after >= 5.2


def test_kept_turns_are_not_used_while_wipes_are_refused_one_after_the_other():
    """Some clouds take no burst of two, and a kept turn makes one with the look before it."""

    async def story() -> list[float]:
        pacer, waits = Pacer(1.0), []
        for refused in (True, True, False, False):
            await pacer.turn_to_wipe()
            await pacer.slot("show")
            looked = asyncio.get_running_loop().time()
            await pacer.slot("reinstall")
            waits.append(asyncio.get_running_loop().time() - looked)
            (pacer.throttled if refused else pacer.succeeded)("reinstall")
            pacer.succeeded("show")
        return waits

    *kept, third, fourth = run_virtual(story())
    assert kept == pytest.approx([0.0, 0.0])
    assert min(third, fourth) >= 0.99, "and no more after a success, since it was not on a kept turn"


def test_among_equals_it_is_first_come_first_served():
    async def story():
        pacer, got = Pacer(5.0), []

        async def one(number):
            await pacer.slot("show")
            got.append(number)

        await asyncio.gather(*(one(number) for number in range(30)))
        return got

    assert run_virtual(story()) == list(range(30))


def test_a_poll_takes_the_turn_that_nobody_else_wants():
    """Looks queue up for four seconds; the poll that was there first is made right after them."""

    async def story():
        pacer = Pacer(10.0)
        await pacer.slot("other")
        poll = asyncio.create_task(pacer.slot("list", poll=True))
        looks = asyncio.create_task(times(pacer, 40))
        await poll
        polled = asyncio.get_running_loop().time()
        return polled - (await looks)[-1]

    assert run_virtual(story()) == pytest.approx(0.125, abs=0.03)


def test_a_poll_waits_a_bounded_time():
    """Without end somebody wants to act: not looking at the others would cost them more than a call."""

    async def story():
        pacer, over = Pacer(10.0), False

        async def acting(kind):
            while not over:
                await pacer.slot(kind)

        others = [asyncio.create_task(acting(kind)) for kind in ("show", "job", "show", "reinstall")]
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await pacer.turn_to_poll()
        over = True
        await asyncio.gather(*others)
        return asyncio.get_running_loop().time() - began

    assert 5.0 <= run_virtual(story()) <= 6.0


def test_a_list_is_read_in_bounded_time_though_looks_never_end():
    """Once it had waited it was let go behind every look: in saturation never, and whoever is seen by lists
    alone (a server that is verified) ran into its time-out."""

    async def story():
        pacer, over = Pacer(10.0), False

        async def acting(kind):
            while not over:
                await pacer.slot(kind)

        others = [asyncio.create_task(acting(kind)) for kind in ("show", "job", "show", "other")]
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        reads = []
        for _ in range(3):
            async with asyncio.timeout(600):
                await pacer.slot("list", poll=True)
            reads.append(asyncio.get_running_loop().time() - began)
            began = asyncio.get_running_loop().time()
        over = True
        await asyncio.gather(*others)
        return reads

    took = run_virtual(story())
    assert all(4.9 <= read_s <= 6.0 for read_s in took), took


def test_a_free_cloud_is_polled_at_once():
    async def story():
        pacer = Pacer(1000.0)
        await asyncio.sleep(1)
        await pacer.slot("list", poll=True)
        return asyncio.get_running_loop().time()

    assert run_virtual(story()) == pytest.approx(1.0, abs=0.001)


def test_who_gives_up_waiting_holds_nobody_up():
    async def story():
        lane = Lane(1.0)
        await lane.slot()
        queue = [asyncio.create_task(lane.slot()) for _ in range(4)]
        await asyncio.sleep(0.5)
        queue[0].cancel()  # it held the head
        queue[2].cancel()
        await asyncio.gather(*queue, return_exceptions=True)
        return [task.cancelled() for task in queue], asyncio.get_running_loop().time()

    assert run_virtual(story()) == ([True, False, True, False], pytest.approx(2.0))


def test_a_limit_for_all_kinds_together_is_found():
    """Three kinds share ten calls a second, and nobody has said so."""

    async def story():
        loop = asyncio.get_running_loop()
        pacer, recent, refused, answered = Pacer(100.0), deque(), 0, 0

        async def worker(kind):
            nonlocal refused, answered
            while answered < 1500:
                await pacer.slot(kind)
                while recent and recent[0] <= loop.time() - 1.0:
                    recent.popleft()
                fine = len(recent) < 10
                if fine:
                    recent.append(loop.time())
                    answered += 1
                    pacer.succeeded(kind)
                else:
                    refused += 1
                    pacer.throttled(kind)

        await asyncio.gather(*(worker(kind) for kind in ("show", "job", "reinstall") for _ in range(10)))
        return answered / loop.time() / 10, refused / (refused + answered)

    share, refused = run_virtual(story())
    assert share >= 0.75
    assert refused <= 0.03
