"""Who starts a plan on this machine: crontabs and systemd timers, as far as they can be read.

A plan's windows say when it may be worked on; whether anybody starts it then stands elsewhere. Nothing is run
but ``crontab -l`` and ``systemd-analyze calendar``. Of what is found only schedule and place are told: a line
of a crontab may have a password in it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from fleet.core.cron import FIELDS, Cron, parse_cron
from fleet.core.windows import Span

PATIENCE_S = 5.0
"""For a command that prints some lines."""

_CRON_TZ = "CRON_TZ="
_ASSIGNS = re.compile(r"\s*([A-Za-z_]\w*|\"[^\"]*\"|'[^']*')\s*=\s*(.*)")
_NEXT = re.compile(r"(?:Next elapse|\(in UTC\)): \w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")
_UNITS = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")
"""Folders of units, the weakest first."""


class Starter(Protocol):
    """Something that starts a plan.

    Attributes:
        place: Where it stands.
        words: Its schedule, as it is written.
        zone: In which it is meant.
    """

    @property
    def place(self) -> str: ...  # noqa: D102 - see above

    @property
    def words(self) -> str: ...  # noqa: D102 - see above

    @property
    def zone(self) -> tzinfo: ...  # noqa: D102 - see above

    def first(self, span: Span) -> datetime | None:
        """Return when it first starts within a time, or None."""
        ...


@dataclass(frozen=True, slots=True)
class CronStarter:
    """A line of a crontab, in the time zone that cron goes by."""

    place: str
    schedule: Cron
    zone: tzinfo

    @property
    def words(self) -> str:
        """Its five fields."""
        return self.schedule.words

    def first(self, span: Span) -> datetime | None:
        """Return when it first starts within a time."""
        return next(self.schedule.starts(span, self.zone), None)


@dataclass(frozen=True, slots=True)
class TimerStarter:
    """A timer of systemd, whose calendar systemd itself reads."""

    place: str
    calendars: tuple[str, ...]
    zone: tzinfo

    @property
    def words(self) -> str:
        """Its ``OnCalendar=``."""
        return ", ".join(self.calendars)

    def first(self, span: Span) -> datetime | None:
        """Return when it first starts within a time."""
        found = [each for words in self.calendars if (each := self._next(words, span.start)) is not None]
        first = min(found, default=None)
        return first.astimezone(self.zone) if first and first < span.end.astimezone(UTC) else None

    def unread(self) -> str | None:
        """Return a calendar that systemd cannot tell us about: an old one does not know the question."""
        now = datetime.now(UTC)
        return next((words for words in self.calendars if self._asked(words, now) is None), None)

    def _next(self, words: str, begin: datetime) -> datetime | None:
        found = _NEXT.search(self._asked(words, begin) or "")
        return datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None

    def _asked(self, words: str, begin: datetime) -> str | None:
        base = begin.astimezone(UTC) - timedelta(seconds=1)
        argv = ("systemd-analyze", "calendar", f"--base-time={base:%Y-%m-%d %H:%M:%S} UTC", words)
        return _said(*argv, zone=getattr(self.zone, "key", None))


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: who starts the plan, where was looked, and what was there and not understood."""

    starters: tuple[Starter, ...]
    looked: tuple[str, ...]
    odd: tuple[str, ...]


def given(words: str, root: Path = Path("/")) -> CronStarter:
    """Return the starter of an expression, in cron's local time unless ``CRON_TZ=…`` stands before it.

    Raises:
        ValueError: It is not understood.
    """
    zone = local_zone(root)
    if words.startswith(_CRON_TZ):
        name, _, words = words.removeprefix(_CRON_TZ).partition(" ")
        zone = _zone(name)
    return CronStarter("--cron", parse_cron(words), zone)


def local_zone(root: Path = Path("/")) -> tzinfo:
    """Return the zone of this machine, by which cron goes; not that of ``TZ``, which cron does not see."""
    place = root / "etc/localtime"
    with contextlib.suppress(OSError, ValueError, KeyError):
        name = os.path.realpath(place).partition("zoneinfo/")[2]
        if name:
            return ZoneInfo(name)
        with place.open("rb") as file:
            return ZoneInfo.from_file(file)
    return ZoneInfo("UTC")


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"CRON_TZ: {name!r} is no time zone") from error


def find(plan: Path, name: str, root: Path = Path("/")) -> Found:
    """Look through crontabs and timers for those that start a plan.

    Args:
        plan: Its file.
        name: Its name, which `resume` may be given.
        root: Where ``/etc`` and the others are.
    """
    look = _Look(plan, name, root)
    look.crontabs()
    look.timers()
    return Found(tuple(look.found), tuple(look.looked), tuple(look.odd))


class _Look:
    def __init__(self, plan: Path, name: str, root: Path) -> None:
        self._plan, self._name, self._root = plan, name, root
        self._zone = local_zone(root)
        self.found: list[Starter] = []
        self.looked: list[str] = []
        self.odd: list[str] = []

    # -- cron ---------------------------------------------------------------------------------------

    def crontabs(self) -> None:
        """Read the user's own crontab, the machine's, and those of all users where one may."""
        if (said := _said("crontab", "-l")) is not None:
            self.looked.append("crontab -l")
            self._crontab("your crontab", said, user=False)
        self._file(self._root / "etc/crontab", user=True)
        for file in _files(self._root / "etc/cron.d"):
            if "." in file.name:
                if self._starts_it_somewhere(file):
                    self.odd.append(f"{file}: Debian's cron reads no file with a dot in its name")
                continue
            self._file(file, user=True)
        if os.geteuid() == 0:
            for folder in ("var/spool/cron/crontabs", "var/spool/cron"):
                for file in _files(self._root / folder):
                    self._file(file, user=False)

    def _starts_it_somewhere(self, file: Path) -> bool:
        return any(self._starts_it(line) for line in (_read(file) or "").splitlines())

    def _file(self, file: Path, *, user: bool) -> None:
        if (text := _read(file)) is not None:
            self.looked.append(str(file))
            self._crontab(str(file), text, user=user)

    def _crontab(self, place: str, text: str, *, user: bool) -> None:
        zone: tzinfo = self._zone
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if assigned := _ASSIGNS.fullmatch(line):
                if assigned[1].strip("'\"") == "CRON_TZ":
                    zone = self._zone_of(f"{place}, line {number}", assigned[2].strip().strip("'\"")) or zone
                continue
            fields = 1 if line.lstrip().startswith("@") else FIELDS
            words = line.split(maxsplit=fields + user)
            if len(words) <= fields + user or not self._starts_it(_command(words[-1])):
                continue
            schedule = " ".join(words[:fields])
            try:
                starter = CronStarter(f"{place}, line {number}", parse_cron(schedule), zone)
            except ValueError as error:
                why = "starts it when the machine does" if schedule == "@reboot" else str(error)
                self.odd.append(f"{place}, line {number}: {why}")
            else:
                if starter not in self.found:  # root's own crontab is also among those of all users
                    self.found.append(starter)

    def _zone_of(self, place: str, name: str) -> tzinfo | None:
        try:
            return _zone(name)
        except ValueError as error:
            self.odd.append(f"{place}: {error}")
            return None

    # -- systemd ------------------------------------------------------------------------------------

    def timers(self) -> None:
        """Read timers, with what overrides them, and the services that they start."""
        if shutil.which("systemd-analyze") is None:
            return
        folders = [self._root / folder / kind for kind in ("system", "user") for folder in _UNITS]
        if self._root == Path("/"):
            folders.append(Path(os.path.expanduser("~")) / ".config/systemd/user")  # noqa: PTH111 - raises nothing
        folders = [folder for folder in folders if os.access(folder, os.R_OK | os.X_OK)]
        self.looked.append("systemd timers")
        names = {file.name for folder in folders for file in folder.glob("*.timer")}
        names |= {file.name for folder in folders for file in folder.glob("*.wants/*.timer")}
        for name in sorted(names):
            timer = list(_settings(name, folders))
            service = _last(timer, "Unit") or f"{name.removesuffix('.timer')}.service"
            calendars = _listed(timer, "OnCalendar")
            starts = [
                _filled(each, service) for each in _listed(list(_settings(service, folders)), "ExecStart")
            ]
            if not any(self._starts_it(each) for each in starts):
                continue
            if not any(True for folder in folders for _ in folder.glob(f"*.wants/{name}")):
                self.odd.append(f"{name}: it is not enabled (systemctl enable --now {name})")
            elif not calendars:
                self.odd.append(f"{name}: it has no OnCalendar")
            else:
                timer_starter = TimerStarter(name, tuple(calendars), self._zone)
                if (words := timer_starter.unread()) is not None:
                    self.odd.append(f"{name}: systemd-analyze does not say when {words!r} is")
                else:
                    self.found.append(timer_starter)

    # -- whose command ------------------------------------------------------------------------------

    def _starts_it(self, command: str) -> bool:
        """Tell whether a command of a shell runs or resumes the plan."""
        words = _words(command)
        for number, word in enumerate(words):
            if Path(word).name != "fleet":
                continue
            rest = words[number + 1 :]
            if "run" in rest and any(self._is_plan(each) for each in rest[rest.index("run") + 1 :]):
                return True
            if "resume" in rest and any(
                each.startswith(self._name) for each in rest[rest.index("resume") + 1 :]
            ):
                return True
        return False

    def _is_plan(self, word: str) -> bool:
        path = Path(word)
        if path.name != self._plan.name or "\0" in word:
            return False
        return not path.is_absolute() or os.path.realpath(path) == os.path.realpath(self._plan)


def _words(command: str) -> list[str]:
    reader = shlex.shlex(command, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    try:
        return list(reader)
    except ValueError:  # a quote that is not closed
        return command.split()


def _command(line: str) -> str:
    r"""Return a crontab's command without its input: what stands after a ``%`` that is not ``\%``."""
    return re.split(r"(?<!\\)%", line)[0].replace("\\%", "%")


def _said(*argv: str, zone: str | None = None) -> str | None:
    """Return what a command prints, with local times of a zone; None where there is none, or it fails."""
    program = shutil.which(argv[0])
    if program is None:
        return None
    keep = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "USER", "LOGNAME"}}
    try:
        done = subprocess.run(  # noqa: S603 - two programs of the system, with words of ours and of its files
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=keep | {"LC_ALL": "C"} | ({"TZ": zone} if zone else {}),
            timeout=PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def _read(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return None


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError:
        return []


_Settings = list[tuple[str, str]]


def _settings(unit: str, folders: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Yield the settings of a unit, those of a template where it is an instance, then what overrides them."""
    template = re.sub(r"@.*\.", "@.", unit)
    names = dict.fromkeys((template, unit))
    files = [file for folder in folders for name in names if (file := folder / name).is_file()]
    dropins = [
        each for folder in folders for name in names for each in sorted((folder / f"{name}.d").glob("*.conf"))
    ]
    for file in files[-1:] + dropins:
        for line in (_read(file) or "").replace("\\\n", " ").splitlines():
            key, sign, value = line.partition("=")
            if sign and not line.lstrip().startswith(("#", ";")):
                yield key.strip(), value.strip()


def _listed(settings: _Settings, key: str) -> list[str]:
    """Return a setting that may be given several times; an empty one takes back those before it."""
    found: list[str] = []
    for name, value in settings:
        if name == key:
            found = [*found, value] if value else []
    return found


def _last(settings: _Settings, key: str) -> str:
    return next((value for name, value in reversed(settings) if name == key), "")


def _filled(command: str, unit: str) -> str:
    """Put a template's instance where its command has ``%i`` or ``%I``."""
    instance = unit.partition("@")[2].removesuffix(".service")
    return command.replace("%i", instance).replace("%I", instance)
