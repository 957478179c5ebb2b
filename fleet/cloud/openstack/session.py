"""Calls to an OpenStack cloud: login, microversion, pace, patience.

One layer repeats, and it is this one: reads, stops and starts. The call that wipes a disk is sent once; a
second time for one reason only, a 401: Nova's own gate checks who we are before anybody looks at the request.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fleet.clock import Clock
from fleet.cloud.ecs.auth import LoggedIn, Login
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.ecs.parse import BadAnswer
from fleet.cloud.http import Request, Response, Transport
from fleet.cloud.openstack import classify, parse
from fleet.cloud.openstack.classify import Purpose
from fleet.cloud.openstack.endpoints import Endpoints, Service
from fleet.cloud.patience import patiently
from fleet.core.model import Identity
from fleet.errors import CloudError, CloudUnusable, NotSent, OutcomeUnknown, Throttled, Unavailable

T = TypeVar("T")

NEEDED, WANTED = (2, 58), (2, 93)
"""Microversions. 2.54 and 2.57 let a rebuild name a key pair and user data, 2.58 dates an action's last
change (OpenStack Queens, 2018). From 2.93 on (Zed) a rebuild writes a root *volume* anew; before, it left it
as it was and said nothing. Newer ones add nothing that is used here, so they are not asked for."""

REIMAGES_VOLUMES = (2, 93)

READ_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call, before it has a host and a login.

    Attributes:
        kind: For the pacer and the counts.
        what: For messages.
        path: Behind the service's base URL, already quoted.
        poll: It may wait for those that act.
    """

    kind: str
    what: str
    path: str
    purpose: Purpose = Purpose.READ
    method: str = "GET"
    service: Service = "compute"
    body: bytes | None = None
    timeout_s: float = READ_TIMEOUT_S
    send_by: float | None = None
    poll: bool = False

    def __repr__(self) -> str:  # the body may hold a password
        return f"Call({self.what})"


class Session:
    """Makes calls for one project.

    Args:
        transport: Carries requests.
        login: Makes them ours.
        pacer: Says when.
        endpoints: Say where to.
        clock: For send-by times and the dates of ``Retry-After``.
        rng: For the pauses between tries.
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
    ) -> None:
        self._transport = transport
        self._login = login
        self._pacer = pacer
        self._endpoints = endpoints
        self._clock = clock
        self._rng = rng
        self._calls: Counter[str] = Counter()
        self._microversion: tuple[int, int] | None = None
        self._one = asyncio.Lock()

    async def identity(self) -> Identity:
        """Log in if need be, and say as whom."""
        return (await patiently(self._login.logged_in, self._rng)).identity

    async def addresses(self) -> Mapping[str, tuple[str, str]]:
        """Return, by service, its base URL and what told it."""
        logged_in = await patiently(self._login.logged_in, self._rng)
        project = logged_in.identity.project_id
        return {
            name: self._endpoints.found(name, logged_in.catalog, project) for name in ("compute", "image")
        }

    async def microversion(self) -> tuple[int, int]:
        """Return the microversion that is spoken; the first time Nova is asked which it knows.

        Raises:
            CloudUnusable: All of Nova's are too old.
        """
        async with self._one:
            if self._microversion is None:
                call = Call("version", "asking Nova for its version", "/")
                newest = await self._ask(call, parse.newest_microversion)
                if newest < NEEDED:
                    raise CloudUnusable(
                        f"Nova speaks microversions up to {_spell(newest)}; {_spell(NEEDED)} is needed",
                        hint="that is OpenStack Queens (2018) or newer",
                    )
                self._microversion = min(newest, WANTED)
            return self._microversion

    async def ask(self, call: Call, read: Callable[[bytes], T]) -> T:
        """Make a call that is safe to repeat, until it is answered or the tries are spent.

        Raises:
            Unavailable: The last of the tries' failures.
            OutcomeUnknown: A stop or start without a usable answer. It is not repeated here.
        """
        if call.service == "compute":
            await self.microversion()
        return await self._ask(call, read)

    async def turn_to_wipe(self) -> None:
        """Wait until a wipe may be sent at once; see `fleet.cloud.api.TakesTurns`."""
        await self.microversion()
        await self._login.logged_in()
        await self._pacer.turn_to_wipe()

    async def slot(self, kind: str) -> None:
        """Wait until a call of *kind* may be made, for whoever has to look again once it may."""
        await self.microversion()
        await self._login.logged_in()
        await self._pacer.slot(kind)

    async def turn_to_poll(self) -> None:
        """Wait until a poll would be in nobody's way; see `fleet.cloud.api.TakesTurns`."""
        await self._pacer.turn_to_poll()

    async def once(self, call: Call) -> Response:
        """Make the call that wipes, whose turn it is. Return its answer if that is a success.

        Raises:
            CloudError: What the answer, or the lack of one, lets the caller do.
        """
        response = await self._exchange(call, has_turn=True)
        if not 200 <= response.status < 300:
            raise self._fault(call, response)
        self._pacer.succeeded(call.kind)
        return response

    def calls(self) -> Mapping[str, int]:
        """Return how many requests were sent so far, by kind."""
        counts = dict(self._calls)
        if logins := self._login.logins():
            counts["login"] = logins
        return counts

    def slowed(self) -> Mapping[str, float]:
        """Return what throttling has slowed down."""
        return self._pacer.slowed()

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    async def _ask(self, call: Call, read: Callable[[bytes], T]) -> T:
        async def once() -> T:
            response = await self._exchange(call)
            if not 200 <= response.status < 300:
                raise self._fault(call, response)
            try:
                answer = read(response.body)
            except BadAnswer as error:
                raise (OutcomeUnknown if call.purpose is Purpose.SWITCH else Unavailable)(
                    f"{call.what}: HTTP {response.status}: {error}",
                    hint="if it stays: check cloud.endpoints, and that no proxy answers in the cloud's place",
                    status=response.status,
                    request_id=classify.request_id(response),
                ) from None
            self._pacer.succeeded(call.kind)
            return answer

        return await patiently(once, self._rng, known=call.purpose is Purpose.SWITCH)

    async def _exchange(self, call: Call, *, has_turn: bool = False) -> Response:
        """Send a call and return its answer. A 401 is followed by a new login and one repetition."""
        for repeated in (False, True):
            logged_in = await self._login.logged_in()
            if repeated or not has_turn:
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
                    f"{call.what}: HTTP 401, and not from Keystone, so it may have been taken",
                    status=401,
                    request_id=classify.request_id(response),
                )
            if repeated or not await self._login.renew(ours):
                raise CloudUnusable(
                    f"{call.what}: HTTP 401, also with a new login: "
                    f"{classify.message_of(response) or 'no explanation'}",
                    hint="check that the user may work in this project and region",
                    status=401,
                    request_id=classify.request_id(response),
                )
        raise AssertionError("the second round ends by return or raise")

    async def _request(self, call: Call, logged_in: LoggedIn) -> tuple[Request, dict[str, str]]:
        """Return the request to send, and which of its headers make it ours."""
        project = logged_in.identity.project_id
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if call.service == "compute" and self._microversion is not None:
            spoken = _spell(self._microversion)
            headers["OpenStack-API-Version"] = f"compute {spoken}"
            headers["X-OpenStack-Nova-API-Version"] = spoken  # what a Nova before 2.27 understands
        bare = Request(
            method=call.method,
            url=self._endpoints.base(call.service, logged_in.catalog, project) + call.path,
            headers=headers,
            body=call.body,
            timeout_s=call.timeout_s,
            send_by=call.send_by,
        )
        ours = await self._login.headers(bare)
        request = Request(
            method=bare.method,
            url=bare.url,
            headers={**headers, **ours},
            body=bare.body,
            timeout_s=bare.timeout_s,
            send_by=bare.send_by,
        )
        return request, ours

    def _fault(self, call: Call, response: Response) -> CloudError:
        """Return the exception for an answer; what it says about our speed goes to the pacer."""
        error = classify.error(response, call.purpose, call.what, now=self._clock.now())
        if isinstance(error, Throttled):
            self._pacer.throttled(call.kind, silence_s=error.retry_after_s)
        else:
            self._pacer.succeeded(call.kind)
        return error


def _spell(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
