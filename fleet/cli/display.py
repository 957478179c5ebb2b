"""How a life of a run is shown: live on a terminal, else in lines of a log with a heartbeat."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import click

from fleet import history, logs
from fleet.cli.common import is_terminal, name_of
from fleet.clock import Clock
from fleet.cloud.api import Cloud
from fleet.logfile import LogFile
from fleet.report.ahead import Horizon
from fleet.report.beside import HEARTBEAT_S, Beside
from fleet.report.glance import Eye
from fleet.report.meter import Meter
from fleet.report.pulse import Pulse
from fleet.runs import state_folder

heartbeat_option = click.option(
    "--heartbeat",
    type=click.FloatRange(0),
    default=HEARTBEAT_S / 60,
    show_default=True,
    metavar="MINUTES",
    help="Without a live display: a line that says where the run stands, this often; 0: none.",
)


def configure_logs(style: str, *, quiet: bool, file: LogFile | None = None) -> bool:
    """Set the log up, in *file* too; return whether a live display is wanted."""
    if style == "auto":
        style = "live" if is_terminal() and not quiet else "json"
    live = style == "live"
    level = logging.WARNING if quiet or live else logging.INFO
    logs.configure(as_json=style == "json", level=level, file=file, passing=not quiet)
    return live


@asynccontextmanager
async def displayed(
    pulse: Pulse, journal: Path, cloud: Cloud, clock: Clock, *, live: bool, heartbeat_min: float, kept: bool
) -> AsyncIterator[None]:
    """Show a run as long as the block works on it, in which *pulse* hears of every event.

    A heartbeat is for those who read a log: one that is shown, or *kept* in a file.
    """
    run = pulse.run
    eye = Eye(
        pulse, Horizon(pulse, history.read(state_folder(), run.settings.plan)), name_of(journal, run.id)
    )
    meter = Meter(cloud, run.settings.cloud.requests_per_second)
    with ExitStack() as stack:
        show = None
        if live:
            from fleet.report.screen import Screen  # noqa: PLC0415 - rich only where somebody looks

            show = stack.enter_context(Screen(sys.stderr, mine=True)).show
        heartbeat_s = 0.0 if live and not kept else heartbeat_min * 60
        beside = Beside(eye, meter, journal, clock.now, show, heartbeat_s=heartbeat_s)
        async with beside.going_on():
            yield
