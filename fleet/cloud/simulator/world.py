"""The world of the built-in cloud: servers, what happens to them and when. Pure.

No input or output, no clock, no randomness but its own seeded one: every entry is told the time (seconds
of the cloud's own time), and what was due before then is made to happen first, in order. `power` and
`reinstall` put operations into it, `guards` says which ones the cloud refuses.
"""

from __future__ import annotations

import heapq
import itertools
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from fleet.cloud.simulator import defaults, render
from fleet.cloud.simulator.calendar import Calendar
from fleet.cloud.simulator.ledger import EffectEntry, Ledger
from fleet.cloud.simulator.settings import Behaviour, Durations, Spread, draw, uniform
from fleet.cloud.simulator.things import (
    DEFAULT_USER,
    BackupRecord,
    ImageRecord,
    Job,
    KeyPairRecord,
    Operation,
    Project,
    ScalingGroupRecord,
    Server,
    ServerSpec,
    Show,
    User,
    Volume,
)

_KINDS: Final = {
    name: number
    for number, name in enumerate(
        ("traits", *Durations.__struct_fields__, "lag-side", "hang", "ends", "shape")
    )
}
_AGE_S: Final = 40 * 86400.0
"""Age of the servers when the world begins."""


class Estate(msgspec.Struct, frozen=True, kw_only=True):
    """What the world has besides servers."""

    project: Project = msgspec.field(default_factory=Project)
    users: tuple[User, ...] = (DEFAULT_USER,)
    images: tuple[ImageRecord, ...] = (
        ImageRecord(name=defaults.IMAGE_NAME, id=defaults.IMAGE_ID),
        ImageRecord(name=defaults.PLAIN_IMAGE_NAME, id=defaults.PLAIN_IMAGE_ID, cloud_init=False),
    )
    key_pairs: tuple[KeyPairRecord, ...] = (KeyPairRecord(name=defaults.KEY_PAIR, user_id=defaults.USER_ID),)
    scaling_groups: tuple[ScalingGroupRecord, ...] = ()
    backups: tuple[BackupRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Twist:
    """What goes wrong with one operation, decided when it is accepted.

    Attributes:
        fails: Code of a job that fails; with *reason*, *loses_disk*, and what the server shows then.
        stuck: Nothing more happens after its middle, and its job runs for ever.
        job_stuck: The server gets done; its job runs for ever.
        vanishes_after_s: From then on nobody knows the job.
        hangs: A soft stop that the guest ignores until it is forced.
        nothing: A start that is accepted, and ends where it began.
        no_change: A reinstall whose job says SUCCESS with the old disk in place.
        false_idle_s: In the middle of a reinstall, ACTIVE without a task is shown this long.
    """

    fails: str = ""
    reason: str = ""
    loses_disk: bool = False
    leaves: Show = Show.OFF
    stuck: bool = False
    job_stuck: bool = False
    vanishes_after_s: float | None = None
    hangs: bool = False
    nothing: bool = False
    no_change: bool = False
    false_idle_s: float = 0.0


NO_TWIST: Final = Twist()


@dataclass(slots=True)
class Availability:
    """How many servers were not available at once: not ACTIVE and idle, or being worked on.

    Attributes:
        now, most: Servers down now, and the most at any time.
        at_start: Those that were down when the world began; they count as long as they stay down.
        most_by_zone: The same, by availability zone.
    """

    now: int = 0
    most: int = 0
    at_start: int = 0
    now_by_zone: Counter[str] = field(default_factory=Counter)
    most_by_zone: dict[str, int] = field(default_factory=dict)

    def move(self, zone: str, by: int) -> None:
        """Count *by* servers more of *zone* as down."""
        self.now += by
        self.now_by_zone[zone] += by
        self.most = max(self.most, self.now)
        self.most_by_zone[zone] = max(self.most_by_zone.get(zone, 0), self.now_by_zone[zone])


class World:
    """The servers of one project.

    Attributes:
        now: Time of the last thing that happened, in seconds.
        servers: By id, in the cloud's order.
        temporaries: The platform's own servers, by id.
        version: Moves when servers come or go, or change tags.
        keep_history: Remember what servers showed before, for stale views.
    """

    def __init__(
        self,
        servers: Iterable[ServerSpec],
        *,
        estate: Estate | None = None,
        behaviour: Behaviour | None = None,
        durations: Durations | None = None,
        seed: int = 0,
        calendar: Calendar | None = None,
    ) -> None:
        self.estate = estate or Estate()
        self.behaviour = behaviour or Behaviour()
        self.durations = durations or Durations()
        self.seed = seed
        self.calendar = calendar or Calendar()
        self.images = {image.id: image for image in self.estate.images}
        self.key_pairs: dict[tuple[str, str], KeyPairRecord] = {}
        self.restore_key_pairs()
        self.ledger = Ledger()
        self.availability = Availability()
        self.now = 0.0
        self.version = 0
        self.keep_history = False
        self.servers: dict[str, Server] = {}
        self.temporaries: dict[str, Server] = {}
        self._jobs: dict[str, Job] = {}
        self._random = random.Random(seed)
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        for number, spec in enumerate(servers):
            server = self._new_server(spec, number)
            self.servers[server.id] = server
            self._account(server)
        self.availability.at_start = self.availability.now

    # time

    def advance(self, now: float) -> None:
        """Make happen what is due until *now*."""
        while self._due and self._due[0][0] <= now:
            at, _, happen = heapq.heappop(self._due)
            self.now = max(self.now, at)
            happen(self.now)
        self.now = max(self.now, now)

    def at(self, when: float, happen: Callable[[float], None]) -> None:
        """Have *happen* called with the time, at *when*; in the order of the calls where that is equal."""
        heapq.heappush(self._due, (when, next(self._order), happen))

    def during(
        self, server: Server, operation: Operation, when: float, happen: Callable[[float], None]
    ) -> None:
        """Have *happen* called at *when*, unless *operation* is no longer what is done to *server*."""

        def guarded(now: float) -> None:
            if server.operation is operation and not server.gone:
                happen(now)

        self.at(when, guarded)

    def next_at(self) -> float | None:
        """Return when the next thing is due, or None when nothing is."""
        return self._due[0][0] if self._due else None

    # making things up

    def new_uuid(self) -> str:
        """Make up a UUID: servers, disks, ports."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def new_hex(self, digits: int = 32) -> str:
        """Make up a hexadecimal id: jobs, requests, tokens."""
        return f"{self._random.getrandbits(4 * digits):0{digits}x}"

    def new_job(self, job_type: str, now: float, *, server: str = "", parent: Job | None = None) -> Job:
        """Make a job, known from now on."""
        job = Job(f"ff808082{self.new_hex(24)}", job_type, now, server=server, parent=parent)
        self._jobs[job.id] = job
        if parent:
            parent.children.append(job)
        return job

    def draw(self, kind: str, server: Server) -> float:
        """Return how long the next thing of this *kind* takes for *server*."""
        nth = server.draws.get(kind, 0)
        server.draws[kind] = nth + 1
        spread: Spread = getattr(self.durations, kind)
        return draw(spread, self.seed, _KINDS[kind], server.number, nth)

    def chance(self, kind: str, server: Server) -> float:
        """Return the next number in (0, 1) of this *kind* for *server*."""
        nth = server.draws.get(kind, 0)
        server.draws[kind] = nth + 1
        return uniform(self.seed, _KINDS[kind], server.number, nth)

    def lagging(self, server: Server, done: float, earliest: float) -> float:
        """Return when a job ends whose server is done at *done*: a little before or after, seeded."""
        lag = self.draw("job_lag", server)
        return max(earliest, done - lag) if self.chance("lag-side", server) < 0.5 else done + lag

    def _new_server(self, spec: ServerSpec, number: int) -> Server:
        traits = uniform(self.seed, _KINDS["traits"], number)
        mixed = "A" if traits < 0.5 else "B"
        wanted = spec.profile or self.behaviour.profile
        created = -_AGE_S - 60.0 * number if spec.age_s is None else -spec.age_s
        if spec.disks is None:
            disks = [
                Volume(self.new_uuid(), place == 0, f"/dev/vd{chr(97 + place)}", created, spec.image)
                for place in range(1 + spec.data_disks)
            ]
        else:
            disks = [Volume(disk.id, disk.system, disk.device, created, spec.image) for disk in spec.disks]
        server = Server(
            id=spec.id or self.new_uuid(),
            name=spec.name,
            number=number,
            show={"SHUTOFF": Show.OFF, "ERROR": Show.ERROR}.get(spec.status, Show.ACTIVE),
            disks=disks,
            spec=spec,
            key_name=spec.key_name,
            image=spec.image,
            user_data=spec.user_data,
            address=spec.address or f"10.20.{number // 250 % 250}.{number % 250 + 4}",
            port=self.new_uuid(),
            profile=mixed if wanted == "mixed" else wanted,
            sparse=(traits * 1000) % 1 < self.behaviour.sparse,
            created=created,
            updated=created + 60,
            launched=created + 25,
            locked=spec.locked,
            tags=list(spec.tags),
        )
        if server.show is Show.ERROR:
            server.fault = self.fault_body("The server was in error when the world began.", created)
        return server

    # reading

    def listed(self) -> list[Server]:
        """Return every server of a list, newest first as in Nova: the platform's own come and go in front."""
        return [*reversed(self.temporaries.values()), *self.servers.values()]

    def find(self, server_id: str) -> Server | None:
        """Return a server, the platform's own included."""
        return self.servers.get(server_id) or self.temporaries.get(server_id)

    def named(self, name: str) -> Server:
        """Return the server of that name. Raises KeyError when there is none."""
        for server in self.servers.values():
            if server.name == name:
                return server
        raise KeyError(name)

    def job(self, job_id: str, now: float) -> Job | None:
        """Return a job, or None when it is not known: never was, vanished, or forgotten after its life."""
        job = self._jobs.get(job_id)
        if job is None or (job.vanished_at is not None and job.vanished_at <= now):
            return None
        if job.end is not None and now > job.end + self.behaviour.job_life_s:
            return None
        return job

    def rendered(self, server: Server) -> bytes:
        """Return the server's description as JSON, made anew only after it changed."""
        if server.rendered is None:
            body = render.server_body(
                server, self.estate.project, self.images.get(server.image), self.calendar
            )
            server.rendered = msgspec.json.encode(body)
        return server.rendered

    def rendered_at(self, server: Server, when: float) -> bytes:
        """Return the description as it was at *when*, as far back as history was kept."""
        for until, body in server.history:
            if until > when:
                return body
        return self.rendered(server)

    def volumes(self) -> int:
        """Return how many disks there are."""
        return sum(len(server.disks) for server in self.listed())

    def reinstalls(self) -> dict[str, int]:
        """Return how many reinstalls of each server were accepted."""
        return self.ledger.reinstalls()

    def wipes(self) -> dict[str, int]:
        """Return how many times each server's system disk was destroyed."""
        return self.ledger.wipes()

    @property
    def max_down(self) -> int:
        """The most servers that were not available at once."""
        return self.availability.most

    def summary(self) -> Mapping[str, Any]:
        """Return the figures that a referee asks for first."""
        return {
            **self.ledger.summary(),
            "servers": len(self.servers),
            "down": self.availability.now,
            "down_at_start": self.availability.at_start,
            "max_down": self.availability.most,
            "max_down_by_zone": self.availability.most_by_zone,
        }

    # changing

    def restore_key_pairs(self) -> None:
        """Have the key pairs again that the world began with."""
        self.key_pairs = {(pair.user_id, pair.name): pair for pair in self.estate.key_pairs}

    def change(self, server: Server, now: float, **fields: object) -> None:
        """Set *fields* of a server. The one way to change what it shows: keeps history, caches and counts."""
        if self.keep_history:
            server.history.append((now, self.rendered(server)))
        for name, value in fields.items():
            setattr(server, name, value)
        server.updated = now
        server.rendered = None
        self._account(server)

    def _account(self, server: Server) -> None:
        busy = server.operation is not None and not server.operation.lingers
        down = not server.gone and (server.show is not Show.ACTIVE or busy)
        if down is not server.down and not server.temporary:
            server.down = down
            self.availability.move(server.spec.zone, 1 if down else -1)

    def effect(self, effect: str, server: Server, now: float, *, old: str = "", new: str = "") -> None:
        """Put on record what really happened to a server."""
        operation = server.operation
        self.ledger.add(
            EffectEntry(
                at=now,
                time=self.calendar.millis(now),
                effect=effect,
                server=server.id,
                old=old,
                new=new,
                job=operation.jobs[-1].id if operation and operation.jobs else "",
            )
        )

    def fault_body(self, message: str, now: float) -> dict[str, Any]:
        """Return what ``fault`` holds."""
        return {"code": 500, "created": self.calendar.seconds(now), "message": message, "details": ""}

    def run_job(self, job: Job, now: float) -> None:
        """Take a job, and its parent, out of INIT."""
        if job.end is None:
            job.status = "RUNNING"
        if job.parent and job.parent.end is None:
            job.parent.status = "RUNNING"
        self.now = max(self.now, now)

    def end_job(self, job: Job, now: float, *, code: str | None = None, reason: str | None = None) -> None:
        """End a job; its parent ends with the last of its children, some seconds later."""
        if job.end is not None:
            return
        job.status, job.end, job.code, job.reason = ("FAIL" if code else "SUCCESS"), now, code, reason
        parent = job.parent
        if parent is None or any(child.end is None for child in parent.children):
            return
        failed = any(child.status == "FAIL" for child in parent.children)
        # Seen in recordings: a sub job that had ended 8 s before its parent did.
        delay = min(8.0, self.durations.job_lag.median_s) * self._random.random()

        def end_parent(at: float) -> None:
            self.end_job(
                parent,
                at,
                code="Common.0021" if failed else None,
                reason="Sub job fail!" if failed else None,
            )

        self.at(now + delay, end_parent)

    # what others do

    def add_temporary(self, of: Server, now: float) -> Server:
        """Make the platform's own server for the reinstall of another one. It looks much like that one."""
        spec = ServerSpec(
            name=f"{of.name}-temp-{self.new_hex(4)}",
            tags=tuple(of.tags),
            zone=of.spec.zone,
            flavor=of.spec.flavor,
            image=of.image,
            vpc=of.spec.vpc,
        )
        server = self._new_server(spec, 1_000_000 + of.number)
        server.temporary = True
        server.show = Show.SPAWNING
        server.created = server.updated = server.launched = now
        # Everything else is refused while the platform works on it, which is all its life.
        server.operation = Operation("platform", [])
        self.temporaries[server.id] = server
        self.version += 1
        return server

    def remove(self, server: Server, now: float) -> None:
        """Take a server out of the world, for good."""
        if server.gone:
            return
        if not server.temporary:
            self.effect("removed", server, now)
            for job in server.operation.jobs if server.operation else ():
                self.end_job(job, now, code="Ecs.0114", reason="itemNotFound: Instance could not be found.")
        self.change(server, now, gone=True, operation=None)
        self.servers.pop(server.id, None)
        self.temporaries.pop(server.id, None)
        self.version += 1

    def retag(self, server: Server, tags: list[str], now: float) -> None:
        """Give a server other tags."""
        if tags != server.tags:
            self.change(server, now, tags=tags)
            self.version += 1  # lists are looked for by tags

    def lock(self, server: Server, now: float, *, locked: bool) -> None:
        """Lock or unlock a server, as its owner may at any time."""
        self.change(server, now, locked=locked)
        self.effect("locked" if locked else "unlocked", server, now)
