"""`EcsCloud`: the ECS API as `fleet.cloud.api.Cloud`: which calls there are, and what their answers mean.

How they are sent, and which are sent again, says `fleet.cloud.ecs.session`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any, TypeVar

from fleet.clock import Clock
from fleet.cloud.api import Accepted, ReinstallOrder, Trail
from fleet.cloud.ecs import classify, orders, parse, surroundings, trail
from fleet.cloud.ecs.auth import Login
from fleet.cloud.ecs.classify import Purpose
from fleet.cloud.ecs.endpoints import Endpoints
from fleet.cloud.ecs.listing import MAX_PAGES, PAGE_SIZE, Listing
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.ecs.session import FEW_TRIES, Call, Session
from fleet.cloud.http import Response, Transport, id_segment, segment
from fleet.core.model import (
    BackupPoint,
    Identity,
    Image,
    Job,
    JobId,
    KeyPair,
    Room,
    ScalingGroup,
    Server,
    ServerId,
)
from fleet.errors import Rejected

T = TypeVar("T")

BATCH = 1000
"""Servers of one stop or start: the documented maximum."""


class EcsCloud:
    """The servers of one project.

    Args:
        transport: Carries requests.
        login: Makes them ours.
        pacer: Says when.
        endpoints: Say where to.
        clock: For send-by times and the dates of ``Retry-After``.
        rng: For the pauses between tries.
        page_size: Servers asked for per page.
    """

    def __init__(
        self,
        transport: Transport,
        login: Login,
        pacer: Pacer,
        endpoints: Endpoints,
        *,
        clock: Clock,
        rng: random.Random,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._session = Session(transport, login, pacer, endpoints, clock=clock, rng=rng)
        self._listing = Listing(self._session, page_size)
        self._address = endpoints.iam
        self._clock = clock
        self._owners: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"EcsCloud({self._address})"

    async def whoami(self) -> Identity:
        """Log in if need be, and say as whom."""
        return await self._session.identity()

    async def addresses(self) -> Mapping[str, tuple[str, str]]:
        """Return where the services are; see `fleet.cloud.api.KnowsAddresses`."""
        return await self._session.addresses()

    def calls(self) -> Mapping[str, int]:
        """Return how many requests were sent so far, by kind."""
        return self._session.calls()

    def slowed(self) -> Mapping[str, float]:
        """Return what throttling has slowed down; see `fleet.cloud.api.KnowsPace`."""
        return self._session.slowed()

    async def close(self) -> None:
        """Close connections."""
        await self._session.close()

    # -- servers --------------------------------------------------------------------------------------

    async def servers(self, only: AbstractSet[ServerId] | None = None) -> list[Server]:
        """Return every server of the project, or *only* some; see `Listing.servers`."""
        return await self._listing.servers(only)

    async def server(self, server: ServerId) -> Server:
        """Return one server, read now. Raises NotFound."""
        return await self._listing.server(server)

    async def stop(self, servers: Sequence[ServerId], *, force: bool) -> JobId | None:
        """Ask for servers to be stopped; see `fleet.cloud.api.Cloud.stop`.

        Returns:
            The job's id; None when the cloud named none, or when more than `BATCH` servers took
            several calls: then only the servers themselves tell.
        """
        return await self._batch("stop", servers, lambda part: orders.stop(part, force=force))

    async def start(self, servers: Sequence[ServerId]) -> JobId | None:
        """Ask for servers to be started; as `stop`."""
        return await self._batch("start", servers, orders.start)

    async def _batch(
        self, kind: str, servers: Sequence[ServerId], body: Callable[[Sequence[ServerId]], dict[str, Any]]
    ) -> JobId | None:
        job: JobId | None = None
        for begin in range(0, len(servers), BATCH):
            part = servers[begin : begin + BATCH]
            who = f"server {part[0]}" if len(part) == 1 else f"{len(part)} servers"
            call = Call(
                kind,
                f"{kind} of {who}",
                Purpose.SWITCH,
                "/v1/{project}/cloudservers/action",
                method="POST",
                body=parse.as_json(body(part)),
            )
            job = await self._session.ask(call, _job_or_none)
        return job if len(servers) <= BATCH else None

    async def turn_to_wipe(self) -> None:
        """Wait until a wipe may be sent at once; see `fleet.cloud.api.TakesTurns`."""
        await self._session.turn_to_wipe()

    async def turn_to_poll(self) -> None:
        """Wait until a poll would be in nobody's way; see `fleet.cloud.api.TakesTurns`."""
        await self._session.turn_to_poll()

    async def reinstall(self, order: ReinstallOrder, *, send_by: float, timeout_s: float) -> Accepted:
        """Wipe one server's system disk and install it anew; see `fleet.cloud.api.Cloud.reinstall`.

        When this is cancelled the outcome is unknown.
        """
        identity = (await self._session.logged_in()).identity
        owner = await self._owner(order, identity)
        version, name, _ = orders.PATHS[order.call]
        call = Call(
            "reinstall",
            f"reinstall of server {order.server}",
            Purpose.WIPE,
            f"/{version}/{{project}}/cloudservers/{id_segment(order.server)}/{name}",
            method="POST",
            body=parse.as_json(orders.reinstall(order, user_id=owner)),
            timeout_s=timeout_s,
            send_by=send_by,
        )
        return await self._session.once(call, _accepted)

    async def _owner(self, order: ReinstallOrder, identity: Identity) -> str:
        """Return who we are; where the login cannot tell (temporary keys), whose the order's key pair is.

        Raises:
            Rejected: Nobody can tell. Nothing was sent.
        """
        if identity.user_id or order.key_pair is None or order.user_id:
            return identity.user_id
        if order.key_pair not in self._owners:
            self._owners[order.key_pair] = (await self.key_pair(order.key_pair)).user_id
        if not (owner := self._owners[order.key_pair]):
            refusal = Rejected(
                f"reinstall of server {order.server}: not sent: the owner of key pair {order.key_pair!r}"
                " is not known",
                hint="this login does not tell: name the owner in reinstall.user_id, or export OS_USER_ID",
            )
            refusal.everybody = True
            raise refusal
        return owner

    async def tag(self, server: ServerId, tags: Mapping[str, str]) -> None:
        """Set tags of a server; see `fleet.cloud.api.CanTag`."""
        await self._retag(server, "create", [{"key": key, "value": value} for key, value in tags.items()])

    async def untag(self, server: ServerId, keys: Sequence[str]) -> None:
        """Take tags off a server; those that are not there are no error."""
        await self._retag(server, "delete", [{"key": key} for key in keys])

    async def _retag(self, server: ServerId, action: str, tags: list[dict[str, str]]) -> None:
        call = Call(
            "tag",
            f"tagging server {server}",
            Purpose.TAG,
            f"/v1/{{project}}/cloudservers/{id_segment(server)}/tags/action",
            method="POST",
            body=parse.as_json({"action": action, "tags": tags}),
        )
        await self._session.ask(call, lambda _: None)  # the answer has no body

    async def job(self, job: JobId) -> Job:
        """Return a job. Raises NotFound when the cloud does not know it."""
        call = Call("job", f"reading job {job}", Purpose.READ, f"/v1/{{project}}/jobs/{id_segment(job)}")
        return await self._session.ask(call, lambda body: parse.job(body, job))

    # -- what surrounds them ---------------------------------------------------------------------------

    async def image(self, image: str) -> Image:
        """Return an image. Raises NotFound."""
        call = Call(
            "image", f"reading image {image}", Purpose.LOOKUP, f"/v2/images/{segment(image)}", service="ims"
        )
        return await self._session.ask(call, lambda body: parse.image(body, image))

    async def key_pair(self, name: str) -> KeyPair:
        """Return one of our own key pairs. Raises NotFound for another user's as well."""
        path = f"/v2.1/{{project}}/os-keypairs/{segment(name)}"
        call = Call("key-pair", f"reading key pair {name}", Purpose.LOOKUP, path)
        return await self._session.ask(call, lambda body: parse.key_pair(body, name))

    async def scaling_groups(self) -> Mapping[ServerId, ScalingGroup]:
        """Return who is a member of an auto-scaling group; see `fleet.cloud.api.KnowsScaling`."""
        found: dict[ServerId, ScalingGroup] = {}
        for group in await self._pages_of("scaling groups", _groups_page, surroundings.groups):
            segment = id_segment(group.id)
            pages = await self._pages_of(
                f"members of scaling group {group.id}",
                lambda start, segment=segment: surroundings.instances_path(segment, start),  # type: ignore[misc]  # a lambda that binds its loop variable
                lambda body, group=group: list(surroundings.members(body, group).items()),  # type: ignore[misc]
            )
            found.update(pages)
        return found

    async def _pages_of(
        self, what: str, path: Callable[[int], str], read: Callable[[bytes], list[T]]
    ) -> list[T]:
        found: list[T] = []
        for number in range(MAX_PAGES):
            call = Call(
                "scaling", f"reading {what}", Purpose.LOOKUP, path(number * surroundings.PAGE), service="as"
            )
            page = await self._session.ask(call, read, tries=FEW_TRIES)
            again = bool(page) and page == found[-len(page) :]  # a cloud that gives the same one for ever
            found += [] if again else page
            if again or len(page) < surroundings.PAGE:
                break
        return found

    async def disk_room(self) -> Room:
        """Return how many disks there may be, and are; see `fleet.cloud.api.KnowsRoom`."""
        call = Call("quota", "reading the disk quota", Purpose.LOOKUP, surroundings.ROOM_PATH, service="evs")
        return await self._session.ask(call, surroundings.room, tries=FEW_TRIES)

    async def backup(self, server: ServerId) -> BackupPoint | None:
        """Return a server's latest usable backup; see `fleet.cloud.api.KnowsBackups`."""
        return (await self._backups(f"&resource_id={id_segment(server)}")).get(server)

    async def backups(self, since: datetime) -> Mapping[ServerId, BackupPoint]:
        """Return the servers' latest usable backups; see `fleet.cloud.api.KnowsBackups`."""
        return await self._backups(f"&start_time={since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")

    async def _backups(self, filters: str) -> dict[ServerId, BackupPoint]:
        found: list[tuple[ServerId, BackupPoint]] = []
        for number in range(MAX_PAGES):
            path = (
                f"{surroundings.BACKUPS_PATH}?status=available{filters}"
                f"&limit={surroundings.BACKUPS}&offset={number * surroundings.BACKUPS}"
            )
            call = Call("backup", "reading backups", Purpose.LOOKUP, path, service="cbr")
            page = await self._session.ask(call, surroundings.backups, tries=FEW_TRIES)
            again = bool(page) and page == found[-len(page) :]
            found += page
            if again or len(page) < surroundings.BACKUPS:
                break
        return surroundings.latest(found)

    async def trail(self, servers: Sequence[ServerId], since: datetime) -> Trail:
        """Return the audit trail's reinstalls, of everybody; see `fleet.cloud.api.KeepsTrail`."""
        del servers  # a question a name is fewer than a question a server
        now = self._clock.now()
        oldest = now - trail.KEPT
        found: list[trail.Trace] = []
        for name in trail.NAMES:
            marker: str | None = None
            for _ in range(MAX_PAGES):
                path = trail.path(name, max(since, oldest), now, marker)
                call = Call("trail", "reading the audit trail", Purpose.LOOKUP, path, service="cts")
                page, marker = await self._session.ask(call, trail.page, tries=FEW_TRIES)
                found += page
                if marker is None or not page:
                    break
        return Trail(
            source="the audit trail (CTS)",
            wipes=trail.wipes(found),
            back_to=oldest if since < oldest else None,
            late_s=trail.LATE_S,
        )


def _groups_page(start: int) -> str:
    return f"{surroundings.GROUPS_PATH}?limit={surroundings.PAGE}&start_number={start}"


def _accepted(response: Response) -> Accepted | None:
    """Return what a wipe's answer says; None when it names no job."""
    job = parse.job_id(response.body)
    return None if job is None else Accepted(job=job, request_id=classify.request_id(response))


def _job_or_none(body: bytes) -> JobId | None:
    """Return a batch's job; None for the documented answers without one (202, 204: worked off later)."""
    if not body.strip():
        return None
    if (job := parse.job_id(body)) is None and parse.error_body(body):
        raise parse.BadAnswer("the answer names no job")
    return job
