"""Reinstalling: what happens, and what is shown meanwhile, after the cloud has accepted it.

The two ways that the ECS API reference leaves open (section 3.3), as tables of moments, each at a share of
the whole: A goes through REBUILD and its task states; B shows a stopped server without a system disk, and
a temporary server of the platform's beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from fleet.cloud.simulator.power import close_actions, log_action
from fleet.cloud.simulator.things import Job, Operation, Server, Show, Volume
from fleet.cloud.simulator.world import NO_TWIST, Twist, World


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What an accepted reinstall was asked with.

    Attributes:
        image: Of a change of OS, else empty.
        call: ``reinstallOs``, ``reinstallOsV2``, ``changeOs`` or ``changeOsV2``: the job's type.
    """

    key_name: str = ""
    user_data: str = ""
    image: str = ""
    call: str = "reinstallOsV2"
    request_id: str = ""


@dataclass(slots=True)
class _Reinstall:
    """One reinstall under way."""

    world: World
    server: Server
    operation: Operation
    order: Order
    twist: Twist
    job: Job
    old: Volume | None = None
    temporary: Server | None = None
    finished: bool = False

    def show(self, show: Show, now: float) -> None:
        self.world.change(self.server, now, show=show)

    def rebuilding(self, now: float) -> None:
        self.show(Show.REBUILDING, now)

    def mapping(self, now: float) -> None:
        self.show(Show.REBUILD_MAPPING, now)

    def spawning(self, now: float) -> None:
        self.replace_disk(now)
        self.show(Show.REBUILD_SPAWNING, now)

    def detach(self, now: float) -> None:
        server = self.server
        self.old = server.system_disk
        self.world.change(
            server, now, show=Show.OFF, disks=[disk for disk in server.disks if not disk.system]
        )
        self.appear(now)

    def appear(self, now: float) -> None:
        wanted = self.world.behaviour.temporary_server
        if wanted == "always" or (wanted == "B" and self.server.profile == "B"):
            self.temporary = self.world.add_temporary(self.server, now)

    def disappear(self, now: float) -> None:
        if self.temporary:
            self.world.remove(self.temporary, now)

    def replace_disk(self, now: float) -> None:
        """Put a new system disk in the place of the old one, which is destroyed."""
        server = self.server
        old = self.old or server.system_disk
        others = [disk for disk in server.disks if not disk.system]
        if self.twist.no_change and old is not None:
            self.world.change(server, now, disks=[old, *others])
            return
        image = self.order.image or server.image
        size = old.size_gb if old else 40
        new = Volume(
            self.world.new_uuid(), system=True, device="/dev/vda", created=now, image=image, size_gb=size
        )
        self.world.change(
            server,
            now,
            disks=[new, *others],
            image=image,
            key_name=self.order.key_name,
            user_data=self.order.user_data or server.user_data,
        )
        self.world.effect("disk-replaced", server, now, old=old.id if old else "", new=new.id)

    def powering_on(self, now: float) -> None:
        self.show(Show.STARTING, now)

    def false_idle(self, now: float) -> None:
        """Look done in the middle of it, as a real Nova does (seen in 21 of 46 rebuilds)."""
        before = self.server.show
        self.show(Show.ACTIVE, now)

        def back(at: float) -> None:
            if not self.finished and self.server.show is Show.ACTIVE:
                self.show(before, at)

        self.world.during(self.server, self.operation, now + self.twist.false_idle_s, back)

    def fail(self, now: float) -> None:
        """End half-way: with the old disk where it was, or with none at all."""
        server, twist, world = self.server, self.twist, self.world
        old = self.old or server.system_disk
        others = [disk for disk in server.disks if not disk.system]
        if twist.loses_disk and old is not None:
            world.change(server, now, disks=others)
            world.effect("disk-lost", server, now, old=old.id)
        elif old is not None:
            world.change(server, now, disks=[old, *others])
        self.disappear(now)
        reason = twist.reason or f"{twist.fails}: the reinstallation failed"
        fault = world.fault_body(reason, now) if twist.leaves is Show.ERROR else None
        world.end_job(self.job, now, code=twist.fails, reason=reason)
        close_actions(server, now, failed=True)
        world.change(server, now, show=twist.leaves, fault=fault, reinstall_failed=True, operation=None)
        self.next(now)

    def done(self, now: float) -> None:
        """Be as promised: running, or left off in a share of cases."""
        world, server = self.world, self.server
        off = world.chance("ends", server) < world.behaviour.ends_shutoff
        self.finished = self.operation.lingers = True
        self.disappear(now)
        close_actions(server, now)
        world.change(server, now, show=Show.OFF if off else Show.ACTIVE, fault=None, reinstall_failed=False)
        if self.twist.job_stuck or self.job.end is not None:
            self.over(now)

    def end_job(self, now: float) -> None:
        self.world.end_job(self.job, now)
        if self.server.operation is self.operation and self.server.show in {Show.ACTIVE, Show.OFF}:
            self.over(now)

    def over(self, now: float) -> None:
        """Let go of the server: from now on another operation is accepted."""
        self.world.change(self.server, now, operation=None)
        self.next(now)

    def next(self, now: float) -> None:
        """Begin the reinstall that was accepted while this one was queued, if there is one."""
        if self.server.waiting:
            order, job = self.server.waiting.pop(0)
            _begin(self.world, self.server, order, job, now, NO_TWIST)


_Moment = tuple[float, Callable[[_Reinstall, float], None]]

_PROFILES: Final[dict[str, tuple[_Moment, ...]]] = {
    "A": (
        (0.0, _Reinstall.rebuilding),
        (0.02, _Reinstall.appear),
        (0.1, _Reinstall.mapping),
        (0.35, _Reinstall.spawning),
        (0.7, _Reinstall.disappear),
        (0.8, _Reinstall.powering_on),
    ),
    "B": (
        (0.0, _Reinstall.detach),
        (0.6, _Reinstall.replace_disk),
        (0.65, _Reinstall.disappear),
        (0.8, _Reinstall.powering_on),
    ),
}
_MIDDLE: Final = 0.5
"""Where a reinstall that fails or sticks does so."""
_LATEST_CHANGE: Final = 0.81
"""Share after which the disk is certainly there: a job that is ahead of its server ends no earlier."""


def reinstall(world: World, server: Server, order: Order, now: float, twist: Twist = NO_TWIST) -> Job:
    """Reinstall a server, whatever it is doing: guards come before. Return the job that answers for it."""
    shape = world.behaviour.job
    parent = None
    if shape == "parent" or (shape == "mixed" and world.chance("shape", server) < 0.5):
        parent = world.new_job(order.call, now)
    job = world.new_job(order.call, now, server=server.id, parent=parent)
    if twist.vanishes_after_s is not None:
        for each in (job, parent):
            if each:
                each.vanished_at = now + twist.vanishes_after_s
    if server.operation and server.operation.kind == "reinstall":
        server.waiting.append((order, job))
    else:
        _begin(world, server, order, job, now, twist)
    return parent or job


def _begin(world: World, server: Server, order: Order, job: Job, now: float, twist: Twist) -> None:
    operation = Operation("reinstall", [job])
    under_way = _Reinstall(world, server, operation, order, twist, job)
    log_action(world, server, "rebuild" if server.profile == "A" else "detach_volume", order.request_id, now)
    running = server.show is Show.ACTIVE
    world.change(server, now, operation=operation)
    begins = now + world.draw("queue", server)

    def leave_queue(at: float) -> None:
        operation.begun = True
        world.run_job(job, at)

    world.during(server, operation, begins, leave_queue)
    if running:
        # Only with mode=withStopServer: the cloud stops it first.
        world.during(server, operation, begins, partial(under_way.show, Show.STOPPING))
        begins += world.draw("stop_soft", server)
        world.during(server, operation, begins, partial(under_way.show, Show.OFF))
        begins += 1.0  # seen stopped for a moment before the disk is taken away
    _schedule(world, under_way, begins)


def _schedule(world: World, under_way: _Reinstall, begins: float) -> None:
    server, operation, twist = under_way.server, under_way.operation, under_way.twist
    total = world.draw("reinstall", server)
    breaks_off = _MIDDLE if twist.fails or twist.stuck else 1.0
    for share, happen in _PROFILES[server.profile]:
        # With the disk replaced, a failure could not leave the old one: the moments after the middle are
        # never reached, and profile A replaces it just before.
        if share >= breaks_off or (twist.fails and happen is _Reinstall.spawning):
            continue
        world.during(server, operation, begins + share * total, partial(happen, under_way))
    if twist.stuck:
        return
    if twist.fails:
        world.during(server, operation, begins + _MIDDLE * total, under_way.fail)
        return
    if twist.false_idle_s:
        world.during(server, operation, begins + _MIDDLE * total, under_way.false_idle)
    done = begins + total
    world.during(server, operation, done, under_way.done)
    if not twist.job_stuck:
        ends = world.lagging(server, done, begins + _LATEST_CHANGE * total)
        world.at(ends, under_way.end_job)
