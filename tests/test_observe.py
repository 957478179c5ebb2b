"""One observer for everybody in flight, on virtual time, against a cloud that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

import msgspec
import pytest

from fleet.clock import run_virtual
from fleet.core.model import Job, JobId, JobStatus, Server, ServerId
from fleet.errors import CloudUnusable, NotFound, OutcomeUnknown, Rejected, Unavailable
from fleet.observe import Observer

ONE = ServerId("s-1")
CEILING_S = 100_000.0


class ScriptedCloud:
    """Shows servers as they are at the time; a read takes a while, and may be made to fail.

    Attributes:
        listed: What lists show; lists may lag behind.
        failing: What every read raises at present.
        reads: Kind, server, and when the read began.
    """

    def __init__(self, count: int = 1, *, takes_s: float = 0.2) -> None:
        self.shown = {
            ServerId(f"s-{n}"): Server(id=ServerId(f"s-{n}"), status="ACTIVE") for n in range(1, count + 1)
        }
        self.hidden: set[ServerId] = set()
        self.jobs: dict[JobId, Job] = {}
        self.failing: Exception | None = None
        self.takes_s = takes_s
        self.reads: list[tuple[str, str, float]] = []

    def put(self, server: ServerId, status: str) -> None:
        self.shown[server] = msgspec.structs.replace(self.shown[server], status=status)

    async def _answer(self, kind: str, what: str = "") -> None:
        self.reads.append((kind, what, asyncio.get_running_loop().time()))
        await asyncio.sleep(self.takes_s)
        if self.failing is not None:
            raise self.failing

    async def servers(self, *, only: Collection[ServerId] | None = None) -> list[Server]:
        seen = {key: each for key, each in self.shown.items() if only is None or key in only}
        await self._answer("list")
        return [each for key, each in seen.items() if key not in self.hidden]

    async def server(self, server: ServerId) -> Server:
        seen = self.shown.get(server)  # what it is when the read begins: the oldest that an answer can be
        await self._answer("show", server)
        if seen is None:
            raise NotFound(f"no server {server}")
        return seen

    async def job(self, job: JobId) -> Job:
        await self._answer("job", job)
        if job not in self.jobs:
            raise NotFound(f"no job {job}")
        return self.jobs[job]

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.reads]


def play(story: Coroutine[Any, Any, Any]) -> Any:
    """Play *story* on virtual time, with a ceiling: a lost wake-up fails instead of hanging."""

    async def under_a_ceiling() -> Any:
        async with asyncio.timeout(CEILING_S):
            return await story

    return run_virtual(under_a_ceiling())


def is_off(seen: Server) -> bool:
    return seen.is_off


def now() -> float:
    return asyncio.get_running_loop().time()


async def after(seconds: float, do: Any, *args: Any) -> None:
    await asyncio.sleep(seconds)
    do(*args)


# -- until ----------------------------------------------------------------------------------------------


def test_it_is_told_once_the_cloud_shows_it() -> None:
    cloud = ScriptedCloud()

    async def story() -> None:
        observer = Observer(cloud)
        asyncio.create_task(after(40, cloud.put, ONE, "SHUTOFF"))  # noqa: RUF006  # the story outlives it
        seen = await observer.until(ONE, is_off, 300)
        assert seen is not None
        assert seen.is_off
        assert 40 <= now() < 52

    play(story())


def test_none_when_the_time_is_over() -> None:
    async def story() -> None:
        observer = Observer(ScriptedCloud())
        assert await observer.until(ONE, is_off, 30) is None
        assert now() == pytest.approx(30)
        assert await observer.until(ONE, is_off, 0) is None

    play(story())


def test_a_read_that_began_before_the_question_is_no_answer() -> None:
    """We stopped it after that read began: what it shows is how it was before."""
    cloud = ScriptedCloud(takes_s=5.0)

    async def story() -> None:
        observer = Observer(cloud)
        first = asyncio.create_task(observer.until(ONE, lambda _: True, 60))
        while not cloud.reads:  # noqa: ASYNC110  # an event would wake us at another moment
            await asyncio.sleep(0.1)
        cloud.put(ONE, "SHUTOFF")  # after the read began, which so shows ACTIVE
        asked = now()
        second = asyncio.create_task(observer.until(ONE, lambda _: True, 60))
        seen = await first
        assert seen is not None
        assert not seen.is_off
        assert not second.done()
        seen = await second
        assert seen is not None
        assert seen.is_off
        assert cloud.reads[-1][2] >= asked

    play(story())


def test_those_who_wait_for_one_server_share_its_reads() -> None:
    cloud = ScriptedCloud()

    async def story() -> None:
        observer = Observer(cloud)
        waits = [asyncio.create_task(observer.until(ONE, is_off, 300)) for _ in range(20)]
        cloud.put(ONE, "SHUTOFF")
        assert all(await asyncio.gather(*waits))
        assert len(cloud.reads) == 1

    play(story())


@pytest.mark.parametrize("count", [3, 50, 500])
def test_many_servers_are_read_in_one_call_not_in_one_each(count: int) -> None:
    cloud = ScriptedCloud(count)

    async def story() -> None:
        observer = Observer(cloud)
        waits = [asyncio.create_task(observer.until(server, is_off, 300)) for server in cloud.shown]
        for server in cloud.shown:
            cloud.put(server, "SHUTOFF")
        assert all(await asyncio.gather(*waits))
        assert len(cloud.reads) <= 2

    play(story())


def test_each_is_told_of_its_own_server() -> None:
    cloud = ScriptedCloud(10)

    async def story() -> None:
        observer = Observer(cloud)
        waits = {
            server: asyncio.create_task(observer.until(server, lambda _: True, 60)) for server in cloud.shown
        }
        for server, wait in waits.items():
            seen = await wait
            assert seen is not None
            assert seen.id == server

    play(story())


def test_a_server_that_a_list_leaves_out_is_read_by_itself() -> None:
    cloud = ScriptedCloud(10)
    cloud.hidden.add(ONE)

    async def story() -> None:
        observer = Observer(cloud)
        waits = [asyncio.create_task(observer.until(server, lambda _: True, 60)) for server in cloud.shown]
        assert all(await asyncio.gather(*waits))
        assert ("show", ONE) in [(kind, what) for kind, what, _ in cloud.reads]

    play(story())


def test_a_server_that_is_gone_is_told_to_those_who_wait_for_it_and_to_nobody_else() -> None:
    cloud = ScriptedCloud(10)
    del cloud.shown[ONE]

    async def story() -> None:
        observer = Observer(cloud)
        others = [asyncio.create_task(observer.until(server, lambda _: True, 60)) for server in cloud.shown]
        with pytest.raises(NotFound):
            await observer.until(ONE, lambda _: True, 60)
        assert all(await asyncio.gather(*others))

    play(story())


@pytest.mark.parametrize("error", [Rejected("the request is odd"), Unavailable("its cell is down")])
def test_one_that_cannot_be_read_keeps_nobody_else_waiting(error: Exception) -> None:
    """It is asked about first, a list leaves it out, and a read of its own fails."""

    class Cloud(ScriptedCloud):
        async def server(self, server: ServerId) -> Server:
            await self._answer("show", server)
            raise error

    cloud = Cloud(10)
    cloud.hidden.add(ONE)

    async def story() -> None:
        observer = Observer(cloud)
        waits = [asyncio.create_task(observer.until(server, lambda _: True, 60)) for server in cloud.shown]
        sick, *others = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(each, Server) for each in others), others
        assert sick is (error if isinstance(error, Rejected) else None)
        await observer.close()

    play(story())


def test_a_wait_that_is_cancelled_leaves_nothing_behind() -> None:
    cloud = ScriptedCloud()

    async def story() -> None:
        observer = Observer(cloud)
        wait = asyncio.create_task(observer.until(ONE, is_off, 300))
        await asyncio.sleep(5)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        assert not observer._waits
        await asyncio.sleep(30)
        reads = len(cloud.reads)
        await asyncio.sleep(600)
        assert len(cloud.reads) == reads, "it reads on although nobody waits"
        await observer.close()

    play(story())


def test_a_cancelled_wait_does_not_take_the_others_with_it() -> None:
    cloud = ScriptedCloud()

    async def story() -> None:
        observer = Observer(cloud)
        one, other = (asyncio.create_task(observer.until(ONE, is_off, 300)) for _ in range(2))
        await asyncio.sleep(5)
        one.cancel()
        cloud.put(ONE, "SHUTOFF")
        assert await other is not None

    play(story())


def test_it_reads_again_for_the_next_one_after_everybody_has_gone() -> None:
    cloud = ScriptedCloud()

    async def story() -> None:
        observer = Observer(cloud)
        for _ in range(3):
            assert await observer.until(ONE, lambda _: True, 60) is not None
            await asyncio.sleep(100)

    play(story())


def test_it_learns_how_often_looking_is_worth_it() -> None:
    """Short waits are read often, long ones rarely: a wait is late by a share of what it usually takes."""
    cloud = ScriptedCloud(takes_s=0.01)

    async def reads_of_waits(length_s: float) -> float:
        observer = Observer(cloud)
        for _ in range(12):
            cloud.put(ONE, "ACTIVE")
            asyncio.create_task(after(length_s, cloud.put, ONE, "SHUTOFF"))  # noqa: RUF006  # awaited below
            assert await observer.until(ONE, is_off, 3600, teaches="stop") is not None
        cloud.put(ONE, "ACTIVE")
        cloud.reads.clear()
        began = now()
        assert await observer.until(ONE, is_off, 60) is None
        return (now() - began) / len(cloud.reads)

    async def story() -> None:
        assert await reads_of_waits(10) < 1.0
        assert 5 < await reads_of_waits(1000) <= 15

    play(story())


def test_a_glance_is_soon_and_shared() -> None:
    cloud = ScriptedCloud(50)

    async def story() -> None:
        observer = Observer(cloud, shortest_s=8.0)
        seen = await asyncio.gather(*(observer.glance(server) for server in cloud.shown))
        assert [each.id for each in seen] == list(cloud.shown)
        assert now() < 1
        assert len(cloud.reads) == 1

    play(story())


def test_whoever_only_waits_to_be_confirmed_is_read_sooner() -> None:
    cloud = ScriptedCloud(10)

    async def story() -> None:
        observer = Observer(cloud)
        for _ in range(12):
            cloud.put(ONE, "ACTIVE")
            asyncio.create_task(after(200, cloud.put, ONE, "SHUTOFF"))  # noqa: RUF006  # awaited below
            assert await observer.until(ONE, is_off, 3600, teaches="stop") is not None
        took = []
        for soon in (False, True):
            began = now()
            assert await observer.until(ONE, is_off, 3600, soon=soon) is not None
            took.append(now() - began)
        assert took[1] < took[0] / 2

    play(story())


def test_a_wait_that_is_taken_up_again_counts_from_its_beginning() -> None:
    """Steps ask for their job in between; what is learnt is the whole wait, not its last piece."""
    cloud = ScriptedCloud(takes_s=0.01)

    async def story() -> None:
        observer = Observer(cloud)
        for _ in range(12):
            cloud.put(ONE, "ACTIVE")
            asyncio.create_task(after(500, cloud.put, ONE, "SHUTOFF"))  # noqa: RUF006  # awaited below
            began = now()
            while await observer.until(ONE, is_off, 30, teaches="stop", so_far_s=now() - began) is None:
                pass
        cloud.put(ONE, "ACTIVE")
        cloud.reads.clear()
        assert await observer.until(ONE, is_off, 60) is None
        assert len(cloud.reads) <= 10

    play(story())


class BusyCloud(ScriptedCloud):
    """Its polls wait for their turn."""

    async def turn_to_wipe(self) -> None:
        pass

    async def turn_to_poll(self) -> None:
        await asyncio.sleep(5)


def test_whoever_begins_to_wait_before_the_poll_has_its_turn_is_read_with_it() -> None:
    cloud = BusyCloud(10)

    async def story() -> None:
        observer = Observer(cloud)
        first, *others = list(cloud.shown)
        waits = [asyncio.create_task(observer.until(first, lambda _: True, 60))]
        await asyncio.sleep(4)
        waits += [asyncio.create_task(observer.until(server, lambda _: True, 60)) for server in others]
        assert all(await asyncio.gather(*waits))
        assert len(cloud.reads) == 1

    play(story())


def test_where_reads_are_rare_the_latest_is_recent_for_longer() -> None:
    cloud = BusyCloud(10, takes_s=0.01)

    async def story() -> None:
        observer = Observer(cloud)
        assert await observer.until(ONE, is_off, 30) is None
        reads = len(cloud.reads)
        assert await observer.until(ONE, lambda _: True, 60, recent=True) is not None
        assert len(cloud.reads) == reads
        await asyncio.sleep(60)
        assert await observer.until(ONE, lambda _: True, 60, recent=True) is not None
        assert len(cloud.reads) == reads + 1

    play(story())


# -- look, job ------------------------------------------------------------------------------------------


def test_a_look_is_a_read_of_its_own_made_now() -> None:
    cloud = ScriptedCloud(50)

    async def story() -> None:
        observer = Observer(cloud)
        await asyncio.gather(*(observer.look(ONE) for _ in range(3)))
        assert cloud.kinds() == ["show"] * 3
        assert {at for _, _, at in cloud.reads} == {0.0}
        with pytest.raises(NotFound):
            await observer.look(ServerId("nobody"))

    play(story())


def test_a_job_that_is_not_known_is_none() -> None:
    cloud = ScriptedCloud()
    cloud.jobs[JobId("j")] = Job(id=JobId("j"), status=JobStatus.RUNNING)

    async def story() -> None:
        observer = Observer(cloud)
        assert await observer.job(JobId("j")) == cloud.jobs[JobId("j")]
        assert await observer.job(JobId("k")) is None

    play(story())


@pytest.mark.parametrize("error", [Unavailable("503"), OutcomeUnknown("cut")])
def test_a_look_waits_out_an_outage(error: Exception) -> None:
    cloud = ScriptedCloud()

    def mend() -> None:
        cloud.failing = None

    async def story() -> None:
        cloud.failing = error
        asyncio.create_task(after(200, mend))  # noqa: RUF006  # the story outlives it
        observer = Observer(cloud)
        assert (await observer.look(ONE)).id == ONE
        assert 200 <= now() < 215

    play(story())


def test_what_is_no_outage_is_not_waited_out() -> None:
    cloud = ScriptedCloud()
    cloud.failing = Rejected("400")

    async def story() -> None:
        with pytest.raises(Rejected):
            await Observer(cloud).look(ONE)

    play(story())


# -- an outage is nobody's fault ------------------------------------------------------------------------


def test_time_in_which_the_cloud_cannot_be_read_is_not_watched() -> None:
    cloud = ScriptedCloud()

    def fail(error: Exception | None) -> None:
        cloud.failing = error

    async def story() -> None:
        observer = Observer(cloud)
        asyncio.create_task(after(100, fail, Unavailable("503")))  # noqa: RUF006  # the story outlives them
        asyncio.create_task(after(700, fail, None))  # noqa: RUF006
        began = observer.watched()
        assert await observer.until(ONE, is_off, 400) is None
        half = observer.watched()
        assert 95 <= half - began <= 115, "it stands still in the middle of an outage"
        assert await observer.until(ONE, is_off, 600) is None
        assert now() == pytest.approx(1000)
        assert 395 <= observer.watched() - began <= 420

    play(story())


def test_watched_never_goes_back() -> None:
    cloud = ScriptedCloud(takes_s=3.0)

    async def story() -> None:
        observer = Observer(cloud)
        asyncio.create_task(observer.until(ONE, is_off, 500))  # noqa: RUF006  # reads in the background
        last = observer.watched()
        for second in range(400):
            cloud.failing = Unavailable("503") if (second // 50) % 2 else None
            await asyncio.sleep(1)
            assert observer.watched() >= last
            last = observer.watched()

    play(story())


def test_an_outage_that_does_not_end_is_told_to_everybody() -> None:
    cloud = ScriptedCloud(5)
    cloud.failing = Unavailable("503 Service Unavailable")

    async def story() -> None:
        observer = Observer(cloud, blind_limit_s=600)
        waits = [asyncio.create_task(observer.until(server, is_off, 9999)) for server in cloud.shown]
        waits.append(asyncio.create_task(observer.until(ONE, is_off, 9999)))
        waits.append(asyncio.create_task(observer.look(ONE)))
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(each, CloudUnusable) for each in found)
        assert "has not answered for 10 min" in str(found[0])
        assert "503 Service Unavailable" in str(found[0])
        assert 600 <= now() < 640

    play(story())


def test_an_answer_in_between_starts_the_limit_anew() -> None:
    cloud = ScriptedCloud()

    async def story() -> None:
        observer = Observer(cloud, blind_limit_s=600)
        wait = asyncio.create_task(observer.until(ONE, is_off, 5000))
        for _ in range(4):
            cloud.failing = Unavailable("503")
            await asyncio.sleep(500)
            cloud.failing = None
            await asyncio.sleep(60)
        cloud.put(ONE, "SHUTOFF")
        assert await wait is not None

    play(story())


@pytest.mark.parametrize("error", [CloudUnusable("password changed"), RuntimeError("a defect")])
def test_whatever_else_a_read_raises_reaches_everybody_who_waits(error: Exception) -> None:
    """Nobody is left waiting for a poller that has died."""
    cloud = ScriptedCloud(5)
    cloud.failing = error

    async def story() -> None:
        observer = Observer(cloud)
        waits = [asyncio.create_task(observer.until(server, is_off, 9999)) for server in cloud.shown]
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert {type(each) for each in found} == {type(error)}
        assert now() < 60

    play(story())


def test_closing_stops_reading() -> None:
    cloud = ScriptedCloud()

    async def story() -> None:
        observer = Observer(cloud)
        wait = asyncio.create_task(observer.until(ONE, is_off, 100))
        await asyncio.sleep(5)
        await observer.close()
        reads = len(cloud.reads)
        assert await wait is None
        assert len(cloud.reads) == reads
        await observer.close()

    play(story())
