"""``rehearse --durations`` and ``--at``: how long things take, and when the rehearsal begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml
from pydantic_core import PydanticCustomError

from fleet import history
from fleet.cli.common import now
from fleet.cloud.simulator.settings import Durations
from fleet.core.forecast import ENOUGH, Kind
from fleet.core.settings import Settings
from fleet.core.windows import of_plan, spell
from fleet.errors import PlanError, Problem
from fleet.plan.fields import parse_duration
from fleet.rehearsal.durations import STEPS, as_seen, stated
from fleet.rehearsal.stories import Story
from fleet.runs import state_folder

_BUILT_IN = "built in: the middle of what the cloud's documents say, where preview takes the longest"


def lasting(story: Story, where: str | None, takes: str | None) -> tuple[Story, str]:
    """Return *story* with the durations that are wanted, and where they come from.

    Args:
        story: Its durations are the fleet file's, or the built-in ones.
        where: ``history``, ``stated``, or a file; None: earlier runs if there are enough of them.
        takes: How long a reinstall takes, as stated.

    Raises:
        PlanError: Something is no duration, or too few are known.
    """
    if takes is not None:
        if where not in {None, "stated"}:
            raise PlanError(
                Problem("--reinstall-takes states what --durations takes from elsewhere", "give one")
            )
        seconds = {"reinstall": _seconds(takes, "--reinstall-takes")}
        return _with(story, seconds), f"stated: a reinstall takes {takes}; the others {_BUILT_IN}"
    if where == "stated":
        if story.durations != Durations():
            return story, "stated in the fleet file"
        hint = "give --reinstall-takes 12m, or a file with `reinstall: 12m`"
        raise PlanError(Problem("no duration is stated", hint))
    if where is not None and where != "history":
        return _of_file(story, Path(where))
    plan = story.settings.plan
    seen = history.read(state_folder(), plan)
    if where is None and story.durations != Durations():
        return story, "stated in the fleet file"
    if len(seen) >= ENOUGH:
        return as_seen(story, seen), f"as {len(seen)} servers took in earlier runs of {plan}"
    if where == "history":
        raise PlanError(
            Problem(
                f"earlier runs of {plan} have seen {len(seen)} servers, {ENOUGH} are needed",
                "leave --durations out, or state them",
            )
        )
    return story, _BUILT_IN


def _with(story: Story, seconds: dict[str, float]) -> Story:
    return replace(story, durations=stated(story.durations, seconds))


def _of_file(story: Story, path: Path) -> tuple[Story, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = "`history`, `stated`, or a file with `reinstall: 12m`"
        raise PlanError(Problem(f"cannot be read: {error}", hint, file=str(path))) from error
    if text.lstrip().startswith("{"):
        seen: Sequence[tuple[Kind, float]] = history.parse(text)
        if len(seen) < ENOUGH:
            raise PlanError(Problem(f"has {len(seen)} durations, {ENOUGH} are needed", file=str(path)))
        return as_seen(story, seen), f"as {len(seen)} servers took by {path}"
    return _with(story, _mapping(text, str(path))), f"stated in {path}; the others {_BUILT_IN}"


def _mapping(text: str, file: str) -> dict[str, float]:
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise PlanError(Problem(f"is no YAML: {error}", file=file)) from error
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise PlanError(Problem("states no duration", "write `reinstall: 12m`", file=file))
    found: dict[str, float] = {}
    for key, value in root.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name not in STEPS:
            raise PlanError(
                Problem(f"'{name}' is no step", f"one of {', '.join(STEPS)}", file=file, line=line)
            )
        if name in found:
            raise PlanError(Problem(f"'{name}' is stated twice", file=file, line=line))
        if not isinstance(value, yaml.ScalarNode):
            raise PlanError(
                Problem("a duration was expected", "write 90s or 12m", file=file, line=line, path=name)
            )
        found[name] = _seconds(value.value, name, file, line)
    return found


def _seconds(text: str, path: str, file: str | None = None, line: int | None = None) -> float:
    try:
        seconds = parse_duration(text)
    except PydanticCustomError as error:
        context = error.context or {}
        problem = Problem(error.message(), context.get("hint"), file=file, line=line, path=path)
        raise PlanError(problem) from error
    if seconds <= 0:
        raise PlanError(
            Problem("this duration must be above 0", "write 90s or 12m", file=file, line=line, path=path)
        )
    return seconds


def begins(settings: Settings, at: str | None) -> tuple[datetime | None, str]:
    """Return when a rehearsal begins, and words about it; None: whenever, the plan has no windows.

    Raises:
        PlanError: *at* is no time.
    """
    schedule = of_plan(settings)
    if at is None and schedule.is_always_open:
        return None, ""
    wanted = _moment(settings, at) if at is not None else now()
    state = schedule.at(wanted)
    if state.closed is None:
        return wanted, f"it begins {spell(wanted)}" if at is not None or state.closes_at else ""
    if state.opens_at is None:
        return None, state.closed
    return state.opens_at, f"it begins when the window opens: {spell(state.opens_at)}"


def _moment(settings: Settings, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "write 2026-12-05T22:00, with +01:00 or in the zone of the first window"
        raise PlanError(Problem(f"'{text}' is no time", hint, path="--at")) from error
    if found.tzinfo is not None:
        return found
    zone = next((each.timezone for each in settings.windows if each.timezone), None)
    return found.replace(tzinfo=ZoneInfo(zone) if zone else UTC)
