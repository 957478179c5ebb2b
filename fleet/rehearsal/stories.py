"""Tell a story: a run through all of its lives, nights and people, to the verdict.

The person in a story does what the documents say: resumes after a crash, makes room on a full disk,
releases a held run, approves a wave, gives failed servers another try. In the end everybody settles or the
story says why not, late requests have landed, and the referee has judged.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from fleet.cloud.simulator.calendar import EPOCH, Calendar
from fleet.cloud.simulator.face import Face
from fleet.cloud.simulator.faults import Fault
from fleet.cloud.simulator.settings import Behaviour, Durations
from fleet.cloud.simulator.things import ServerSpec
from fleet.cloud.simulator.world import Estate, World
from fleet.core.events import Approved, Retried, RunReleased
from fleet.core.forecast import Kind as ServerKind
from fleet.core.rollout import approval_awaited
from fleet.core.settings import Settings
from fleet.core.state import Phase, Run
from fleet.core.windows import Schedule, of_plan
from fleet.errors import Exit, JournalError
from fleet.journal import Recorder
from fleet.referee import Report, judge
from fleet.rehearsal.disk import DiskSink
from fleet.rehearsal.hooks import Book, Outcomes
from fleet.rehearsal.incidents import Incident
from fleet.rehearsal.life import Ending, Life, Scene, reopen

MAX_LIVES = 40
MAX_NIGHTS = 366
IDLE_NIGHTS = 31
"""So many openings in a row in which nobody is started: a bake may take days, and a month is no bake."""

MENDING_S = 600.0
LATEST_S = 4 * 3600.0
"""After the last life, so long is waited for requests that are still on their way, and for the cloud."""


@dataclass(frozen=True, slots=True)
class Person:
    """What the operator does between two lives.

    Attributes:
        releases: How many times a held run is let go on.
        retries: How many times failed servers get another try.
    """

    releases: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that decides how it goes.

    Attributes:
        incidents: What befalls each life, in order; later lives are left alone.
        nights_s: Seconds between the lives, in order; the last one repeats.
        estate: What the cloud has besides servers; None: its default.
        hooks: What comes of the plan's hooks; without a word they go well.
        begins: Time of day at its begin.
        nightly: Where the window ends a life, the next one begins at the next opening.
        seen: Durations of earlier runs, for the forecast.
    """

    seed: int
    settings: Settings
    servers: tuple[ServerSpec, ...]
    faults: tuple[Fault, ...] = ()
    incidents: tuple[tuple[Incident, ...], ...] = ()
    nights_s: tuple[float, ...] = (60.0,)
    person: Person = Person()
    behaviour: Behaviour = field(default_factory=Behaviour)
    durations: Durations = field(default_factory=Durations)
    estate: Estate | None = None
    user_data: Mapping[str, bytes] = field(default_factory=dict)
    hooks: Outcomes = field(default_factory=dict)
    begins: datetime = EPOCH
    nightly: bool = False
    seen: tuple[tuple[ServerKind, float], ...] = ()

    def world(self) -> World:
        """Build the cloud as it is when the story begins."""
        return World(
            self.servers,
            estate=self.estate,
            behaviour=self.behaviour,
            durations=self.durations,
            seed=self.seed,
            calendar=Calendar(self.begins),
        )


@dataclass(slots=True)
class Told:
    """A story, told.

    Attributes:
        endings: Of every life.
        violations: Broken promises; empty is good.
        run: As the journal tells it at the end; None: it was never opened.
        opened_nothing: Why, in that case.
        book: What the hooks have done.
    """

    story: Story
    world: World
    face: Face
    journal: bytes = b""
    endings: list[Ending] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    report: Report = field(default_factory=Report)
    run: Run | None = None
    opened_nothing: str = ""
    book: Book = field(default_factory=Book)

    @property
    def crashes(self) -> int:
        """Lives that were killed."""
        return sum(ending.crash is not None for ending in self.endings)

    @property
    def took_s(self) -> float:
        """Seconds of all lives together, without the nights."""
        return sum(ending.took_s for ending in self.endings)

    def phases(self) -> dict[str, str]:
        """Return where every server ended, by name."""
        servers = self.run.servers.values() if self.run else ()
        return {server.label: str(server.phase) for server in servers}

    def reinstalls(self) -> dict[str, int]:
        """Return how many reinstalls the cloud took, by name."""
        taken = self.world.reinstalls()
        names = {server.id: server.name for server in self.world.servers.values()}
        return {names.get(server, server): count for server, count in taken.items()}

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the journal's events as plain data, of one kind if wanted."""
        found = [msgspec.json.decode(line) for line in self.journal.splitlines() if line.endswith(b'"}')]
        return [event for event in found if name is None or event["event"] == name]


def bound_s(settings: Settings, servers: int) -> float:
    """Return how long a life may take at most, whatever the cloud does; computed before it begins.

    Every wait of the runbook ends by a time-out; this is their sum, for one server after another.
    """
    worst = 0.0
    for target in settings.targets:
        plan = target.reinstall
        stop = target.stop.soft_timeout_s + 300.0
        attempt = 3 * plan.timeout_s + 4 * plan.settle_s + stop
        each = (plan.attempts + 1) * attempt + 2 * target.verify.timeout_s + 1200.0 + stop
        # Every pair done, undone and done again, each undo three times; and the start of who is put back.
        hooks = sum(8 * pair.timeout_s + 60.0 for pair in target.hooks.around_server)
        worst = max(worst, each + target.verify.stable_for_s + hooks + 600.0 + plan.settle_s)
    return servers * worst + 2 * 1800.0 + 3600.0


def tell(story: Story, *, only: frozenset[str] | None = None) -> Told:
    """Tell *story* to its end. *only*: kinds of effects that are counted; None: all."""
    world = story.world()
    face = Face(world, faults=story.faults, base_url="http://127.0.0.1")
    told = Told(story, world, face)
    scene = Scene(
        face=face,
        settings=story.settings,
        user_data=story.user_data,
        seed=story.seed,
        hooks=story.hooks,
        seen=story.seen,
    )
    told.book = scene.book
    limit = bound_s(story.settings, len(story.servers))
    nights = _Nights(of_plan(story.settings), story.begins) if story.nightly else None
    if nights is not None:
        limit += sum(target.rollout.bake_s for target in story.settings.targets) * len(story.servers)
    rng = random.Random(story.seed ^ 0xD15C)
    person = story.person
    for number in range(MAX_LIVES + (MAX_NIGHTS if story.nightly else 0)):
        incidents = story.incidents[number] if number < len(story.incidents) else ()
        ending = Life(scene, incidents, bound_s=limit, only=only).play()
        told.endings.append(ending)
        if ending.crash == "killed":
            scene.disk.killed()
        elif ending.crash == "power-cut":
            scene.disk.power_cut(rng)
        if ending.defect is not None:
            told.violations.append(f"defect: {type(ending.defect).__name__}: {ending.defect}")
            break
        told.violations += ending.wrong
        if ending.was_settled:  # a finished run, resumed once more
            if ending.mutations and not ending.owed:
                told.violations.append(f"P15 {ending.mutations} calls by a finished run")
            if ending.crash is None:  # a power cut may take lines with it that were read and not yet certain
                break
        if nights is not None and ending.code is Exit.UNFINISHED:
            if (opens_s := nights.next_s(scene.now_s, ending.run)) is None:
                break
            scene.now_s = opens_s
            continue
        person, goes_on = _decide(scene, ending, person)
        if not goes_on:
            told.opened_nothing = "" if scene.disk.has_run else str(ending.error)
            break
        night_s = story.nights_s[min(number, len(story.nights_s) - 1)]
        # Who has read an error mends what it names first; a crash may be resumed at once.
        scene.now_s += night_s if ending.error is None else max(night_s, MENDING_S)
    else:
        told.violations.append(f"P7 not settled after {MAX_LIVES} lives")
    world.advance(scene.now_s + LATEST_S)
    _judge(told, scene)
    return told


@dataclass(slots=True)
class _Nights:
    """The openings of a plan's windows, for a run that goes on in each of them."""

    schedule: Schedule
    begins: datetime
    gone: int = 0
    idle: int = 0
    waiting: int = -1

    def next_s(self, now_s: float, run: Run | None) -> float | None:
        """Return when the next window opens, in the story's time; None: it would not help, or none does."""
        waiting = run.counts()[Phase.WAITING] if run is not None else 0
        self.idle = self.idle + 1 if waiting == self.waiting else 0
        self.waiting = waiting
        self.gone += 1
        if self.gone >= MAX_NIGHTS or self.idle >= IDLE_NIGHTS:
            return None
        now = self.begins.astimezone(UTC) + timedelta(seconds=now_s)
        starts = (span.start.astimezone(UTC) for span in self.schedule.openings(now))
        opens = next((start for start in starts if start > now), None)
        return None if opens is None else (opens - self.begins.astimezone(UTC)).total_seconds() + 1.0


def _decide(scene: Scene, ending: Ending, person: Person) -> tuple[Person, bool]:
    """Do what a person does after a life; say whether there is another one."""
    if ending.crash is not None or not scene.disk.has_run:
        # Cron tries again next night, unless the plan itself was refused.
        return person, ending.error is None or ending.error.exit_code is not Exit.USAGE
    if ending.error is not None or ending.run is None:
        return person, True
    run = ending.run
    if ending.code is Exit.APPROVAL:
        _approve(scene)
        return person, True
    if run.held is not None and not run.is_settled and run.in_flight == 0:
        if not person.releases:
            return person, False
        _write(scene, release=True)
        return Person(person.releases - 1, person.retries), True
    if run.is_settled and person.retries and run.counts()[Phase.FAILED]:
        _write(scene, release=False)
        return Person(person.releases, person.retries - 1), True
    return person, True


def _at_rest(scene: Scene) -> Recorder:
    """Open the journal of a run that nobody works on."""

    def now() -> datetime:
        return scene.face.world.calendar.epoch.astimezone(UTC) + timedelta(seconds=scene.now_s)

    return reopen(scene.disk, DiskSink(scene.disk), now)


def _approve(scene: Scene) -> None:
    """Let the wave begin that waits for a person."""
    recorder = _at_rest(scene)
    if (awaited := approval_awaited(recorder.run)) is not None:
        recorder.record(Approved(target=awaited[0], wave=awaited[1], reason="seen", by="rehearsal"))


def _write(scene: Scene, *, release: bool) -> None:
    """Write a person's decision into the journal of a run at rest."""
    recorder = _at_rest(scene)
    if release:
        recorder.record(RunReleased(reason="mended", by="rehearsal"))
        return
    for server in list(recorder.run.servers.values()):
        if server.phase is Phase.FAILED:
            recorder.record(Retried(server=server.id, reason="another try"))


def _judge(told: Told, scene: Scene) -> None:
    """Let the referee judge, and add what only the cloud and the story know."""
    world = told.world
    told.journal = bytes(scene.disk.data)
    record = [msgspec.json.decode(line) for line in world.ledger.lines()]
    if not scene.disk.has_run:
        touched = [entry for entry in record if entry["entry"] == "call"]
        if touched:
            told.violations.append(f"P16 {len(touched)} calls without a journal")
        return
    told.report = judge(told.journal, record)
    told.violations += told.report.violations
    try:
        told.run = reopen(scene.disk, DiskSink(scene.disk), lambda: world.calendar.epoch).run
    except JournalError as error:
        told.violations.append(f"P2 {error}")
        return
    _judge_availability(told, record)
    _judge_debts(told)
    if told.run.is_settled and not told.run.owes:
        ours = {event["key"] for event in told.events("Claimed")}
        left = [
            tag for server in world.servers.values() for tag in server.tags if tag.partition("=")[0] in ours
        ]
        told.report.checked["P18"] += 1
        if left:
            told.violations.append(f"P18 nothing is owed, and claims are left on servers: {left}")
    if told.run.in_flight:
        told.violations.append(f"P8 {told.run.in_flight} servers are left in flight")
    if told.endings and told.endings[-1].was_settled and not told.run.is_settled:
        told.violations.append("P8 the last life began settled and ended otherwise")


def _judge_debts(told: Told) -> None:
    """Hold what the hooks have done against what the journal says is owed."""
    assert told.run is not None  # noqa: S101 - the caller has read it
    told.violations += told.book.wrong
    for server in told.run.servers.values():
        done = set(told.book.done.get(server.id, ()))
        told.report.checked["P19"] += 1
        if forgotten := done - set(server.owed):
            told.violations.append(
                f"P19 {server.label} is left drained ({sorted(forgotten)}), nothing is owed"
            )
    owing = [server.label for server in told.run.servers.values() if server.owed]
    if owing and told.endings and told.endings[-1].code is Exit.OK:
        told.violations.append(f"P19 it ends well, and {owing} are owed something")


def _judge_availability(told: Told, record: list[dict[str, Any]]) -> None:
    """Count as the cloud counts: servers down at once, less those that others have put down."""
    effects = Counter(entry.get("effect") for entry in record)
    meddled = sum(
        1
        for order in told.story.faults
        if order.kind in {"stopped-by-other", "server-disappears", "locked-by-other", "false-idle"}
    )
    failed = sum(event["event"] == "Failed" for event in told.events("Failed"))
    # Targets that start at once are down together.
    together = any(target.needs == () for target in told.story.settings.targets)
    limit = (sum if together else max)(target.rollout.concurrency for target in told.story.settings.targets)
    allowed = limit + told.world.availability.at_start + failed + meddled
    told.report.checked["P4"] += 1
    if told.world.max_down > allowed:
        told.violations.append(
            f"P4 the cloud saw {told.world.max_down} down at once, {allowed} allowed; {dict(effects)}"
        )
