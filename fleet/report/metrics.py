"""A run as metrics, in Prometheus's text format: for node_exporter's textfile collector and for ``/metrics``.

``docs/metrics.md`` lists every one of them, with alert rules. From the run and the clock alone; labels are
the plan's name and words of ours, so a series lives as long as the plan does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet import __version__
from fleet.core.rollout import approval_awaited
from fleet.core.settings import Settings
from fleet.core.silence import last_progress, nights_without_progress
from fleet.core.state import IN_FLIGHT, Phase, Run, owes_undoing
from fleet.core.windows import of_plan
from fleet.report.figures import counted

SUFFIX = ".prom"
"""Of files that node_exporter reads; a file that is still being written is not called so."""

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """One plan, and what is known of it besides its newest run.

    Attributes:
        run: Its newest run, or None: there is none yet.
        worked_on: Who works on the run at the moment, or None.
        code: What the last command of this plan ended with; None: not known, or it still runs.
        calls: Requests that the process has sent to the cloud so far, by kind.
        undelivered: Notifications that could not be delivered, or None: not known.
    """

    settings: Settings
    run: Run | None = None
    worked_on: str | None = None
    code: int | None = None
    calls: Mapping[str, int] | None = None
    undelivered: int | None = None


@dataclass(frozen=True, slots=True)
class _Sample:
    name: str
    help: str
    value: float
    labels: Labels
    kind: str = "gauge"


def metrics_text(
    run: Run,
    *,
    now: datetime,
    worked_on: str | None = None,
    code: int | None = None,
    calls: Mapping[str, int] | None = None,
    undelivered: int | None = None,
) -> str:
    """Return a run's metrics; for what the arguments mean see `Seen`."""
    return metrics_of([Seen(run.settings, run, worked_on, code, calls, undelivered)], now=now)


def metrics_of(plans: Sequence[Seen], *, now: datetime) -> str:
    """Return the metrics of several plans, those of one name together, as the format wants it."""
    families: dict[str, list[_Sample]] = {}
    for seen in plans:
        for sample in _samples(seen, now):
            families.setdefault(sample.name, []).append(sample)
    return "".join(line for samples in families.values() for line in _family(samples))


def _samples(seen: Seen, now: datetime) -> Iterator[_Sample]:
    one = _Maker({"plan": seen.settings.plan})
    yield one("metrics_timestamp_seconds", "When these metrics were made.", now)
    state = of_plan(seen.settings).at(now)
    yield one("window_open", "1 while servers may be started, by windows and frozen days.", not state.closed)
    if state.closes_at is not None:
        yield one("window_closes_timestamp_seconds", "When the open window closes.", state.closes_at)
    if state.opens_at is not None:
        yield one("next_window_opening_timestamp_seconds", "When the next window opens.", state.opens_at)
    if seen.code is not None:
        yield one("last_exit_code", "What the plan's last command ended with.", seen.code)
    if seen.undelivered is not None:
        yield one("notifications_undelivered", "Notifications that were not delivered.", seen.undelivered)
    for call, number in sorted((seen.calls or {}).items()):
        words = "Requests sent to the cloud by the process at work, by kind."
        yield one("requests_total", words, number, "counter", call=call)
    if seen.run is not None:
        yield from _of_run(one, seen.run, now, seen.worked_on)


def _of_run(one: _Maker, run: Run, now: datetime, worked_on: str | None) -> Iterator[_Sample]:
    words = "The plan's newest run."
    yield one("run_info", words, 1, run=run.id, cloud=run.opened.cloud, version=__version__)
    yield one("run_start_timestamp_seconds", "When the run was opened.", run.opened_at)
    yield one("run_alive", "1 while a process works on the run.", worked_on is not None)
    yield one("run_lives", "How many processes have worked on the run.", run.lives)
    yield one("run_settled", "1 when nobody waits and nobody is in flight.", run.is_settled)
    if run.finished_at is not None:
        yield one("run_finished_timestamp_seconds", "When everybody was settled.", run.finished_at)
    words = "1 unless the run's counts contradict each other: a defect of fleet."
    yield one("figures_add_up", words, counted(run)[0] is not None)
    phases = run.counts()
    for phase in Phase:
        yield one("servers", "Servers of the run by phase.", phases[phase], phase=str(phase))
    yield one("servers_in_flight", "Started and not settled.", sum(phases[each] for each in IN_FLIGHT))
    yield one("servers_in_doubt", "Asked to be reinstalled, answer unknown.", phases[Phase.REQUESTED])
    owing = sum(each.phase not in IN_FLIGHT and owes_undoing(each) for each in run.servers.values())
    yield one("servers_owed", "At rest, and drained or stopped by us: not given back.", owing)
    yield one("last_progress_timestamp_seconds", "When a server was last moved on.", last_progress(run))
    nights = nights_without_progress(run, now, over=worked_on is not None)
    yield one("nights_without_progress", "Nights (windows, or days) in which nothing was done.", nights)
    yield one("run_held", "1 while the run is held.", run.held is not None)
    if run.held_at is not None:
        yield one("run_held_since_timestamp_seconds", "Since when it is held.", run.held_at)
    yield one("groups_held", "Groups of servers that are held.", len(run.groups_held))
    awaited = approval_awaited(run)
    yield one("approval_awaited", "1 while a wave waits for `fleet approve`.", awaited is not None)
    if awaited is not None:
        settled_at = run.targets[awaited[0]].waves[awaited[1] - 1].settled_at
        if settled_at is not None:
            yield one("approval_awaited_since_timestamp_seconds", "Since when it waits.", settled_at)


class _Maker:
    """Makes samples of one plan."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def __call__(
        self, name: str, words: str, value: float | datetime, kind: str = "gauge", **more: str
    ) -> _Sample:
        number = value.timestamp() if isinstance(value, datetime) else value
        return _Sample(f"fleet_{name}", words, number, {**self._labels, **more}, kind)


def _family(samples: Sequence[_Sample]) -> Iterator[str]:
    first = samples[0]
    yield f"# HELP {first.name} {_escaped(first.help)}\n# TYPE {first.name} {first.kind}\n"
    for sample in samples:
        labels = ",".join(f'{name}="{_escaped(text, quotes=True)}"' for name, text in sample.labels.items())
        yield f"{sample.name}{{{labels}}} {_number(sample.value)}\n"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    """Return a number without an exponent: timestamps to the millisecond, counts as they are."""
    return str(int(value)) if value == int(value) else f"{value:.3f}"


def file_for(given: Path, plan: str) -> Path:
    """Return which file a plan's metrics go to: the one that is named, or one of its own in a folder."""
    return given / f"fleet-{plan}{SUFFIX}" if given.is_dir() else given


def write_metrics(path: Path, text: str) -> None:
    """Write a file as a whole or not at all. Everybody may read it: a collector is another user.

    Raises:
        OSError: It cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
