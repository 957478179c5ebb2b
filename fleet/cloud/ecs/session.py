"""Calls to the ECS API and its neighbours: login, pace, patience.

One layer repeats, and it is this one: reads, stops and starts, with growing random pauses. The call that
wipes a disk is sent once. It is sent a second time for one reason only, a 401 in the gateway's words: it
checks who we are before it passes anything on, so that first one was never looked at.

Elapsed time is the event loop's throughout, so all of it runs on virtual time with a transport that does.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fleet.clock import Clock
from fleet.cloud.ecs import classify, parse
from fleet.cloud.ecs.auth import LoggedIn, Login, refusal_of
from fleet.cloud.ecs.classify import Purpose
from fleet.cloud.ecs.endpoints import Endpoints, Service
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.http import Request, Response, Transport, segment
from fleet.cloud.patience import TRIES, patiently
from fleet.core.model import Identity
from fleet.errors import CloudError, CloudUnusable, NotSent, OutcomeUnknown, Throttled, Unavailable

T = TypeVar("T")

NEEDED: tuple[Service, ...] = ("ecs", "ims")
WANTED: tuple[Service, ...] = ("evs", "as", "cbr", "cts")
"""Services that a run cannot do without, and those that it only asks more of."""

FEW_TRIES = 2
"""For services that not every cloud has, where an answer is worth having and not worth waiting for."""

READ_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Call:
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

    async def identity(self) -> Identity:
        """Log in if need be, and say as whom."""
        return (await patiently(self._login.logged_in, self._rng)).identity

    async def logged_in(self) -> LoggedIn:
        """Log in if need be, in one try: as `identity`, for whoever is not to be kept waiting."""
        return await self._login.logged_in()

    async def addresses(self) -> Mapping[str, tuple[str, str]]:
        """Return where the services are; see `fleet.cloud.api.KnowsAddresses`."""
        catalog = (await patiently(self._login.logged_in, self._rng)).catalog
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

    async def turn_to_wipe(self) -> None:
        """Wait until a wipe may be sent at once; see `fleet.cloud.api.TakesTurns`."""
        await self._login.logged_in()
        await self._pacer.turn_to_wipe()

    async def turn_to_poll(self) -> None:
        """Wait until a poll would be in nobody's way; see `fleet.cloud.api.TakesTurns`."""
        await self._pacer.turn_to_poll()

    async def ask(self, call: Call, read: Callable[[bytes], T], *, tries: int = TRIES) -> T:
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

        return await patiently(once, self._rng, known=call.purpose is Purpose.SWITCH, tries=tries)

    async def once(self, call: Call, read: Callable[[Response], T | None]) -> T:
        """Make the call that wipes. Nothing here repeats it; see this module's head.

        Raises:
            CloudError: What the answer, or the lack of one, lets the caller do.
        """
        response = await self._exchange(call)
        try:
            answer = read(response) if 200 <= response.status < 300 else None
        except parse.BadAnswer as error:
            raise OutcomeUnknown(
                f"{call.what}: HTTP {response.status}: {error}",
                status=response.status,
                request_id=classify.request_id(response),
            ) from None
        if answer is None:
            raise self._fault(call, response)
        self._pacer.succeeded(call.kind)
        return answer

    async def _exchange(self, call: Call) -> Response:
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

    async def _request(self, call: Call, logged_in: LoggedIn) -> tuple[Request, dict[str, str]]:
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

    def _fault(self, call: Call, response: Response) -> CloudError:
        """Return the exception for an answer; what it says about our speed goes to the pacer."""
        error = classify.error(response, call.purpose, call.what, now=self._clock.now())
        if isinstance(error, Throttled):
            self._pacer.throttled(
                call.kind, silence_s=error.retry_after_s, limit=classify.allowed_rate(error.message)
            )
        else:
            self._pacer.succeeded(call.kind)
        return error
