"""The built-in cloud over HTTP, on loopback only.

One handler asks the same `Face` as the transport inside the process. What is on record reaches the record
file before the answer leaves, so a judge that reads the file misses nothing that a client may know.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from aiohttp import web

from fleet.clock import Clock, SystemClock
from fleet.cloud.http import Request
from fleet.cloud.simulator.calendar import Calendar
from fleet.cloud.simulator.face import MAX_BODY, Face
from fleet.cloud.simulator.faults import Fault
from fleet.cloud.simulator.fleetfile import FleetFile, build_world
from fleet.errors import PlanError, Problem

ADMIN: Final = "/_simulator/"
TICK_S: Final = 0.2
"""How often the world moves on by itself, wall time: what nobody asks for happens too."""
_FAULTS: Final = msgspec.json.Decoder(list[Fault] | Fault)
_JSON: Final = "application/json"


class SimulatorServer:
    """Serves one fleet.

    Attributes:
        face: Who answers; made by `start`, since the cloud's time begins then.
        url: Where, once it is started.
        stopped: Set when it is to end.
    """

    def __init__(
        self, fleet: FleetFile, *, clock: Clock | None = None, record_file: Path | None = None
    ) -> None:
        self.stopped = asyncio.Event()
        self.url = ""
        self._speed = fleet.speed
        self._loop = asyncio.get_running_loop()
        self._began = self._last_request = self._loop.time()
        calendar = Calendar((clock or SystemClock()).now(), fleet.speed)
        self.face = Face(build_world(fleet, calendar=calendar))
        self._fleet = fleet
        self._record_path = record_file
        self._record: BinaryIO | None = None
        self._recorded = 0
        self._runner: web.AppRunner | None = None
        self._ticker: asyncio.Task[None] | None = None

    def now(self) -> float:
        """Return the cloud's time."""
        return (self._loop.time() - self._began) * self._speed

    @property
    def idle_s(self) -> float:
        """Seconds of wall time since the last request."""
        return self._loop.time() - self._last_request

    async def start(self, host: str, port: int) -> str:
        """Listen; return the URL.

        Raises:
            PlanError: The address is not loopback, or taken; or the record file cannot be written.
        """
        _check_loopback(host)
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            if self._record_path is not None:
                self._record = self._record_path.open("ab", buffering=0)
            site = web.TCPSite(self._runner, host, port)
            await site.start()
        except OSError as error:
            await self.close()
            if error.errno != errno.EADDRINUSE:
                raise PlanError(Problem(f"the simulator cannot start on {host}:{port}: {error}")) from error
            raise PlanError(
                Problem(
                    f"the simulator cannot start on {host}:{port}: {os.strerror(errno.EADDRINUSE)}",
                    "another one may be at work there; --port 0 takes a free port",
                )
            ) from error
        bound = self._runner.addresses[0][1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{bound}"
        self.face.base_url = self.url
        for order in self._fleet.faults:
            self.face.order(order)
        self._ticker = asyncio.create_task(self._tick())
        return self.url

    async def close(self) -> None:
        """Stop listening, put the rest on record."""
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        if self._runner is not None:
            await self._runner.cleanup()
        self._put_on_record()
        if self._record is not None:
            self._record.close()
            self._record = None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.face.world.advance(self.now())
            self._put_on_record()

    def _put_on_record(self) -> None:
        ledger = self.face.world.ledger
        if self._record is not None and len(ledger.entries) > self._recorded:
            lines = ledger.lines(self._recorded)
            self._recorded = len(ledger.entries)
            self._record.write(b"".join(line + b"\n" for line in lines))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._last_request = self._loop.time()
        if request.path.startswith(ADMIN):
            return await self._administer(request)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            message = msgspec.json.encode(
                {"error_code": "APIGW.0201", "error_msg": "Request entity too large"}
            )
            return web.Response(status=413, body=message, content_type=_JSON)
        # The raw path: what was signed is what was sent, before anybody decoded it.
        url = f"http://{request.host}{request.raw_path}"
        outcome = self.face.handle(Request(request.method, url, request.headers, body), self.now())
        self._put_on_record()
        if outcome.fate in {"cut_before", "refused", "late"}:
            return self._drop(request)
        if outcome.delay_s:
            await asyncio.sleep(outcome.delay_s / self._speed)
        if outcome.fate == "lost_after":
            return self._drop(request)
        response = outcome.response
        return web.Response(status=response.status, headers=response.headers, body=response.body)

    def _drop(self, request: web.Request) -> web.Response:
        """Cut the connection; what is returned goes nowhere."""
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    # the operator's side

    async def _administer(self, request: web.Request) -> web.Response:
        self.face.world.advance(self.now())
        match request.method, request.path.removeprefix(ADMIN):
            case "GET", "health":
                return _json({"status": "ok", "now_s": self.now(), "speed": self._speed})
            case "GET", "record":
                entries = [msgspec.Raw(line) for line in self.face.world.ledger.lines()]
                return _json({**self.face.world.summary(), "entries": entries})
            case "GET", "summary":
                return _json(self.face.world.summary())
            case "GET", "state":
                return _json(self.face.state())
            case "POST", "faults":
                return await self._order(request)
            case "POST", "stop":
                self.stopped.set()
                return _json({"status": "stopping"})
            case _:
                return _json({"error": f"no {request.method} {request.path}"}, status=404)

    async def _order(self, request: web.Request) -> web.Response:
        """Order one fault or a list of them, in the form of a fleet file; times count from now."""
        try:
            ordered = _FAULTS.decode(await request.read())
        except msgspec.DecodeError as error:
            return _json({"error": str(error)}, status=400)
        orders = ordered if isinstance(ordered, list) else [ordered]
        now = self.now()
        for order in orders:
            until = order.when.until_s
            when = msgspec.structs.replace(
                order.when,
                from_s=order.when.from_s + now,
                until_s=None if until is None else until + now,
            )
            self.face.order(msgspec.structs.replace(order, when=when))
        return _json({"ordered": len(orders)})


def _json(body: object, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=_JSON)


def _check_loopback(host: str) -> None:
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise PlanError(
            Problem(f"the simulator listens on loopback only, not on {host!r}", hint="use 127.0.0.1 or ::1")
        )


async def serve(
    fleet: FleetFile,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    record_file: Path | None = None,
    idle_exit_s: float | None = None,
    on_ready: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve *fleet* until SIGTERM, SIGINT, ``POST /_simulator/stop`` or *idle_exit_s* without a request.

    Args:
        fleet: What to serve, its faults and speed included.
        host: Loopback address.
        port: 0 takes a free one.
        record_file: The cloud's own record is appended to it, a JSON line an entry.
        idle_exit_s: Seconds of wall time, or None to stay.
        on_ready: Is told the URL once requests are answered.

    Raises:
        PlanError: The address is not loopback, or taken; or the record file cannot be written.
    """
    server = SimulatorServer(fleet, record_file=record_file)
    loop = asyncio.get_running_loop()
    url = await server.start(host, port)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not in the main thread, or not on this system: whoever called us then ends the task.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, server.stopped.set)
    try:
        on_ready(url)
        await _until_stopped(server, idle_exit_s)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)
        await server.close()


async def _until_stopped(server: SimulatorServer, idle_exit_s: float | None) -> None:
    while True:
        left = None if idle_exit_s is None else max(0.01, idle_exit_s - server.idle_s)
        try:
            async with asyncio.timeout(left):
                await server.stopped.wait()
        except TimeoutError:
            if idle_exit_s is not None and server.idle_s >= idle_exit_s:
                return
        else:
            return
