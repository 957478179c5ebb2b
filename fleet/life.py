"""One life of a run: from a locked journal to an exit code, with signals, logs and a display.

Which run, new or old, is decided before (`fleet.cli.run`); what is done to servers is decided behind
(`fleet.engine`). Here is what surrounds it in a real process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet import history
from fleet.checks import NetworkChecker
from fleet.claims import Claim, claim_servers, half_done_of
from fleet.clock import Clock
from fleet.cloud.api import Cloud
from fleet.control import Control
from fleet.core.edits import edits
from fleet.core.events import Event, FreezeOverridden, RunDrained, RunHeld, RunOpened, RunResumed, Skipped
from fleet.core.forecast import Forecast, Kind
from fleet.core.model import Identity, ServerId
from fleet.core.settings import Settings
from fleet.core.settling import settling
from fleet.core.state import SETTLED, Phase, Run
from fleet.engine import Engine
from fleet.errors import Exit, FleetError, JournalError, PlanError, Problem
from fleet.hooks import CommandHooks
from fleet.journal import Journal, Listener, Recorder, Tail
from fleet.logs import get_logger
from fleet.machine import machine_of
from fleet.orders import Orders
from fleet.outlook import Outlook
from fleet.runs import keep_files, keep_link, make_folder, state_folder
from fleet.steering import Order, carry_out
from fleet.systemd import notify, tell_systemd
from fleet.whereami import own_server_ids, whoami

_SIGNALS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED, signal.SIGHUP: Exit.TERMINATED}


@dataclass(frozen=True, slots=True)
class Life:
    """What a life works with, secrets included; made by `open_run` or `resume_run`."""

    recorder: Recorder
    claim: Claim
    cloud: Cloud
    orders: Orders

    @property
    def run(self) -> Run:
        """The run."""
        return self.recorder.run

    def close(self) -> None:
        """Let go of the journal, and of the servers that are not left half done."""
        self.recorder.journal.close()
        self.claim.release(half_done_of(self.run))


def open_run(
    opened: RunOpened,
    skipped: Mapping[ServerId, str],
    *,
    journal: Path,
    state: Path,
    clock: Clock,
    cloud: Cloud,
    orders: Orders,
    user_data: Mapping[str, bytes],
) -> Life:
    """Claim the servers and write the first lines of a new run.

    Raises:
        LockedError: Another live run has one of the servers, or a dead one has left one half done.
        JournalError: It cannot be written. Nothing was touched.
    """
    make_folder(journal.parent)
    wanted = [member.id for member in opened.members if member.id not in skipped]
    claim = claim_servers(state, opened.run, wanted, journal=journal, begun=False)
    try:
        keep_link(state, opened.run, journal)
        keep_files(journal, user_data)
        book = Journal.create(journal)
        at = clock.now()
        try:
            book.append(opened, at)
        except JournalError:
            journal.unlink(missing_ok=True)  # a run that has not even begun needs no journal
            raise
        claim.begun()
        run = Run(opened, at)
    except BaseException:
        claim.release()
        raise
    recorder = Recorder(run, book, clock.now)
    for server, reason in skipped.items():
        recorder.record(Skipped(server=server, reason=reason))
    return Life(recorder, claim, cloud, orders)


def check_edit(run: Run, edited: Settings | None) -> tuple[str, ...]:
    """Return what an edited plan changes, in words.

    Raises:
        PlanError: It changes who is reinstalled, or with what.
    """
    if edited is None:
        return ()
    fixed, pacing = edits(run.settings, edited)
    if fixed:
        raise PlanError(
            *(
                Problem(
                    f"the plan was edited since run {run.id} was opened: {change}",
                    hint="who is reinstalled and with what is fixed for a run; undo the edit, or finish the "
                    "run with `fleet resume` first (`fleet skip` takes servers out of it)",
                )
                for change in fixed
            )
        )
    return tuple(pacing)


def is_from(run: Run, identity: Identity) -> bool:
    """Tell whether a run was opened on the cloud and project of this login."""
    return (identity.project_id, identity.cloud) == (run.opened.project, run.opened.cloud)


def check_identity(run: Run, identity: Identity) -> None:
    """Refuse to go on with a run on another cloud or project than the one it was opened on.

    Raises:
        PlanError: It is another one.
    """
    if not is_from(run, identity):
        raise PlanError(
            Problem(
                f"run {run.id} was opened on {run.opened.cloud} (project {run.opened.project}), "
                f"and this login is for {identity.cloud} (project {identity.project_id})",
                hint="log in to the cloud that the run belongs to",
            )
        )


def resume_run(
    run: Run,
    tail: Tail,
    *,
    journal: Path,
    state: Path,
    clock: Clock,
    cloud: Cloud,
    orders: Orders,
    edited: Settings | None = None,
) -> Life:
    """Claim the servers of an old run that are not settled, and write that a new life goes on with it.

    Raises:
        LockedError, JournalError: As `open_run`.
    """
    changes = check_edit(run, edited)
    unsettled = [server.id for server in run.servers.values() if server.phase not in SETTLED]
    claim = claim_servers(state, run.id, unsettled, journal=journal)
    try:
        keep_link(state, run.id, journal)
        book = Journal.reopen(journal, tail)
    except BaseException:
        claim.release(half_done_of(run))
        raise
    recorder = Recorder(run, book, clock.now)
    recorder.record(
        RunResumed(
            host=socket.gethostname(),
            pid=os.getpid(),
            settings=edited if edited != run.settings else None,
            changes=changes,
        )
    )
    return Life(recorder, claim, cloud, orders)


async def live(
    life: Life,
    *,
    clock: Clock,
    listeners: tuple[Listener, ...] = (),
    patient: bool = False,
    override_freeze: str | None = None,
) -> Exit:
    """Work until nothing is left to do, or until a signal or an order says so.

    The first SIGINT, SIGTERM or SIGHUP drains, the second stops at once.

    Args:
        life: From `open_run` or `resume_run`.
        clock: The wall's time.
        listeners: Hear of every fact.
        patient: Wait for windows and approvals instead of ending.
        override_freeze: Why frozen days do not count, or None: they do.
    """
    state = state_folder()
    seen = history.read(state, life.run.settings.plan)
    life.recorder.listeners = (*listeners, tell_systemd(life.run), _tell_when_settled(life.run, seen))
    slots = machine_of(state)
    if override_freeze is not None:
        life.recorder.record(FreezeOverridden(reason=override_freeze, by=whoami()))
    verified = frozenset(each.id for each in life.run.servers.values() if each.phase is Phase.VERIFIED)
    outlook = Outlook(life.run.settings, clock, Forecast(seen), override=override_freeze)
    engine = Engine(
        life.recorder,
        cloud=life.cloud,
        clock=clock,
        checker=NetworkChecker(life.run.settings.folder),
        order=life.orders,
        own_ids=own_server_ids(),
        outlook=outlook,
        patient=patient,
        slots=slots,
        hooks=CommandHooks(life.run.settings.folder, life.recorder.journal.path),
    )
    control = await _listen(life, engine, lambda: settling(life.run, clock.now(), seen).words(clock.now()))
    try:
        with _signals(engine) as signals:
            async with outlook:
                code = await engine.work()
    finally:
        notify("STOPPING=1")
        history.keep(state, life.run, verified)
        await control.close()
        slots.close()
    return _SIGNALS[signals[-1]] if code is Exit.INTERRUPTED and signals else code


def _tell_when_settled(run: Run, seen: Sequence[tuple[Kind, float]]) -> Listener:
    """Return a listener that logs, once nothing more is started, when those in flight settle."""

    def listen(event: Event, at: datetime) -> None:
        if isinstance(event, RunHeld | RunDrained) and run.in_flight:
            get_logger().info("Settling", run=run.id, what=settling(run, at, seen).words(at))

    return listen


async def _listen(life: Life, engine: Engine, promise: Callable[[], str]) -> Control:
    """Carry out what other shells ask for; the engine hears of it at once."""

    def change(order: Order) -> str:
        if order.verb == "drain":
            engine.drain(f"{order.reason} ({order.by})")
            return f"run {engine.run.id} is drained; {promise()}"
        done = engine.steer(lambda run, record: carry_out(run, record, order))
        return f"{done}; {promise()}" if order.verb == "hold" else done

    control = Control(life.recorder.journal.path, life.run.id, change)
    try:
        await control.open()
    except FleetError as error:  # a night is not lost for it: signals still work
        get_logger().warning(str(error), run=life.run.id)
    return control


@contextlib.contextmanager
def _signals(engine: Engine) -> Iterator[list[signal.Signals]]:
    loop = asyncio.get_running_loop()
    seen: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        seen.append(number)
        if len(seen) == 1:
            engine.drain(number.name)
        else:
            engine.stop_now()

    # What we were told to ignore stays ignored: `nohup fleet run …` is to survive the terminal.
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heeded:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield seen
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)
