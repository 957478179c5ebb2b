"""The built-in cloud's world: what happens to servers, and what they show meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.cloud.simulator import power
from fleet.cloud.simulator.reinstall import Order, reinstall
from fleet.cloud.simulator.settings import Behaviour, Durations, Spread, draw, uniform
from fleet.cloud.simulator.things import Job, Server, ServerSpec, Show
from fleet.cloud.simulator.world import Twist, World

FIXED = Durations(
    stop_soft=Spread(20, 0),
    stop_hard=Spread(8, 0),
    start=Spread(20, 0),
    queue=Spread(2, 0),
    reinstall=Spread(100, 0),
    job_lag=Spread(5, 0),
    latency=Spread(0, 0),
)


def a_world(
    *, count: int = 1, status: str = "SHUTOFF", profile: str | None = None, **behaviour: object
) -> tuple[World, Server]:
    specs = [
        ServerSpec(name=f"web-{number}", status=status, profile=profile, data_disks=1)
        for number in range(1, count + 1)
    ]
    world = World(specs, behaviour=Behaviour(**behaviour), durations=FIXED, seed=7)
    return world, world.named("web-1")


def watch(world: World, look: Callable[[], object], until: float) -> list[object]:
    """Look every half second; return what was seen, repetitions left out."""
    seen: list[object] = []
    now = world.now
    while now <= until:
        world.advance(now)
        if not seen or seen[-1] != look():
            seen.append(look())
        now += 0.5
    return seen


def shown(server: Server) -> tuple[str, str | None, bool]:
    return server.show.value[0], server.show.value[2], server.system_disk is not None


def test_profile_a_goes_through_rebuild() -> None:
    """REBUILD with its three task states, then powering-on, then ACTIVE; the disk is never missing."""
    world, server = a_world(profile="A")
    old = server.system_disk
    reinstall(world, server, Order(key_name="k"), 0.0)

    assert watch(world, lambda: shown(server), 150) == [
        ("SHUTOFF", None, True),
        ("REBUILD", "rebuilding", True),
        ("REBUILD", "rebuild_block_device_mapping", True),
        ("REBUILD", "rebuild_spawning", True),
        ("SHUTOFF", "powering-on", True),
        ("ACTIVE", None, True),
    ]
    assert server.system_disk is not None
    assert old is not None
    assert server.system_disk.id != old.id
    assert server.key_name == "k"


def test_profile_b_shows_a_stopped_server_without_system_disk() -> None:
    """SHUTOFF and idle, without the system disk but with the data disk; and a temporary server beside it."""
    world, server = a_world(profile="B")
    data = [disk.id for disk in server.disks if not disk.system]
    reinstall(world, server, Order(), 0.0)

    assert watch(world, lambda: (*shown(server), len(world.listed())), 150) == [
        ("SHUTOFF", None, True, 1),
        ("SHUTOFF", None, False, 2),
        ("SHUTOFF", None, True, 2),
        ("SHUTOFF", None, True, 1),
        ("SHUTOFF", "powering-on", True, 1),
        ("ACTIVE", None, True, 1),
    ]
    assert [disk.id for disk in server.disks if not disk.system] == data


@pytest.mark.parametrize("profile", ["A", "B"])
def test_a_running_server_is_stopped_first(profile: str) -> None:
    world, server = a_world(status="ACTIVE", profile=profile)
    reinstall(world, server, Order(), 0.0)
    seen = watch(world, lambda: server.show, 200)
    assert seen[:3] == [Show.ACTIVE, Show.STOPPING, Show.OFF]
    assert seen[-1] is Show.ACTIVE
    assert world.wipes() == {server.id: 1}


def test_mixed_profiles_are_seeded() -> None:
    """Both occur by default, and the same seed gives each server the same one."""
    first, _ = a_world(count=40)
    second, _ = a_world(count=40)
    profiles = [server.profile for server in first.servers.values()]
    assert set(profiles) == {"A", "B"}
    assert profiles == [server.profile for server in second.servers.values()]


def test_jobs_end_before_and_after_their_servers() -> None:
    """The job of a reinstall is seconds ahead of the server, or behind it: both occur."""
    world, _ = a_world(count=30, job="single")
    jobs = {server.id: reinstall(world, server, Order(), 0.0) for server in world.servers.values()}
    ends = {}
    for tick in range(400):
        world.advance(tick / 2)
        for server in world.servers.values():
            if server.show is Show.ACTIVE:
                ends.setdefault(server.id, tick / 2)
    lags = [jobs[server_id].end - ends[server_id] for server_id in jobs]
    assert min(lags) < -4
    assert max(lags) > 4


@pytest.mark.parametrize(("shape", "children"), [("single", 0), ("parent", 1)])
def test_shapes_of_a_reinstall_job(shape: str, children: int) -> None:
    world, server = a_world(job=shape)
    job = reinstall(world, server, Order(), 0.0)
    leaf = job.children[0] if job.children else job
    assert len(job.children) == children
    assert leaf.server == server.id
    assert job.status == "INIT"
    world.advance(3)
    assert job.status == "RUNNING"
    world.advance(200)
    assert (job.status, job.code) == ("SUCCESS", None)


def test_a_batch_job_ends_with_its_last_child() -> None:
    """One parent, a child for each server; a failed child fails the parent with Common.0021."""
    world, _ = a_world(count=3, status="ACTIVE")
    servers = list(world.servers.values())
    job = power.batch(world, "stop", servers, 0.0, refused={servers[1].id: "Ecs.0605"})
    world.advance(10)
    assert job.status == "RUNNING"
    assert [child.status for child in job.children] == ["RUNNING", "FAIL", "RUNNING"]
    world.advance(60)
    assert [child.status for child in job.children] == ["SUCCESS", "FAIL", "SUCCESS"]
    assert (job.status, job.code) == ("FAIL", "Common.0021")
    assert [server.show for server in servers] == [Show.OFF, Show.ACTIVE, Show.OFF]


def test_jobs_are_forgotten_a_day_after_their_end() -> None:
    world, server = a_world(job="single")
    job = reinstall(world, server, Order(), 0.0)
    world.advance(200)
    assert job.end is not None
    assert world.job(job.id, job.end + 86400) is job
    assert world.job(job.id, job.end + 86401) is None


def test_a_hard_stop_takes_over_from_a_soft_one_that_hangs() -> None:
    world, server = a_world(status="ACTIVE")
    soft = power.batch(world, "stop", [server], 0.0, twists={server.id: Twist(hangs=True)})
    world.advance(3600)
    assert server.show is Show.STOPPING
    hard = power.batch(world, "stop", [server], 3600.0, hard=True)
    world.advance(3700)
    assert server.show is Show.OFF
    assert (soft.status, hard.status) == ("SUCCESS", "SUCCESS")


def test_a_hanging_soft_stop_is_forced_where_the_cloud_does_so() -> None:
    world, server = a_world(status="ACTIVE", soft_hangs=1.0, soft_force_s=60.0)
    power.batch(world, "stop", [server], 0.0)
    world.advance(59)
    assert server.show is Show.STOPPING
    world.advance(61)
    assert server.show is Show.OFF


def test_the_most_servers_down_at_once() -> None:
    """Counted from acceptance until the operation is over, by zone too; those off at the start count."""
    specs = [ServerSpec(name=f"w-{n}", zone="ab"[n % 2]) for n in range(4)]
    world = World([*specs, ServerSpec(name="off", zone="a", status="SHUTOFF")], durations=FIXED)
    servers = list(world.servers.values())
    assert world.availability.at_start == 1
    power.batch(world, "stop", servers[:2], 0.0)
    world.advance(60)
    power.batch(world, "start", servers[:2], 60.0)
    world.advance(120)
    power.batch(world, "stop", servers[2:3], 120.0)
    assert world.availability.now == 2
    assert world.max_down == 3
    assert world.availability.most_by_zone == {"a": 2, "b": 1}


def test_a_share_of_reinstalls_leaves_the_server_off() -> None:
    world, server = a_world(ends_shutoff=1.0, job="single")
    job = reinstall(world, server, Order(), 0.0)
    world.advance(300)
    assert server.show is Show.OFF
    assert server.operation is None
    assert job.status == "SUCCESS"


def test_a_reinstall_accepted_while_another_is_queued_runs_after_it() -> None:
    world, server = a_world(job="single")
    first = reinstall(world, server, Order(), 0.0)
    second = reinstall(world, server, Order(), 1.0)
    world.advance(600)
    assert (first.status, second.status) == ("SUCCESS", "SUCCESS")
    assert world.wipes() == {server.id: 2}


def test_a_removed_server_takes_its_job_along() -> None:
    world, server = a_world(job="single")
    job = reinstall(world, server, Order(), 0.0)
    world.advance(20)
    world.remove(server, 20.0)
    world.advance(600)
    assert (job.status, job.code) == ("FAIL", "Ecs.0114")
    assert world.servers == {}
    assert world.availability.now == 0


def test_durations_hang_on_seed_server_and_turn_only() -> None:
    """So two clients that ask in another order meet the same durations."""

    def second_stop(others: int) -> float:
        world = World([ServerSpec(name=f"w-{n}") for n in range(5)], seed=3)
        servers = list(world.servers.values())
        for server in servers[:others]:
            world.draw("stop_soft", server)
        world.draw("stop_soft", servers[4])
        return world.draw("stop_soft", servers[4])

    assert second_stop(0) == second_stop(4)
    assert draw(Spread(20), 3, 1, 2) != draw(Spread(20), 4, 1, 2)
    assert all(0 < uniform(seed, 1) < 1 for seed in range(1000))
    durations = sorted(draw(Spread(90), 1, n) for n in range(2001))
    assert 85 < durations[1000] < 95
    assert durations[200] > 60
    assert durations[1800] < 140


def test_the_same_seed_gives_the_same_bytes() -> None:
    def story() -> tuple[list[bytes], list[bytes]]:
        world, _ = a_world(count=6)
        jobs: list[Job] = [reinstall(world, server, Order(), 5.0) for server in list(world.servers.values())]
        for tick in range(300):
            world.advance(float(tick))
        assert all(job.status == "SUCCESS" for job in jobs)
        return [world.rendered(server) for server in world.listed()], world.ledger.lines()

    assert story() == story()
