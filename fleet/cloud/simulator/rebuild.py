"""Rebuilding, as a Nova does it: what happens, and what is shown meanwhile, after it has accepted it.

Seen in a real Nova with its fake hypervisor: the server shows REBUILD at once; a stopped one is then shown
ACTIVE and idle for a moment, powers off, and is SHUTOFF in the end. In that moment another rebuild is
accepted. The line in the server's log has its end when all of that is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from fleet.cloud.simulator.power import close_actions, log_action
from fleet.cloud.simulator.things import Operation, Server, Show, Volume
from fleet.cloud.simulator.world import NO_TWIST, Twist, World


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What an accepted rebuild was asked with.

    Attributes:
        key_name, user_data, metadata: None leaves what the server has.
        metadata: Replaces all of it, where given.
    """

    image: str
    request_id: str
    key_name: str | None = None
    user_data: str | None = None
    metadata: dict[str, str] | None = None


@dataclass(slots=True)
class _Rebuild:
    """One rebuild under way."""

    world: World
    server: Server
    operation: Operation
    order: Order
    twist: Twist
    was_off: bool

    def begun(self, now: float) -> None:
        del now
        self.operation.begun = True

    def mapping(self, now: float) -> None:
        self.world.change(self.server, now, show=Show.REBUILD_MAPPING)

    def spawning(self, now: float) -> None:
        self.world.change(self.server, now, show=Show.REBUILD_SPAWNING)

    def spawned(self, now: float) -> None:
        """Have a new disk, and look idle and running, also when it is about to be stopped again."""
        server, order = self.server, self.order
        old = server.system_disk
        new = Volume(
            self.world.new_uuid(), system=True, device="/dev/vda", created=now, image=order.image,
            size_gb=old.size_gb if old else 40,
        )  # fmt: skip
        others = [disk for disk in server.disks if not disk.system]
        self.world.change(server, now, disks=[new, *others], launched=now, show=Show.ACTIVE, fault=None)
        # Nova shows no id of a local disk. What tells the new installation from the old one is its action.
        made_by = f"rebuild:req-{order.request_id}"
        self.world.effect("disk-replaced", server, now, old=old.id if old else "", new=made_by)

    def powering_off(self, now: float) -> None:
        if self.was_off:
            self.world.change(self.server, now, show=Show.STOPPING)

    def done(self, now: float) -> None:
        close_actions(self.server, now)
        show = Show.OFF if self.was_off else Show.ACTIVE
        self.world.change(self.server, now, show=show, operation=None, reinstall_failed=False)
        self.next(now)

    def fail(self, now: float) -> None:
        """End half-way, in ERROR: the old disk is gone, or was not touched yet."""
        server, world = self.server, self.world
        old = server.system_disk
        if self.twist.loses_disk and old is not None:
            world.change(server, now, disks=[disk for disk in server.disks if not disk.system])
            world.effect("disk-lost", server, now, old=old.id)
        close_actions(server, now, failed=True)
        fault = world.fault_body(self.twist.reason or "Build of instance aborted", now)
        world.change(server, now, show=Show.ERROR, fault=fault, reinstall_failed=True, operation=None)
        self.next(now)

    def next(self, now: float) -> None:
        """Begin the rebuild that was accepted in the moment of false idleness, if there is one."""
        if self.server.waiting:
            begin(self.world, self.server, self.server.waiting.pop(0), now)


_MOMENTS: Final[tuple[tuple[float, Callable[[_Rebuild, float], None]], ...]] = (
    (0.02, _Rebuild.begun),
    (0.1, _Rebuild.mapping),
    (0.35, _Rebuild.spawning),
    (0.8, _Rebuild.spawned),
    (0.83, _Rebuild.powering_off),
)
_MIDDLE: Final = 0.5
"""Where a rebuild that fails or sticks does so."""


def rebuild(world: World, server: Server, order: Order, now: float, twist: Twist = NO_TWIST) -> None:
    """Rebuild a server, whatever it is doing: guards come before."""
    if server.operation and server.operation.kind == "reinstall":
        log_action(world, server, "rebuild", order.request_id, now)
        server.waiting.append(order)
    else:
        begin(world, server, order, now, twist)


def begin(world: World, server: Server, order: Order, now: float, twist: Twist = NO_TWIST) -> None:
    """Begin with a server that nothing else is done to. A waiting one's line is in the log already."""
    operation = Operation("reinstall", [])
    under_way = _Rebuild(world, server, operation, order, twist, was_off=server.show is Show.OFF)
    request = f"req-{order.request_id}"
    if not any(action["request_id"] == request for action in server.actions):
        log_action(world, server, "rebuild", order.request_id, now)
    # The API itself writes all of this down before it answers.
    world.change(
        server,
        now,
        operation=operation,
        show=Show.REBUILDING,
        image=order.image,
        key_name=server.key_name if order.key_name is None else order.key_name,
        user_data=server.user_data if order.user_data is None else order.user_data,
        tags=server.tags if order.metadata is None else [f"{k}={v}" for k, v in order.metadata.items()],
    )
    world.version += 1
    total = world.draw("reinstall", server)
    breaks_off = _MIDDLE if twist.fails or twist.stuck else 1.0
    for share, happen in _MOMENTS:
        if share < breaks_off:
            world.during(server, operation, now + share * total, partial(happen, under_way))
    if twist.fails:
        world.during(server, operation, now + _MIDDLE * total, under_way.fail)
    elif not twist.stuck:
        world.during(server, operation, now + total, under_way.done)
