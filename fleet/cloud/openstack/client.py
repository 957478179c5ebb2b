"""`NovaCloud`: an OpenStack cloud as `fleet.cloud.api.Cloud`.

What differs from an ECS cloud, and what is made of it:

- *Jobs*: Nova has none. The job of a rebuild is its line in the server's action log, by request id.
- *System disks*: none has an id that a rebuild changes; see `fleet.cloud.openstack.installations`.
- *Batches*: none. Stops and starts are one call per server, several at a time.
- *Hard stop*: there is none. ``os-stop`` asks the guest, and the hypervisor cuts the power after the image's
  ``os_shutdown_timeout``, else Nova's ``shutdown_timeout`` (60 s unless configured otherwise), so each soft
  stop ends by force. A forced one is the same call again, which Nova refuses while the first one is at work.
  What an administrator could do besides (``os-resetState``, then a stop) hides what is really going on; it is
  left to people.
- *Locks* bind everybody but administrators: with an administrator's login it is `fleet` alone that heeds
  them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any, TypeVar

from fleet.clock import cancel_all
from fleet.cloud.api import Accepted, ReinstallOrder, Trail, Wipe
from fleet.cloud.http import id_segment, segment
from fleet.cloud.openstack import classify, orders, parse
from fleet.cloud.openstack.classify import Purpose
from fleet.cloud.openstack.installations import Installations, job_id, parts_of
from fleet.cloud.openstack.parse import Action, Raw
from fleet.cloud.openstack.session import REIMAGES_VOLUMES, Call, Session
from fleet.core.model import Identity, Image, Job, JobId, JobStatus, KeyPair, Server, ServerId
from fleet.errors import Busy, CloudUnusable, NotFound, OutcomeUnknown, Rejected, Unavailable

A = TypeVar("A")
T = TypeVar("T")

PAGE_SIZE = 1000
"""Nova's usual limit (``max_limit``); a cloud that gives fewer is read on to the end."""

MAX_PAGES = 1000
LIST_TIMEOUT_S = 60.0

FEW = 2
"""So many servers are always read one by one."""

AT_ONCE = 8
"""Calls about single servers that may be under way together."""

FRESH_S = 5.0
"""How old a look may be that a rebuild relies on. The last look is made right before."""


class NovaCloud:
    """The servers of one project.

    Args:
        session: Makes calls.
        page_size: Servers asked for per page.
    """

    def __init__(self, session: Session, *, page_size: int = PAGE_SIZE) -> None:
        self._session = session
        self._page_size = page_size
        self._pages = 1
        self._installations = Installations(self._log, self._line)
        self._latest: dict[ServerId, tuple[float, Raw]] = {}

    async def whoami(self) -> Identity:
        """Log in if need be, and say as whom."""
        return await self._session.identity()

    async def servers(self, only: AbstractSet[ServerId] | None = None) -> list[Server]:
        """Return every server of the project, or *only* some; see `fleet.cloud.api.Cloud.servers`.

        Each server whose state was not seen before costs a call for its log besides.
        """
        if only is not None and len(only) <= max(FEW, self._pages):
            return await self._one_by_one(sorted(only))  # a set has no order that a seed repeats
        found = await self._all_pages(poll=only is not None)
        wanted = [raw for raw in found.values() if only is None or raw.server.id in only]
        # Of a server that Nova cannot reach just now only a read of its own says that it is there.
        clear = [raw for raw in wanted if not raw.in_doubt]
        made = await _several(clear, self._installations.complete)
        by_id = {server.id: server for server in made}
        if only is None:
            by_id |= {raw.server.id: raw.server for raw in wanted if raw.in_doubt}
        return [by_id[raw.server.id] for raw in wanted if raw.server.id in by_id]

    async def addresses(self) -> Mapping[str, tuple[str, str]]:
        """Return where the services are; see `fleet.cloud.api.KnowsAddresses`."""
        return await self._session.addresses()

    async def server(self, server: ServerId) -> Server:
        """Return one server, read now. Raises NotFound."""
        return await self._installations.complete(await self._raw(server))

    async def stop(self, servers: Sequence[ServerId], *, force: bool) -> None:
        """Ask for servers to be stopped, one call each; *force* changes nothing, see this module's head."""
        del force
        await self._switch("stop", servers, orders.STOP)

    async def start(self, servers: Sequence[ServerId]) -> None:
        """Ask for servers to be started; as `stop`."""
        await self._switch("start", servers, orders.START)

    async def turn_to_wipe(self) -> None:
        """Wait until a rebuild may be sent at once; see `fleet.cloud.api.TakesTurns`."""
        await self._session.turn_to_wipe()

    async def turn_to_poll(self) -> None:
        """Wait until a poll would be in nobody's way; see `fleet.cloud.api.TakesTurns`."""
        await self._session.turn_to_poll()

    async def reinstall(self, order: ReinstallOrder, *, send_by: float, timeout_s: float) -> Accepted:
        """Rebuild one server; see `fleet.cloud.api.Cloud.reinstall`.

        When this is cancelled the outcome is unknown.
        """
        what = f"rebuild of server {order.server}"
        await self._session.slot("reinstall")  # before the look: a queue, or a silence, makes it an old one
        body = orders.rebuild(order, image=await self._image_before(order, what))
        call = Call(
            "reinstall",
            what,
            f"/servers/{id_segment(order.server)}/action",
            Purpose.WIPE,
            method="POST",
            body=parse.as_json(body),
            timeout_s=timeout_s,
            send_by=send_by,
        )
        response = await self._session.once(call)
        request = classify.request_id(response) or ""
        if response.status != 202 or not parse.REQUEST_ID.fullmatch(request):
            # Taken, most likely; but without its id the log has to tell.
            raise OutcomeUnknown(
                f"{what}: HTTP {response.status} without the id of an action",
                status=response.status,
                request_id=request or None,
            )
        return Accepted(job=job_id(order.server, request), request_id=request)

    async def job(self, job: JobId) -> Job:
        """Return a rebuild's job: its line in the log. Raises NotFound when the log has none."""
        server, request = parts_of(job)
        line = await self._line(server, request)
        status = JobStatus.RUNNING
        reason = ""
        if line.failed:
            status, reason = JobStatus.FAIL, line.reason or await self._fault(server)
        elif line.ended:
            status = JobStatus.SUCCESS
        elif (fault := await self._died(server)) is not None:
            status, reason = JobStatus.FAIL, fault
        return Job(id=job, status=status, servers={server: status}, reason=reason)

    async def image(self, image: str) -> Image:
        """Return an image. Raises NotFound."""
        path = f"/images/{segment(image)}"
        call = Call("image", f"reading image {image}", path, Purpose.LOOKUP, service="image")
        return await self._session.ask(call, lambda body: parse.image(body, image))

    async def key_pair(self, name: str) -> KeyPair:
        """Return one of our own key pairs. Raises NotFound for another user's as well."""
        call = Call("key-pair", f"reading key pair {name}", f"/os-keypairs/{segment(name)}")
        return await self._session.ask(call, lambda body: parse.key_pair(body, name))

    def slowed(self) -> Mapping[str, float]:
        """Return what throttling has slowed down; see `fleet.cloud.api.KnowsPace`."""
        return self._session.slowed()

    def calls(self) -> Mapping[str, int]:
        """Return how many requests were sent so far, by kind."""
        return self._session.calls()

    async def close(self) -> None:
        """Close connections."""
        await self._session.close()

    # -- reading --------------------------------------------------------------------------------------

    async def _raw(self, server: ServerId, *, poll: bool = False) -> Raw:
        call = Call("show", f"reading server {server}", f"/servers/{id_segment(server)}", poll=poll)
        raw = await self._session.ask(call, lambda body: parse.server(body, server))
        if raw.in_doubt:
            raise Unavailable(f"reading server {server}: Nova does not reach its cell just now")
        self._latest[server] = (asyncio.get_running_loop().time(), raw)
        return raw

    async def _one_by_one(self, servers: Sequence[ServerId]) -> list[Server]:
        async def read(server: ServerId) -> Server | None:
            with contextlib.suppress(Rejected):
                return await self._installations.complete(await self._raw(server, poll=True))
            return None

        found = await _several(sorted(servers), read)
        return [server for server in found if server is not None]

    async def _all_pages(self, *, poll: bool) -> dict[ServerId, Raw]:
        """Read all pages; each begins behind the last server of the one before, so none is skipped."""
        found: dict[ServerId, Raw] = {}
        marker = ""
        for number in range(1, MAX_PAGES + 1):
            behind = f"&marker={segment(marker)}" if marker else ""
            call = Call(
                "list",
                f"listing servers, page {number}",
                f"/servers/detail?limit={self._page_size}{behind}",
                timeout_s=LIST_TIMEOUT_S,
                poll=poll,
            )
            try:
                servers, more = await self._session.ask(call, parse.page)
            except Rejected:
                if not marker:
                    raise
                # The server that the page would begin behind is gone. Once more from the beginning.
                marker = ""
                continue
            fresh = [raw for raw in servers if raw.server.id not in found]
            found.update((raw.server.id, raw) for raw in servers)
            self._pages = number
            if not servers or not more or (marker and not fresh):
                break
            marker = servers[-1].server.id
        return found

    async def trail(self, servers: Sequence[ServerId], since: datetime) -> Trail:
        """Return the rebuilds in the servers' own logs; see `fleet.cloud.api.KeepsTrail`.

        A server that is gone has no log that we may read.
        """

        async def of_one(server: ServerId) -> list[Wipe]:
            try:
                lines = await self._log(server)
            except NotFound:
                return []
            return [
                Wipe(
                    server=server, at=at, by=line.by, call=line.name, accepted=True,
                    job=job_id(server, line.request),
                )
                for line in lines
                if line.name == "rebuild" and (at := _moment(line.at)) is not None and at >= since
            ]  # fmt: skip

        found = await _several(list(servers), of_one)
        return Trail(source="the servers' own logs", wipes=tuple(wipe for some in found for wipe in some))

    async def _log(self, server: ServerId) -> list[Action]:
        call = Call(
            "actions",
            f"reading the log of server {server}",
            f"/servers/{id_segment(server)}/os-instance-actions",
        )
        return await self._session.ask(call, parse.actions)

    async def _line(self, server: ServerId, request: str) -> Action:
        call = Call(
            "job",
            f"reading action {request} of server {server}",
            f"/servers/{id_segment(server)}/os-instance-actions/{id_segment(request)}",
        )
        return await self._session.ask(call, lambda body: parse.action(body, request))

    async def _fault(self, server: ServerId) -> str:
        """Return what the server itself says of a failure; Nova tells its reasons to administrators only."""
        with contextlib.suppress(NotFound, Unavailable):
            return (await self._raw(server)).server.fault
        return ""

    async def _died(self, server: ServerId) -> str | None:
        """Tell whether a rebuild without an end has none because its host died; in whose words.

        A compute service that starts again puts such a server into ERROR and leaves the line as it is.
        """
        with contextlib.suppress(NotFound):
            seen = (await self._raw(server)).server
            if seen.status == "ERROR" and seen.task is None:
                return seen.fault or "its host gave the rebuild up, and the server is in ERROR"
        return None

    # -- changing -------------------------------------------------------------------------------------

    async def _image_before(self, order: ReinstallOrder, what: str) -> str:
        """Return the image for a rebuild, by the look that was made right before.

        Raises:
            Rejected: Nova would not install anything.
            Busy: It has been started since, which would not keep Nova from it. Nothing was sent.
        """
        read_at, raw = self._latest.pop(order.server, (float("-inf"), None))
        if raw is None or asyncio.get_running_loop().time() - read_at > FRESH_S:
            raw = await self._raw(order.server)
        seen = raw.server
        if not (seen.is_off or (seen.is_idle and seen.status == "ERROR")):
            raise Busy(f"{what}: not sent: it is {seen.state()} by now")
        image = order.image or seen.image
        if raw.from_volume and await self._session.microversion() < REIMAGES_VOLUMES:
            raise Rejected(
                f"{what}: it boots from a volume, which this Nova would leave as it is",
                hint="microversion 2.93 (OpenStack Zed) rebuilds volumes",
            )
        if not image:
            raise Rejected(
                f"{what}: it boots from a volume, so Nova knows no image of it",
                hint="name one with `reinstall: {image: …}`",
            )
        return image

    async def _switch(self, kind: str, servers: Sequence[ServerId], body: dict[str, Any]) -> None:
        """Stop or start servers, one call each.

        Raises:
            OutcomeUnknown, CloudUnusable, Unavailable, Rejected: Of those that befell any, the first of this
                order: it says what whoever asked for all of them has to reckon with.
        """

        async def one(server: ServerId) -> Exception | None:
            path = f"/servers/{id_segment(server)}/action"
            what = f"{kind} of server {server}"
            call = Call(kind, what, path, Purpose.SWITCH, method="POST", body=parse.as_json(body))
            try:
                await self._session.ask(call, parse.nothing)
            except (OutcomeUnknown, CloudUnusable, Unavailable, Rejected) as error:
                return error
            return None

        found = await _several(list(dict.fromkeys(servers)), one)
        for worst in (OutcomeUnknown, CloudUnusable, Unavailable, Rejected):
            for error in found:
                if isinstance(error, worst):
                    raise error


async def _several(things: Sequence[A], work: Callable[[A], Awaitable[T]]) -> list[T]:
    """Do *work* with *things*, `AT_ONCE` at a time; return the results in order. The first error ends it."""
    room = asyncio.Semaphore(AT_ONCE)

    async def within(thing: A) -> T:
        async with room:
            return await work(thing)

    tasks = [asyncio.ensure_future(within(thing)) for thing in things]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await cancel_all({task for task in tasks if not task.done()})


def _moment(text: str) -> datetime | None:
    """Read ``2026-01-13T07:03:44.123456``: Nova writes UTC and does not say so."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
