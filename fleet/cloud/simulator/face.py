"""The cloud's face: HTTP in, HTTP out, as a pure function of a request and the time.

A request meets, in this order: faults, the gateway (who is calling, limits), its handler, faults again.
What is on record is written before the answer is: an answer may get lost, the record may not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import msgspec

from fleet.cloud.http import Request, Response
from fleet.cloud.simulator import power, routes
from fleet.cloud.simulator.auth import Gatekeeper, SignedRequest
from fleet.cloud.simulator.calls import Answer, Backend, Call
from fleet.cloud.simulator.faults import CALL_FAULTS, WORLD_FAULTS, Fault, FaultBook, matches, seconds_of
from fleet.cloud.simulator.ledger import CallEntry
from fleet.cloud.simulator.refusals import Refused
from fleet.cloud.simulator.settings import draw
from fleet.cloud.simulator.things import Server, Show
from fleet.cloud.simulator.throttle import Throttle
from fleet.cloud.simulator.world import World

Fate = Literal["answer", "lost_after", "cut_before", "late", "refused"]
MAX_BODY: Final = 12 * 1024 * 1024
"""Bytes; the gateway's limit (ECS API reference, section 8.2)."""

_MUTATING: Final = frozenset({"stop", "start", "reboot", "reinstall", "lock", "unlock", "tag"})
_BURST_CODES: Final = {
    429: "APIGW.0308",
    500: "Common.0001",
    502: "APIGW.0201",
    503: "Common.1503",
    504: "APIGW.0201",
}
_HTML: Final = (
    "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
)
_FOR_ANYBODY: Final = frozenset({"token", "version"})
"""Calls that are answered before anybody has said who he is."""
_NOT_A_STRIKE: Final = frozenset({"slow"})
_LATENCY_KEY: Final = 99


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a request.

    Attributes:
        response: The answer; also where the client never sees it.
        fate: ``answer``; ``lost_after``: processed, then the connection drops; ``cut_before``: it drops and
            nothing was processed; ``late``: it drops, and the request is processed later; ``refused``: no
            connection comes about at all.
        delay_s: Seconds of the cloud's time until the answer, or until the connection drops.
    """

    response: Response
    fate: Fate
    delay_s: float


class Face:
    """Answers requests on behalf of a world.

    Attributes:
        world, book: The servers; the faults on order.
    """

    def __init__(
        self, world: World, *, faults: Iterable[Fault] = (), base_url: str = "http://simulator.invalid"
    ) -> None:
        self.world = world
        self.book = FaultBook(seed=world.seed)
        self._gatekeeper = Gatekeeper(world)
        self._throttle = Throttle(world.behaviour, world.calendar.speed)
        self._backend = Backend(world, self._gatekeeper, self._throttle, self.book, base_url)
        self._answered = 0
        for order in faults:
            self.order(order)

    @property
    def base_url(self) -> str:
        """Where the services are, as the catalogue says; a server knows it once it listens."""
        return self._backend.base_url

    @base_url.setter
    def base_url(self, url: str) -> None:
        self._backend.base_url = url

    def order(self, order: Fault) -> None:
        """Put a fault on order; times in it are the cloud's."""
        self.book.order(order)
        if order.kind in {"stale-list", "stale-show"}:
            self.world.keep_history = True
        if order.kind in WORLD_FAULTS and not order.calls:
            self.world.at(max(order.when.from_s, self.world.now), partial(self._happen, order, None))

    def handle(self, request: Request, now: float) -> Outcome:
        """Answer *request*, which arrives at *now*, seconds of the cloud's time.

        Header names of the request may have any case.
        """
        self.world.advance(now)
        now = self.world.now
        call = routes.read(request.method, request.url, request.headers, request.body or b"")
        call.request_id = self.world.new_hex()
        call.servers = routes.servers_of(self.world, call, now)
        self.world.ledger.requests[call.kind] += 1
        self._answered += 1
        delay = draw(self.world.durations.latency, self.world.seed, _LATENCY_KEY, self._answered)
        for order in self.book.strikes(WORLD_FAULTS, call.kind, call.named(self.world), now):
            self._later(order, call, now)
        struck = self.book.strikes(CALL_FAULTS, call.kind, call.named(self.world), now)
        delay += sum(seconds_of(order) for order in struck if order.kind == "slow")
        fate, answer = self._befallen(call, struck, now)
        return Outcome(self._response(call, answer, now), fate, delay)

    # what is done

    def _process(self, call: Call, now: float, *, fault: str = "", late: bool = False) -> Answer:
        """Let the gateway and the handler see the call, and put it on record."""
        try:
            answer = self._answer(call, now)
        except Refused as refused:
            answer = Answer(refused.status, refused.body(call.request_id), code=refused.code)
        self._record(call, answer, now, fault=fault, late=late)
        return answer

    def _answer(self, call: Call, now: float) -> Answer:
        if call.handler is None:
            raise Refused("APIGW.0101")
        if call.kind not in _FOR_ANYBODY:
            signed = SignedRequest(call.method, call.path, call.raw_query, call.headers, call.body)
            call.user, in_project = self._gatekeeper.who(signed, now)
            self._throttle.admit(call.kind, call.user.id, now)
            if call.project and (not in_project or call.project != self.world.estate.project.id):
                raise Refused("Ecs.0023")
            if call.action and call.action in call.user.denied:
                raise Refused("Pdp.0001", f"Policy does not allow {call.action} to be performed.")
        return call.handler(self._backend, call, now)

    def _record(self, call: Call, answer: Answer, now: float, *, fault: str, late: bool) -> None:
        if call.kind not in _MUTATING:
            return
        self.world.ledger.add(
            CallEntry(
                at=now,
                time=self.world.calendar.millis(now),
                kind=call.kind,
                method=call.method,
                path=call.path,
                servers=call.servers,
                accepted=answer.accepted,
                status=answer.status,
                code=answer.code,
                request_id=call.request_id,
                job=answer.job,
                user=call.user.name if call.user else "",
                fault=fault,
                late=late,
            )
        )

    # what befalls it

    def _befallen(self, call: Call, struck: list[Fault], now: float) -> tuple[Fate, Answer]:
        """Process the call as the faults let it; the first one decides."""
        decisive = next((order for order in struck if order.kind not in _NOT_A_STRIKE), None)
        if decisive is None:
            return "answer", self._process(call, now, fault=struck[0].kind if struck else "")
        kind = decisive.kind
        if kind in {"cut-before", "unreachable"}:
            never = Answer(0, b"")
            self._record(call, never, now, fault=kind, late=False)
            return ("cut_before" if kind == "cut-before" else "refused"), never
        if kind == "lands-late":

            def land(at: float) -> None:
                self._process(call, at, fault=kind, late=True)

            self.world.at(now + seconds_of(decisive), land)
            return "late", Answer(0, b"")
        if kind in {"stale-list", "stale-show"}:
            call.as_of = now - seconds_of(decisive)
        elif kind != "answer-lost":
            return "answer", self._misanswered(call, decisive, now)
        answer = self._process(call, now, fault=kind)
        return ("lost_after" if kind == "answer-lost" else "answer"), answer

    def _misanswered(self, call: Call, order: Fault, now: float) -> Answer:
        """Answer with something else than what was done, or instead of doing it."""
        wrong = _wrong_answer(order, call.request_id)
        if order.accepted:
            done = self._process(call, now, fault=order.kind)
            # Who was refused for a reason of his own is told so: the fault is about calls that were taken.
            return wrong if done.status < 400 else done
        self._record(call, wrong, now, fault=order.kind, late=False)
        return wrong

    def _later(self, order: Fault, call: Call, now: float) -> None:
        """Have a world fault happen that a call has set off: at once, or some seconds later."""
        if seconds_of(order):
            self.world.at(now + seconds_of(order), partial(self._happen, order, call.servers or None))
        else:
            self._happen(order, call.servers or None, now)

    def _happen(self, order: Fault, servers: tuple[str, ...] | None, now: float) -> None:
        """Do what somebody else does: to the servers of the call, or to those that the fault names."""
        if order.kind == "token-expiry":
            self._gatekeeper.revoke_all()
        elif order.kind == "key-pair-deleted":
            for owner, name in list(self.world.key_pairs):
                if order.key_pair in {"", name}:
                    del self.world.key_pairs[owner, name]
        elif order.kind == "key-pair-restored":
            self.world.restore_key_pairs()
        else:
            for server in list(self.world.servers.values()):
                named = matches(order.when.server, (server.id, server.name))
                if named and (servers is None or server.id in servers):
                    self._meddle(order, server, now)

    def _meddle(self, order: Fault, server: Server, now: float) -> None:
        kind = order.kind
        if kind == "tagged-by-other":
            self.world.retag(server, [*server.tags, order.text], now)
        elif kind == "untagged-by-other":
            kept = [tag for tag in server.tags if not tag.startswith(order.text)]
            self.world.retag(server, kept, now)
        elif kind == "renamed-by-other":
            self.world.change(server, now, name=order.text)
        elif kind == "resized-by-other":
            self.world.change(server, now, spec=msgspec.structs.replace(server.spec, flavor=order.text))
        elif kind == "server-disappears":
            self.world.remove(server, now)
        elif kind == "locked-by-other":
            self.world.lock(server, now, locked=True)
        elif kind == "started-by-other" and server.operation is None and server.show is Show.OFF:
            power.begin(self.world, "start", server, now)
        elif kind == "stopped-by-other" and server.operation is None and server.show is Show.ACTIVE:
            power.begin(self.world, "stop", server, now)

    # the answer

    def _response(self, call: Call, answer: Answer, now: float) -> Response:
        headers = {
            "x-request-id": call.request_id,
            "server": "api-gateway",
            "date": self.world.calendar.http(now),
            **answer.headers,
        }
        body = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
        headers.setdefault("content-type", "application/json")
        return Response(answer.status, headers, body)

    def state(self) -> dict[str, Any]:
        """Return every server's true state, for people and tests."""
        return {
            "now_s": self.world.now,
            "time": self.world.calendar.millis(self.world.now),
            "faults": {"ordered": len(self.book.orders), "struck": self.book.struck},
            "servers": [
                {
                    "id": server.id,
                    "name": server.name,
                    "status": server.show.value[0],
                    "task": server.show.value[2],
                    "operation": server.operation.kind if server.operation else None,
                    "system_disk": server.system_disk.id if server.system_disk else None,
                    "locked": server.locked,
                    "tags": server.tags,
                }
                for server in self.world.listed()
            ],
        }


def _wrong_answer(order: Fault, request_id: str) -> Answer:
    headers: dict[str, str] = {}
    if order.retry_after_s is not None:
        headers["retry-after"] = f"{order.retry_after_s:g}"
    match order.kind:
        case "html":
            body = (order.text or _HTML).encode()
            return Answer(order.status or 502, body, headers={"content-type": "text/html", **headers})
        case "garbage":
            return Answer(order.status or 200, (order.text or '{"job_id": "ff80').encode(), headers=headers)
        case "flow-limit":
            refused = Refused("Common.0024")
        case "error-burst":
            status = order.status or 503
            refused = Refused(order.code or _BURST_CODES.get(status, "Common.0001"), status=status)
        case _:
            refused = Refused(order.code or "Ecs.0100", status=order.status or None)
    return Answer(refused.status, refused.body(request_id), code=refused.code, headers=headers)
