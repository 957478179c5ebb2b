"""The built-in cloud without sockets: a transport that asks the face in the same process.

On a virtual loop an hour of the cloud's takes as long as its callbacks do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fleet.cloud.http import Request, Response
from fleet.cloud.simulator.face import Face, Outcome
from fleet.errors import NotSent, OutcomeUnknown


class SimulatedTransport:
    """Carries requests to a `Face`, as a real one would over a network.

    The cloud's time is the running loop's plus *offset_s*. Whatever loop the next life of a story runs on,
    the world goes on from where it was: its clock never goes back.

    Args:
        face: Who answers.
        boottime: The clock of ``Request.send_by``; the loop's time when None.
        offset_s: Cloud's time when the loop's is 0.
    """

    def __init__(
        self, face: Face, *, boottime: Callable[[], float] | None = None, offset_s: float = 0.0
    ) -> None:
        self.face = face
        self._boottime = boottime
        self._offset_s = offset_s
        self._closed = False

    def now(self) -> float:
        """Return the cloud's time."""
        return asyncio.get_running_loop().time() + self._offset_s

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the cloud alone: the client's machine slept, its loop's clock with it."""
        self._offset_s += seconds

    async def send(self, request: Request) -> Response:
        """Send *request*, return its response, whatever its status.

        Raises:
            fleet.errors.NotSent: No connection, or its send-by time has passed.
            fleet.errors.OutcomeUnknown: The connection dropped, or no answer came within ``timeout_s``.
        """
        if self._closed:
            raise NotSent("the transport is closed")
        clock = self._boottime or asyncio.get_running_loop().time
        if request.send_by is not None and clock() > request.send_by:
            raise NotSent(f"{request.method} {_path(request)}: its send-by time has passed")
        outcome = self.face.handle(request, self.now())
        if outcome.fate == "refused":
            raise NotSent(f"{request.method} {_path(request)}: connection refused")
        await self._wait(request, outcome)
        if outcome.fate != "answer":
            raise OutcomeUnknown(
                f"{request.method} {_path(request)}: the connection was lost before the answer"
            )
        return outcome.response

    async def _wait(self, request: Request, outcome: Outcome) -> None:
        if outcome.delay_s <= request.timeout_s:
            await asyncio.sleep(outcome.delay_s)
            return
        await asyncio.sleep(request.timeout_s)
        raise OutcomeUnknown(f"{request.method} {_path(request)}: no answer within {request.timeout_s:g} s")

    def catch_up(self) -> None:
        """Make happen what is due by now: the world moves when it is asked, and nobody may have asked."""
        self.face.world.advance(self.now())

    async def close(self) -> None:
        """Refuse further requests."""
        self._closed = True


def _path(request: Request) -> str:
    """Return the path of a request for a message: never the query, never a header."""
    return request.url.split("?", 1)[0]
