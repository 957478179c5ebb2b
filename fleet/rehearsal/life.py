"""One life of a run on virtual time: what `fleet run` and `fleet resume` do, on a loop of its own.

Everything between the plan and the cloud is the real thing: survey, journal, engine, client, login, pacer.
Not real are time, the disk under the journal, and the wire, which is a function call.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from fleet.clock import LoopClock, VirtualLoop
from fleet.cloud.api import Cloud
from fleet.cloud.ecs.auth import TokenLogin
from fleet.cloud.ecs.client import EcsCloud
from fleet.cloud.ecs.credentials import Password
from fleet.cloud.ecs.endpoints import Endpoints
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.http import Request, Response
from fleet.cloud.openstack.provider import assemble
from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.face import Face
from fleet.cloud.simulator.transport import SimulatedTransport
from fleet.core.events import Event, RunResumed, Skipped
from fleet.core.forecast import Forecast
from fleet.core.forecast import Kind as ServerKind
from fleet.core.model import Server, ServerId
from fleet.core.settings import Check, Settings
from fleet.core.state import Run, is_payable
from fleet.engine import Engine
from fleet.errors import Exit, FleetError, NotSent
from fleet.journal import Journal, Recorder, read_from, replay
from fleet.orders import Orders
from fleet.outlook import Outlook
from fleet.rehearsal.disk import Disk, DiskSink
from fleet.rehearsal.hooks import Book, Outcomes, RehearsedHooks
from fleet.rehearsal.incidents import Crash, Fate, Incident
from fleet.survey import opening, survey

BASE_URL = "http://127.0.0.1"
PATH = Path("/rehearsal/journal.jsonl")
"""For messages: nothing is ever written there."""

HOST = "rehearsal"


class PassingChecker:
    """On virtual time there is no network to check: every check passes."""

    async def run(self, check: Check, server: Server) -> str | None:
        """Pass."""
        del check, server
        return None


class StoryClock(LoopClock):
    """The clock of one life: the story's time of day, which may jump, and a boot time that counts sleep."""

    def __init__(self, epoch: datetime) -> None:
        super().__init__(epoch)
        self.slept_s = 0.0

    def boottime(self) -> float:
        """Return the loop's time and that of every sleep of the machine."""
        return super().boottime() + self.slept_s


class Wire:
    """A transport that counts effects, and notes what is sent when it must not be.

    Attributes:
        wrong: Promises broken, in words.
        mutations: Requests sent that would change something.
    """

    def __init__(
        self, inner: SimulatedTransport, fate: Fate, sink: DiskSink, may_wipe: Callable[[str], str | None]
    ) -> None:
        self.wrong: list[str] = []
        self.mutations = 0
        self._inner = inner
        self._fate = fate
        self._sink = sink
        self._may_wipe = may_wipe
        self._cut_off = False

    async def send(self, request: Request) -> Response:
        """Send *request*; see `fleet.cloud.http.Transport`."""
        if self._cut_off:
            raise NotSent("the process is dead")
        mutating = request.method == "POST" and not request.url.endswith("/auth/tokens")
        self._fate.effect("send" if mutating else "read")
        if mutating:
            self.mutations += 1
            if self._sink.failed:
                self.wrong.append(f"P3 sent after the journal had failed: {request.url}")
            if (uncertain := self._sink.uncertain(request.url.encode() + (request.body or b""))) is not None:
                self.wrong.append(f"P16 {request.url} is sent, and this may be lost: {uncertain}")
            rebuild = request.url.endswith("/action") and (request.body or b"").startswith(b'{"rebuild"')
            if rebuild or request.url.endswith(("/reinstallos", "/changeos")):
                server = request.url.rsplit("/", 2)[1]
                if (why := self._may_wipe(server)) is not None:
                    self.wrong.append(f"P16 a wipe of {server} is sent: {why}")
        try:
            return await self._inner.send(request)
        finally:
            # Also after a lost answer; not when the life has ended meanwhile.
            if not self._cut_off:
                self._fate.effect("sent" if mutating else "seen")

    def cut_off(self) -> None:
        """Carry nothing more: whoever would send is dead."""
        self._cut_off = True

    async def close(self) -> None:
        """Close."""
        await self._inner.close()


@dataclass(slots=True)
class Scene:
    """What a life is played in, and what is left of it for the next one.

    Attributes:
        now_s: The cloud's time.
        lives: So many have begun.
        jumped_s: How far the wall clock is off.
        listener: Told of every event; the driver's time of the story with it.
        hooks: What comes of the plan's hooks.
        book: What they have done.
        seen: Durations of earlier runs, for the forecast.
    """

    face: Face
    settings: Settings
    user_data: Mapping[str, bytes]
    seed: int
    disk: Disk = field(default_factory=Disk)
    now_s: float = 0.0
    lives: int = 0
    jumped_s: float = 0.0
    limit: tuple[str, ...] = ()
    skip_unfit: bool = False
    login: Password = field(
        default_factory=lambda: Password(
            url=BASE_URL,
            user=defaults.USER_NAME,
            password=defaults.USER_PASSWORD,
            domain_name=defaults.DOMAIN_NAME,
            project_name=defaults.PROJECT_NAME,
        )
    )
    listener: Callable[[Event, float], None] | None = None
    hooks: Outcomes = field(default_factory=dict)
    book: Book = field(default_factory=Book)
    seen: tuple[tuple[ServerKind, float], ...] = ()


@dataclass(slots=True)
class Ending:
    """How a life ended: exactly one of the first four is set.

    Attributes:
        code: By itself.
        error: With an error that is told to people.
        crash: It was killed by that.
        defect: With an error of ours, a hang included.
        took_s: Of the cloud's time.
        effects: How many there were.
        wrong: Promises seen broken while it went on.
        was_settled: The run was at its end when this life began.
    """

    code: Exit | None = None
    error: FleetError | None = None
    crash: str | None = None
    defect: BaseException | None = None
    took_s: float = 0.0
    effects: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    befell: list[Incident] = field(default_factory=list)
    mutations: int = 0
    wrong: list[str] = field(default_factory=list)
    was_settled: bool = False
    owed: bool = False
    run: Run | None = None


class Life:
    """One process's life, from its start to its end.

    Args:
        scene: What it is played in.
        incidents: What befalls it.
        bound_s: It must end within this time of its loop.
        only: Effects that count; None: all.
    """

    def __init__(
        self,
        scene: Scene,
        incidents: tuple[Incident, ...] = (),
        *,
        bound_s: float,
        only: frozenset[str] | None = None,
    ) -> None:
        self.scene = scene
        self.loop = VirtualLoop()
        self.clock = StoryClock(
            scene.face.world.calendar.epoch + timedelta(seconds=scene.now_s + scene.jumped_s)
        )
        self.fate = Fate(incidents, befall=self._befall, only=only, detailed=True)
        self.sink = DiskSink(scene.disk, self.fate)
        self.inner = SimulatedTransport(scene.face, boottime=self.clock.boottime, offset_s=scene.now_s)
        self.wire = Wire(self.inner, self.fate, self.sink, self._why_not)
        self.engine: Engine | None = None
        self.ending = Ending()
        self._bound_s = bound_s
        self._loop_errors: list[BaseException] = []

    def play(self) -> Ending:
        """Live, and say how it ended."""
        scene, ending, loop = self.scene, self.ending, self.loop
        scene.lives += 1
        loop.set_exception_handler(self._loop_error)
        try:
            ending.code = loop.run_until_complete(asyncio.wait_for(self._main(), self._bound_s))
        except Crash as crash:
            ending.crash = str(crash.code)
        except FleetError as error:
            ending.error = error
        except TimeoutError:
            ending.defect = TimeoutError(f"P7 not at its end after {self._bound_s:.0f} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            ending.defect = error
        ending.took_s = loop.time() + self.clock.slept_s
        self._bury()
        ending.effects, ending.befell = self.fate.count, self.fate.befell
        ending.by_kind, ending.mutations = dict(self.fate.by_kind), self.wire.mutations
        ending.wrong += self.wire.wrong
        if self._loop_errors and ending.crash is None and ending.defect is None:
            ending.defect = self._loop_errors[0]
        scene.now_s += ending.took_s
        return ending

    def _bury(self) -> None:
        """End what a crash has left behind, without letting it do anything more."""
        self.sink.cut_off()
        self.wire.cut_off()
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            # Whoever waits for the task that crashed meets the crash once more.
            with contextlib.suppress(Crash):
                self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    def _loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if not isinstance(error, Crash):
            self._loop_errors.append(
                error if isinstance(error, BaseException) else RuntimeError(str(context.get("message")))
            )

    # -- what a process does ------------------------------------------------------------------------

    def cloud(self) -> Cloud:
        """Return a new client of the plan's kind of cloud, not logged in yet."""
        settings = self.scene.settings.cloud
        login = TokenLogin(self.scene.login, self.wire, self.clock)
        rng = random.Random(self.scene.seed * 1000 + self.scene.lives)
        if settings.provider == "openstack":
            here = msgspec.structs.replace(settings, endpoints={})
            return assemble(self.wire, login, here, self.clock, None, rng)
        pacer = Pacer(settings.requests_per_second)
        return EcsCloud(self.wire, login, pacer, Endpoints(BASE_URL), clock=self.clock, rng=rng)

    async def _main(self) -> Exit:
        scene = self.scene
        cloud = self.cloud()
        recorder, orders = await (self._resume(cloud) if scene.disk.has_run else self._open(cloud))
        self.ending.run = recorder.run
        if scene.listener is not None:
            listener = scene.listener
            recorder.listeners = (lambda event, _at: listener(event, self.inner.now()),)
        # Of what is around, a rehearsal knows the clock only: gates and calendars are of the real day.
        timed = msgspec.structs.replace(
            recorder.run.settings,
            gates=(),
            freeze=tuple(each for each in recorder.run.settings.freeze if each.dates is not None),
        )
        outlook = Outlook(timed, self.clock, Forecast(scene.seen)) if timed.windows or timed.freeze else None
        self.engine = Engine(
            recorder,
            cloud=cloud,
            clock=self.clock,
            checker=PassingChecker(),
            order=orders,
            hooks=RehearsedHooks(scene.book, scene.hooks, self.fate, scene.disk, self._status),
            outlook=outlook,
        )
        try:
            if outlook is None:
                return await self.engine.work()
            async with outlook:
                return await self.engine.work()
        finally:
            await cloud.close()

    async def _open(self, cloud: Cloud) -> tuple[Recorder, Orders]:
        scene = self.scene
        scene.disk.cut(0)
        found = await survey(
            cloud,
            scene.settings,
            scene.user_data,
            limit=scene.limit,
            skip_unfit=scene.skip_unfit,
            now=self.clock.now(),
        )
        found.refuse()
        opened = opening(found, run=f"{scene.settings.plan}-rehearsal", plan_path=PATH, limit=scene.limit)
        opened = msgspec.structs.replace(opened, host=HOST, pid=scene.lives)
        book = Journal(PATH, self.sink)
        at = self.clock.now()
        book.append(opened, at)
        recorder = Recorder(Run(opened, at), book, self.clock.now)
        for server, reason in found.skipped.items():
            recorder.record(Skipped(server=server, reason=reason))
        return recorder, self._orders(scene.settings, found.identity.user_id)

    async def _resume(self, cloud: Cloud) -> tuple[Recorder, Orders]:
        scene = self.scene
        identity = await cloud.whoami()
        recorder = reopen(scene.disk, self.sink, self.clock.now)
        servers = recorder.run.servers.values()
        self.ending.was_settled = recorder.run.is_settled and not any(server.claim for server in servers)
        self.ending.owed = any(is_payable(server) for server in servers)
        recorder.record(RunResumed(host=HOST, pid=scene.lives))
        return recorder, self._orders(recorder.run.settings, identity.user_id)

    def _orders(self, settings: Settings, user_id: str) -> Orders:
        run = f"{settings.plan}-rehearsal"
        return Orders(settings, passwords={}, user_data=self.scene.user_data, user_id=user_id, run=run)

    def _status(self, server: str) -> str | None:
        found = self.scene.face.world.servers.get(server)
        return None if found is None else str(found.show.value[0])

    def _why_not(self, server: str) -> str | None:
        """Say why no wipe of *server* may be sent now: its announcement is not certain on the disk."""
        disk = self.scene.disk
        mine = disk.data.rfind(b'"server":"%s"' % server.encode(), 0, disk.synced)
        if mine < 0:
            return "it is not announced"
        line = disk.data[disk.data.rfind(b"\n", 0, mine) + 1 : mine]
        if b'"event":"ReinstallRequested"' not in line:
            return f"its last durable word is {bytes(line)!r}"
        run = self.ending.run
        assert run is not None  # noqa: S101 - it has announced something
        pairs = run.target(run.servers[ServerId(server)]).hooks.around_server
        missing = {str(number) for number in range(1, len(pairs) + 1)} - set(
            self.scene.book.done.get(server, ())
        )
        return f"what is done before was not done: {sorted(missing)}" if missing else None

    # -- what befalls it ----------------------------------------------------------------------------

    def _befall(self, incident: Incident) -> None:
        match incident.kind:
            case "pause":
                self.loop.leap(incident.seconds)
            case "suspend":
                self.clock.slept_s += incident.seconds
                self.inner.pass_time(incident.seconds)
            case "wall-jump":
                self.scene.jumped_s += incident.seconds
                self.clock.epoch += timedelta(seconds=incident.seconds)
            case "drain":
                if self.engine is not None:
                    self.loop.call_soon(self.engine.drain, "SIGINT")
            case "stop-now":
                if self.engine is not None:
                    self.loop.call_soon(self.engine.stop_now)
            case _:
                raise AssertionError(incident.kind)


def reopen(disk: Disk, sink: DiskSink, now: Callable[[], datetime]) -> Recorder:
    """Go on with a journal: read it, cut what a crash tore, fold it.

    Raises:
        JournalError: It cannot be read.
    """
    entries, tail = read_from(io.BytesIO(disk.data), PATH)
    if tail.torn:
        disk.cut(tail.size)
    return Recorder(replay(PATH, entries), Journal(PATH, sink, seq=tail.seq, crc=tail.crc), now)
