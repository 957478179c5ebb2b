"""Stopping, starting and rebooting: what happens after the cloud has accepted it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from fleet.cloud.simulator.things import Job, Operation, Server, Show
from fleet.cloud.simulator.world import NO_TWIST, Twist, World


def log_action(world: World, server: Server, action: str, request_id: str, now: float) -> None:
    """Write a line of Nova's log of a server, still without an end."""
    server.actions.append(
        {
            "action": action,
            "request_id": f"req-{request_id or world.new_uuid()}",
            "user": world.estate.users[0].id if world.estate.users else "",
            "start": now,
            "end": None,
            "failed": False,
        }
    )


def close_actions(server: Server, now: float, *, failed: bool = False) -> None:
    """Give every line of Nova's log of a server that has no end one."""
    for action in server.actions:
        if action["end"] is None:
            action["end"] = now
            action["failed"] = failed


def batch(
    world: World,
    kind: str,
    servers: Sequence[Server],
    now: float,
    *,
    hard: bool = False,
    refused: Mapping[str, str] | None = None,
    twists: Mapping[str, Twist] | None = None,
) -> Job:
    """Stop, start or reboot *servers* under one parent job; return it.

    Args:
        world: Where they are.
        kind: ``stop``, ``start`` or ``reboot``.
        servers: Fit ones, and those in *refused*.
        now: Seconds.
        hard: Cut the power.
        refused: Codes of the sub jobs that fail at once, by server id.
        twists: What goes wrong, by server id.
    """
    parent = world.new_job("serversAction", now)
    parent.status = "RUNNING"
    for server in servers:
        world.new_job("serverActions", now, server=server.id, parent=parent).status = "RUNNING"
    for job, server in zip(parent.children, servers, strict=True):
        if refused and server.id in refused:
            code = refused[server.id]
            world.at(now + 1.0, partial(world.end_job, job, code=code, reason=f"{code}: refused"))
        else:
            begin(world, kind, server, now, hard=hard, job=job, twist=(twists or {}).get(server.id, NO_TWIST))
    return parent


def begin(
    world: World,
    kind: str,
    server: Server,
    now: float,
    *,
    hard: bool = False,
    job: Job | None = None,
    twist: Twist = NO_TWIST,
    request_id: str = "",
) -> None:
    """Begin to stop, start or reboot one server, whatever is being done to it: guards come before."""
    operation = Operation(kind, [job] if job else [], hard=hard, begun=True)
    if kind == "stop" and server.operation and server.operation.kind == "stop":
        # A hard stop takes over from a soft one that hangs; both jobs end with it.
        operation.jobs = [*server.operation.jobs, *operation.jobs]
    log_action(world, server, kind, request_id, now)
    if twist.vanishes_after_s is not None and job:
        job.vanished_at = now + twist.vanishes_after_s
    if kind == "stop":
        _begin_stop(world, server, operation, now, twist)
    elif kind == "start":
        _begin_start(world, server, operation, now, twist)
    else:
        world.change(server, now, show=Show.REBOOTING, operation=operation)
        done = now + world.draw("reboot", server)
        world.during(server, operation, done, partial(_end, world, server, operation, Show.ACTIVE))


def _begin_stop(world: World, server: Server, operation: Operation, now: float, twist: Twist) -> None:
    world.change(server, now, show=Show.STOPPING, operation=operation)
    hangs = not operation.hard and (
        twist.hangs or twist.stuck or world.chance("hang", server) < world.behaviour.soft_hangs
    )
    if not hangs:
        done = now + world.draw("stop_hard" if operation.hard else "stop_soft", server)
    elif world.behaviour.soft_force_s is not None:
        done = now + world.behaviour.soft_force_s
    else:
        return
    world.during(server, operation, done, partial(_end, world, server, operation, Show.OFF))


def _begin_start(world: World, server: Server, operation: Operation, now: float, twist: Twist) -> None:
    world.change(server, now, show=Show.STARTING, operation=operation)
    done = now + world.draw("start", server)
    ends = Show.OFF if twist.nothing or twist.fails else Show.ACTIVE
    if not twist.stuck:
        world.during(
            server, operation, done, partial(_end, world, server, operation, ends, code=twist.fails or None)
        )


def _end(
    world: World, server: Server, operation: Operation, show: Show, now: float, *, code: str | None = None
) -> None:
    """Finish an operation. Its jobs end a little later: the server is told first."""
    if operation.kind == "stop":
        world.effect("stopped", server, now)
    elif operation.kind == "start" and show is Show.ACTIVE:
        world.effect("started", server, now)
    world.change(server, now, show=show, operation=None)
    close_actions(server, now, failed=code is not None)
    if operation.jobs:
        ends = world.lagging(server, now, now)
        for job in operation.jobs:
            world.at(ends, partial(world.end_job, job, code=code, reason=code))
