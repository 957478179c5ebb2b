"""What is told of a plan besides the log: notifications, and a file of metrics. Neither fails a command."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fleet import history, runs
from fleet.cli.common import name_of, now, say
from fleet.clock import cancel_all
from fleet.cloud.api import Cloud
from fleet.core import events as ev
from fleet.core.drift import drift
from fleet.core.events import Event
from fleet.core.forecast import Kind
from fleet.core.rollout import approval_awaited
from fleet.core.settings import Settings
from fleet.core.state import Phase, Run
from fleet.errors import Exit, FleetError
from fleet.journal import load
from fleet.logs import get_logger
from fleet.notify import PAUSES, Courier, Message
from fleet.report.metrics import Seen, file_for, metrics_of, write_metrics
from fleet.report.notice_forms import FORMS, Form, as_data
from fleet.report.notices import Moment, Notice, due
from fleet.secrets import redact, resolve
from fleet.told import Told, told_path

WRITE_S = 15.0
"""How often metrics are written while a run goes on: as often as Prometheus usually reads."""

LOOK_S = 60.0
"""How often it is looked whether a night is over without anything having moved."""

PATIENCE_S = 2.0
"""So long nobody wonders why a command has not ended."""

HERE = "standard error"
"""As a destination."""

FEW = 200
"""Servers of a run, where to list them costs a call for each."""

_TELLING = (ev.RunResumed, ev.RunHeld, ev.GroupHeld, ev.Failed, ev.WentBad, ev.RunFinished)
"""Events after which there is something to tell."""

_SETTLING = (ev.Verified, ev.Skipped, ev.WaveBaked)
"""Events after which a wave may wait for a person."""


class Telling:
    """One command's share in telling.

    Args:
        settings: The plan.
        state: The state folder.
        metrics: Where metrics go, a file or a folder; None: nowhere.
        scheduled: Nobody sits there.
    """

    def __init__(self, settings: Settings, state: Path, metrics: Path | None, *, scheduled: bool) -> None:
        self._settings = settings
        self._state = state
        self._metrics = metrics
        self._scheduled = scheduled
        self._told = Told(told_path(state, settings.plan))
        self._began = now()
        self._before = self._told.called_at
        self._run: Run | None = None
        self._journal: Path | None = None
        self._cloud: Cloud | None = None
        self._working = False
        self._code: int | None = None
        self._why = ""
        self._couriers: list[Courier] = []
        self._wrong_metrics = ""
        self._took: Sequence[tuple[Kind, float]] = ()
        self._log = _Talk()

    def about(self, run: Run, journal: Path) -> None:
        """Say which run it is about, as it was before anything was done in this command."""
        self._run, self._journal = run, journal
        self._before = max(self._before or run.last_at, run.last_at)

    async def through(self, work: Coroutine[None, None, int]) -> int:
        """Do a command's work, then tell how it ended."""
        try:
            code = await work
        except FleetError as error:
            await self._end(error.exit_code, error.message)
            raise
        except Exception as error:
            await self._end(Exit.DEFECT, f"a defect of fleet ({type(error).__name__})")
            raise
        await self._end(code, "")
        return code

    @contextlib.asynccontextmanager
    async def while_working(self, run: Run, journal: Path, cloud: Cloud) -> AsyncIterator[None]:
        """Tell while a life of a run goes on."""
        self._run, self._journal = run, journal
        self._settings = run.settings  # it may have been edited
        self._took = history.read(self._state, run.settings.plan)
        self._cloud, self._working, self._log = cloud, True, _Log()
        self._start()
        tasks = {asyncio.create_task(self._look_at_times(), name="notify")}
        if self._metrics is not None:
            tasks.add(asyncio.create_task(self._write_at_times(), name="metrics"))
        if run.lives > 1 and run.counts()[Phase.WAITING]:
            tasks.add(asyncio.create_task(self._look_for_drift(run, cloud), name="drift"))
        try:
            yield
        finally:
            await cancel_all(tasks)
            self._log = _Talk()

    def hear(self, event: Event, at: datetime) -> None:
        """Listen to the run's facts."""
        del at
        run = self._run
        if isinstance(event, _TELLING) or (
            isinstance(event, _SETTLING) and run is not None and approval_awaited(run) is not None
        ):
            self._look()

    async def _look_for_drift(self, run: Run, cloud: Cloud) -> None:
        """Say how the cloud's list has moved since the run was opened. Beside the work, which does not wait.

        Where a list costs a call for each server (OpenStack), a long one is not asked for.
        """
        if run.settings.cloud.provider == "openstack" and len(run.servers) > FEW:
            return
        waiting = [each for each in run.servers.values() if each.phase is Phase.WAITING]
        try:
            words = drift(run, await cloud.servers(), waiting, now())
        except FleetError:  # whoever works on servers meets it as well, and says so
            return
        logger = get_logger().bind(run=run.id)
        for line in words:
            logger.warning("ListDrifted", what=line)
        if not words:
            logger.info("ListUnchanged", since=run.opened_at)

    # -- notifications ------------------------------------------------------------------------------

    def _start(self) -> None:
        """Begin to deliver. URLs that hooks and checks could show are known, and blacked out, from now on."""
        if self._couriers or not self._settings.notify:
            return
        for notify in self._settings.notify:
            if notify.webhook is not None and notify.webhook.command is None:
                with contextlib.suppress(FleetError):  # said when something is to be delivered
                    resolve(notify.webhook)
        for notify in self._settings.notify:
            form = FORMS[notify.format] if notify.webhook else FORMS["json"]
            self._couriers.append(
                Courier(
                    notify,
                    due=lambda told, form=form: [self._message(each, form) for each in self._due(told)],  # type: ignore[misc]  # a lambda that binds its loop variable
                    told=self._told,
                    folder=self._settings.folder,
                    log=self._log_of,
                )
            )
        self._look()

    def _look(self) -> None:
        for courier in self._couriers:
            courier.look()

    async def _look_at_times(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._look()

    def _due(self, told: set[str]) -> list[Notice]:
        moment = Moment(
            now=now(),
            began=self._began,
            working=self._working,
            code=self._code,
            why=redact(self._why),
            before=self._before,
            scheduled=self._scheduled,
            seen=self._took,
        )
        return due(self._run, self._settings, moment, told)

    def _message(self, notice: Notice, form: Form) -> Message:
        run = self._run
        name = name_of(self._journal, run.id) if run and self._journal else ""
        goes_on = self._working and self._code is None
        data = as_data(notice, run, self._settings, at=now(), name=name, working=goes_on)
        return Message(notice.keys, notice.event, notice.title, data, form(data))

    def _log_of(self, to: str, message: Message, why: str | None) -> None:
        self._log.tell(to, message, why)

    # -- metrics ------------------------------------------------------------------------------------

    async def _write_at_times(self) -> None:
        while True:
            await self._write()
            await asyncio.sleep(WRITE_S)

    async def _write(self) -> None:
        if self._metrics is None:
            return
        seen = Seen(
            self._settings,
            self._run,
            worked_on="this process" if self._working and self._code is None else None,
            code=self._code,
            calls=self._cloud.calls() if self._cloud else None,
            undelivered=len(self._told.failures()) if self._settings.notify else None,
        )
        text = metrics_of([seen], now=now())
        try:
            await asyncio.to_thread(write_metrics, file_for(self._metrics, self._settings.plan), text)
        except OSError as error:
            wrong = f"cannot write metrics to {self._metrics}: {error.strerror or error}"
            if wrong != self._wrong_metrics:
                say(f"warning: {wrong}")
            self._wrong_metrics = wrong

    # -- the end ------------------------------------------------------------------------------------

    def _find_run(self) -> None:
        """Take the plan's newest run, where the command did not come so far as to look for one."""
        with contextlib.suppress(FleetError):
            filed = runs.journals_of(self._state, self._settings.plan)
            if filed and not runs.is_stillborn(filed[0].journal):
                self.about(load(filed[0].journal)[0], filed[0].journal)

    def _say_silence(self) -> None:
        """Say once that a night brought nothing, or was missed. Cron makes a mail of it."""
        for notice in self._due(self._told.keys(HERE)):
            if notice.event in {"no-progress", "window-missed"}:
                say(f"warning: {notice.title}")
                self._told.deliver(HERE, notice.keys, now())

    async def _end(self, code: int, why: str) -> None:
        self._code, self._why = code, why
        if self._run is None and code in {Exit.LOCKED, Exit.CLOUD}:
            self._find_run()
        self._say_silence()
        if self._settings.notify:
            self._start()
            closing = asyncio.gather(*(courier.close() for courier in self._couriers))
            if not (await asyncio.wait({closing}, timeout=PATIENCE_S))[0] and sys.stderr.isatty():
                say(f"not everybody who is notified can be reached; trying for {PAUSES.linger_s:.0f} s")
            await closing
            # What is not so any more is not told any more: it is no failure to have kept it back.
            still = {key for notice in self._due(set()) for key in notice.keys}
            self._told.forget({str(notify) for notify in self._settings.notify}, still)
        if code != Exit.LOCKED:  # the process that works on the run writes, and calls, for itself
            self._told.called(self._began.astimezone(UTC), code)
            await self._write()


class _Talk:
    """Says what was not delivered, to whoever gave the command."""

    def tell(self, to: str, message: Message, why: str | None) -> None:
        if why is not None:
            say(f"warning: not delivered to {to}: {message.event}: {why}")


class _Log(_Talk):
    """Logs what was delivered and what was not."""

    def tell(self, to: str, message: Message, why: str | None) -> None:
        logger = get_logger()
        if why is None:
            logger.info("Notified", to=to, notice=message.event, title=message.title)
        else:
            logger.warning("NotDelivered", to=to, notice=message.event, title=message.title, why=why)
