"""`EcsCloud`: the ECS API as `fleet.cloud.api.Cloud`.

One layer repeats, and it is this one: reads, stops and starts, with growing random pauses. The call that
wipes a disk is sent once. It is sent a second time for one reason only, a 401 in the gateway's words: it
checks who we are before it passes anything on, so that first one was never looked at.

Elapsed time is the event loop's throughout, so the client runs on virtual time with a transport that does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from fleet.clock import Clock
from fleet.cloud.api import Accepted, ReinstallOrder, Trail
from fleet.cloud.ecs import classify, orders, parse, surroundings, trail
from fleet.cloud.ecs.auth import LoggedIn, Login, refusal_of
from fleet.cloud.ecs.classify import Purpose
from fleet.cloud.ecs.endpoints import Endpoints, Service
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.http import Request, Response, Transport, id_segment, segment
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
from fleet.errors import (
    CloudError,
    CloudUnusable,
    NotFound,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Throttled,
    Unavailable,
)

T = TypeVar("T")

PAGE_SIZE = 1000
"""Servers of a page; the documented maximum (default 25). Fewer calls, and less that can shift between
them. A cloud that gives fewer is read on to its own count."""

MAX_PAGES = 1000
"""A million servers. A cloud that pages on after that goes round in circles."""

IDS = 100
"""Servers that one list call can be asked for by id: the documented maximum of ``server_id``, where there is
that filter at all (ECS API reference: Huawei Cloud yes, OTC no)."""

FEW = 2
"""So many servers are always read one by one: a direct read is never behind, a list may be."""

BATCH = 1000
"""Servers of one stop or start: the documented maximum."""

NEEDED: tuple[Service, ...] = ("ecs", "ims")
WANTED: tuple[Service, ...] = ("evs", "as", "cbr", "cts")
"""Services that a run cannot do without, and those that it only asks more of."""

TRIES = 6
FEW_TRIES = 2
"""For services that not every cloud has, where an answer is worth having and not worth waiting for."""
TRY_FOR_S = 90.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""Pauses are drawn from 0 up to 1, 2, 4 … 30 s (full jitter): many clients that failed together come back
one by one."""

READ_TIMEOUT_S = 30.0
LIST_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, before it has a host and a login.

    Attributes:
        kind: For the pacer and the counts.
        poll: It may wait for those that act.
        what: For messages.
        path: Within the service; ``{project}`` is filled in.
    """

    kind: str
    what: str
    purpose: Purpose
    path: str
    method: str = "GET"
    service: Service = "ecs"
    body: bytes | None = None
    timeout_s: float = READ_TIMEOUT_S
    send_by: float | None = None
    poll: bool = False

    def __repr__(self) -> str:  # the body may hold a password
        return f"_Call({self.what})"


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
        self._transport = transport
        self._login = login
        self._pacer = pacer
        self._endpoints = endpoints
        self._clock = clock
        self._rng = rng
        self._page_size = page_size
        self._calls: Counter[str] = Counter()
        self._pages = 1
        self._by_id = True
        self._owners: dict[str, str] = {}
        # What the latest reading of some servers showed, and the one before it.
        self._known: dict[bytes, Server] = {}
        self._before: dict[bytes, Server] = {}

    def __repr__(self) -> str:
        return f"EcsCloud({self._endpoints.iam})"

    async def whoami(self) -> Identity:
        """Log in if need be, and say as whom."""
        return (await self._patiently(self._login.logged_in)).identity

    async def servers(self, only: AbstractSet[ServerId] | None = None) -> list[Server]:
        """Return every server of the project, all pages, each once, in the cloud's order; or *only* some.

        Some are read one by one, by lists of their ids, or from all pages, whichever takes fewer calls.

        Pages are numbered, so a server that comes or goes while they are read shifts the others: one can be
        skipped. Then the count changes or does not fit, and everything is read once more.
        """
        if only is not None:
            return await self._some(only)
        found, steady = await self._all_pages()
        if not steady:
            again, steady = await self._all_pages()
            # Still moving: whom either reading saw is there, as far as anybody can tell.
            found = again if steady else {**found, **again}
        return list(found.values())

    async def server(self, server: ServerId) -> Server:
        """Return one server, read now. Raises NotFound."""
        return await self._show(server)

    async def _show(self, server: ServerId, *, poll: bool = False) -> Server:
        call = _Call(
            "show",
            f"reading server {server}",
            Purpose.READ,
            f"/v1/{{project}}/cloudservers/{id_segment(server)}",
            poll=poll,
        )
        return await self._ask(call, lambda body: parse.server(body, server))

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

    async def turn_to_wipe(self) -> None:
        """Wait until a wipe may be sent at once; see `fleet.cloud.api.TakesTurns`."""
        await self._login.logged_in()
        await self._pacer.turn_to_wipe()

    async def turn_to_poll(self) -> None:
        """Wait until a poll would be in nobody's way; see `fleet.cloud.api.TakesTurns`."""
        await self._pacer.turn_to_poll()

    async def reinstall(self, order: ReinstallOrder, *, send_by: float, timeout_s: float) -> Accepted:
        """Wipe one server's system disk and install it anew; see `fleet.cloud.api.Cloud.reinstall`.

        When this is cancelled the outcome is unknown.
        """
        what = f"reinstall of server {order.server}"
        identity = (await self._login.logged_in()).identity
        owner = await self._owner(order, identity)
        version, name, _ = orders.PATHS[order.call]
        call = _Call(
            "reinstall",
            what,
            Purpose.WIPE,
            f"/{version}/{{project}}/cloudservers/{id_segment(order.server)}/{name}",
            method="POST",
            body=parse.as_json(orders.reinstall(order, user_id=owner)),
            timeout_s=timeout_s,
            send_by=send_by,
        )
        response = await self._exchange(call)
        try:
            job = parse.job_id(response.body) if 200 <= response.status < 300 else None
        except parse.BadAnswer as error:
            raise OutcomeUnknown(
                f"{what}: HTTP {response.status}: {error}",
                status=response.status,
                request_id=classify.request_id(response),
            ) from None
        if job is None:
            raise self._fault(call, response)
        self._pacer.succeeded(call.kind)
        return Accepted(job=job, request_id=classify.request_id(response))

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
        call = _Call(
            "tag",
            f"tagging server {server}",
            Purpose.TAG,
            f"/v1/{{project}}/cloudservers/{id_segment(server)}/tags/action",
            method="POST",
            body=parse.as_json({"action": action, "tags": tags}),
        )
        await self._ask(call, lambda _: None)  # the answer has no body

    async def job(self, job: JobId) -> Job:
        """Return a job. Raises NotFound when the cloud does not know it."""
        call = _Call("job", f"reading job {job}", Purpose.READ, f"/v1/{{project}}/jobs/{id_segment(job)}")
        return await self._ask(call, lambda body: parse.job(body, job))

    async def image(self, image: str) -> Image:
        """Return an image. Raises NotFound."""
        call = _Call(
            "image", f"reading image {image}", Purpose.LOOKUP, f"/v2/images/{segment(image)}", service="ims"
        )
        return await self._ask(call, lambda body: parse.image(body, image))

    async def key_pair(self, name: str) -> KeyPair:
        """Return one of our own key pairs. Raises NotFound for another user's as well."""
        path = f"/v2.1/{{project}}/os-keypairs/{segment(name)}"
        call = _Call("key-pair", f"reading key pair {name}", Purpose.LOOKUP, path)
        return await self._ask(call, lambda body: parse.key_pair(body, name))

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
            call = _Call(
                "scaling", f"reading {what}", Purpose.LOOKUP, path(number * surroundings.PAGE), service="as"
            )
            page = await self._ask(call, read, tries=FEW_TRIES)
            again = bool(page) and page == found[-len(page) :]  # a cloud that gives the same one for ever
            found += [] if again else page
            if again or len(page) < surroundings.PAGE:
                break
        return found

    async def disk_room(self) -> Room:
        """Return how many disks there may be, and are; see `fleet.cloud.api.KnowsRoom`."""
        call = _Call("quota", "reading the disk quota", Purpose.LOOKUP, surroundings.ROOM_PATH, service="evs")
        return await self._ask(call, surroundings.room, tries=FEW_TRIES)

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
            call = _Call("backup", "reading backups", Purpose.LOOKUP, path, service="cbr")
            page = await self._ask(call, surroundings.backups, tries=FEW_TRIES)
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
                call = _Call("trail", "reading the audit trail", Purpose.LOOKUP, path, service="cts")
                page, marker = await self._ask(call, trail.page, tries=FEW_TRIES)
                found += page
                if marker is None or not page:
                    break
        return Trail(
            source="the audit trail (CTS)",
            wipes=trail.wipes(found),
            back_to=oldest if since < oldest else None,
            late_s=trail.LATE_S,
        )

    async def addresses(self) -> Mapping[str, tuple[str, str]]:
        """Return where the services are; see `fleet.cloud.api.KnowsAddresses`."""
        catalog = (await self._patiently(self._login.logged_in)).catalog
        found: dict[str, tuple[str, str]] = {name: self._endpoints.found(name, catalog) for name in NEEDED}
        for name in WANTED:
            with contextlib.suppress(CloudUnusable):
                found[name] = self._endpoints.found(name, catalog)
        return found

    def calls(self) -> Mapping[str, int]:
        """Return how many requests were sent so far, by kind."""
        counts = dict(self._calls)
        if logins := self._login.logins():
            counts["login"] = logins
        return counts

    def slowed(self) -> Mapping[str, float]:
        """Return what throttling has slowed down; see `fleet.cloud.api.KnowsPace`."""
        return self._pacer.slowed()

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    async def _some(self, only: AbstractSet[ServerId]) -> list[Server]:
        lists = -(-len(only) // IDS) if self._by_id else self._pages
        if len(only) <= max(FEW, min(lists, self._pages)):
            return await self._one_by_one(sorted(only))  # a set has no order that a seed repeats
        self._before, self._known = self._known, {}
        if self._by_id and lists <= self._pages:
            found = await self._listed_by_id(sorted(only))
            if found is not None:
                return found
        return list((await self._all_pages(only))[0].values())

    async def _one_by_one(self, servers: Sequence[ServerId]) -> list[Server]:
        found = []
        for server in servers:
            with contextlib.suppress(NotFound):
                found.append(await self._show(server, poll=True))
        return found

    async def _listed_by_id(self, servers: Sequence[ServerId]) -> list[Server] | None:
        """Return servers listed by their ids; None where the cloud turns out not to know that filter."""
        found: list[Server] = []
        for begin in range(0, len(servers), IDS):
            part = frozenset(servers[begin : begin + IDS])
            names = ",".join(segment(name) for name in servers[begin : begin + IDS])
            try:
                page = await self._page(1, part, f"&server_id={names}")
            except Rejected:
                self._by_id = False
                return None
            if not part.issuperset(page.ids):  # it was ignored: this is a page of everybody
                self._by_id = False
                return None
            # An id that does not exist is listed with a fault and nothing else.
            found += [seen for seen in page.servers if seen.name or seen.status != "UNKNOWN"]
        return found

    async def _page(self, number: int, only: AbstractSet[ServerId] | None, filters: str = "") -> parse.Page:
        call = _Call(
            "list",
            f"listing servers, page {number}",
            Purpose.READ,
            f"/v1/{{project}}/cloudservers/detail?limit={self._page_size}&offset={number}{filters}",
            timeout_s=LIST_TIMEOUT_S,
            poll=only is not None,
        )
        page = await self._ask(call, lambda body: parse.page(body, only, self._before))
        self._known |= page.made_from
        return page

    async def _all_pages(
        self, only: AbstractSet[ServerId] | None = None
    ) -> tuple[dict[ServerId, Server], bool]:
        """Read all pages; return the servers by id, and whether nothing moved meanwhile."""
        found: dict[ServerId, Server] = {}
        seen: set[ServerId] = set()
        counts: set[int | None] = set()
        for number in range(1, MAX_PAGES + 1):
            page = await self._page(number, only)
            counts.add(page.count)
            before = len(seen)
            seen.update(page.ids)
            found.update((server.id, server) for server in page.servers)
            if len(seen) == before:
                break  # an empty page, or a cloud that gives the same one again
            self._pages = number
            complete = len(page.ids) < self._page_size if page.count is None else len(seen) >= page.count
            if complete:
                break
        return found, counts == {None} or counts == {len(seen)}

    async def _batch(
        self, kind: str, servers: Sequence[ServerId], body: Callable[[Sequence[ServerId]], dict[str, Any]]
    ) -> JobId | None:
        job: JobId | None = None
        for begin in range(0, len(servers), BATCH):
            part = servers[begin : begin + BATCH]
            who = f"server {part[0]}" if len(part) == 1 else f"{len(part)} servers"
            call = _Call(
                kind,
                f"{kind} of {who}",
                Purpose.SWITCH,
                "/v1/{project}/cloudservers/action",
                method="POST",
                body=parse.as_json(body(part)),
            )
            job = await self._ask(call, _job_or_none)
        return job if len(servers) <= BATCH else None

    async def _ask(self, call: _Call, read: Callable[[bytes], T], *, tries: int = TRIES) -> T:
        """Make a call that is safe to repeat, until it is answered or the tries are spent.

        Raises:
            Unavailable: The last of the tries' failures.
            OutcomeUnknown: A stop or start without a usable answer. It is not repeated here.
        """

        async def once() -> T:
            response = await self._exchange(call)
            if not 200 <= response.status < 300:
                raise self._fault(call, response)
            try:
                answer = read(response.body)
            except parse.BadAnswer as error:
                # A success by its status may still carry an error (202 with Common.0024, a job's query).
                if classify.meaning(classify.read(response), call.purpose) is not None:
                    raise self._fault(call, response) from None
                raise (OutcomeUnknown if call.purpose is Purpose.SWITCH else Unavailable)(
                    f"{call.what}: HTTP {response.status}: {error}",
                    hint="if it stays: check cloud.endpoints, and that no proxy answers in the cloud's place",
                    status=response.status,
                    request_id=classify.request_id(response),
                ) from None
            self._pacer.succeeded(call.kind)
            return answer

        return await self._patiently(once, known=call.purpose is Purpose.SWITCH, tries=tries)

    async def _patiently(
        self, once: Callable[[], Awaitable[T]], *, known: bool = False, tries: int = TRIES
    ) -> T:
        """Repeat *once* while it is `Unavailable`, up to *tries* and `TRY_FOR_S`.

        Args:
            once: What to do.
            known: An unknown outcome is raised; otherwise it is repeated as well, as reads may be. A stop
                that nobody answered may still land, and whoever asked for it has to know.
            tries: At most.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + TRY_FOR_S
        for attempt in range(tries):
            try:
                return await once()
            except Unavailable as error:
                failure = error
            except OutcomeUnknown as error:
                if known:
                    raise
                failure = Unavailable(
                    error.message,
                    hint=error.hint,
                    code=error.code,
                    status=error.status,
                    request_id=error.request_id,
                )
            pause = self._rng.uniform(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**attempt))
            if failure.retry_after_s is not None:
                pause += failure.retry_after_s  # never sooner than asked, and not all of us at once
            if attempt + 1 == tries or loop.time() + pause > give_up_at:
                raise failure
            await asyncio.sleep(pause)
        raise AssertionError("the loop ends by return or raise")

    async def _exchange(self, call: _Call) -> Response:
        """Send a call and return its answer. A 401 is followed by a new login and one repetition.

        Raises:
            NotSent, OutcomeUnknown: As the transport says.
            Unavailable: The login did not work out. The call was not sent.
            CloudUnusable: Refused for who we are, twice.
        """
        for repeated in (False, True):
            logged_in = await self._login.logged_in()
            await self._pacer.slot(call.kind, poll=call.poll)
            request, ours = await self._request(call, logged_in)
            # The transport looks again when it is connected; a queue may have taken the time already.
            if call.send_by is not None and self._clock.boottime() > call.send_by:
                raise NotSent(f"{call.what}: not sent, its send-by time has passed")
            self._calls[call.kind] += 1
            response = await self._transport.send(request)
            if response.status != 401:
                return response
            if call.purpose is Purpose.WIPE and not classify.is_of_the_gate(response):
                raise OutcomeUnknown(
                    f"{call.what}: HTTP 401, and not from the gateway, so it may have been taken",
                    status=401,
                    request_id=classify.request_id(response),
                )
            if repeated or not await self._login.renew(ours):
                raise refusal_of(response, call.what, self._clock.now(), again=repeated)
        raise AssertionError("the second round ends by return or raise")

    async def _request(self, call: _Call, logged_in: LoggedIn) -> tuple[Request, dict[str, str]]:
        """Return the request to send, and which of its headers make it ours."""
        base = self._endpoints.base(call.service, logged_in.catalog)
        path = call.path.replace("{project}", segment(logged_in.identity.project_id))
        headers = {"Content-Type": "application/json"}
        bare = Request(
            method=call.method,
            url=base + path,
            headers=headers,
            body=call.body,
            timeout_s=call.timeout_s,
            send_by=call.send_by,
        )
        ours = await self._login.headers(bare)
        headers.update(ours)  # the request's own: nobody else has it yet, and another one costs its time
        return bare, ours

    def _fault(self, call: _Call, response: Response) -> CloudError:
        """Return the exception for an answer; what it says about our speed goes to the pacer."""
        error = classify.error(response, call.purpose, call.what, now=self._clock.now())
        if isinstance(error, Throttled):
            self._pacer.throttled(
                call.kind, silence_s=error.retry_after_s, limit=classify.allowed_rate(error.message)
            )
        else:
            self._pacer.succeeded(call.kind)
        return error


def _groups_page(start: int) -> str:
    return f"{surroundings.GROUPS_PATH}?limit={surroundings.PAGE}&start_number={start}"


def _job_or_none(body: bytes) -> JobId | None:
    """Return a batch's job; None for the documented answers without one (202, 204: worked off later)."""
    if not body.strip():
        return None
    if (job := parse.job_id(body)) is None and parse.error_body(body):
        raise parse.BadAnswer("the answer names no job")
    return job
