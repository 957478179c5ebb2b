"""What a shell is offered for RUN, SERVERS and the like: from the state folder alone; the cloud is not asked.

Somebody waits with a finger on the key: the journal of one run is read, and of a large one its first line.
Whatever goes wrong, nothing is offered and nothing is said: the command itself will say it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
from click.shell_completion import CompletionItem

from fleet.core.state import IN_FLIGHT, Phase, ServerState, owes
from fleet.journal import load
from fleet.runs import find, journals, journals_of, state_folder

LARGE = 8 << 20
"""Bytes of a journal that is not read to its end: that takes a second, and then everybody is offered."""

_PLAIN = re.compile(r"\w[\w.@+-]*")
"""A name that no shell splits or reads in its own way. A server of another name is offered by its id."""

_NAME = re.compile(r"^name:\s*[\"']?([a-z0-9-]+)", re.MULTILINE)
_WIDE = 60

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class _Member(msgspec.Struct):
    """As much of a server of a first line as has to be typed."""

    id: str
    name: str
    target: str


class _First(msgspec.Struct):
    """As much of a first line."""

    members: list[_Member]


def complete_run(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer runs, the newest first."""
    with contextlib.suppress(Exception):
        names = [filed.run for filed in journals(state_folder())]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []


def _before(ctx: click.Context, argument: str) -> str | None:
    """Return an argument that stands before; behind an option without its value click has not assigned it."""
    return ctx.params.get(argument) or next(iter(ctx.args), None)


def _words(id_: str, name: str) -> str:
    return name if _PLAIN.fullmatch(name) else id_


def _of_first_line(journal: Path) -> list[_Member]:
    with journal.open("rb") as file:
        return msgspec.json.decode(file.readline(), type=_First).members


def _servers(journal: Path, wanted: Callable[[ServerState], bool]) -> Iterator[tuple[str, str | None]]:
    """Yield those that are wanted, with a word on each."""
    if journal.stat().st_size > LARGE:
        for member in _of_first_line(journal):
            yield _words(member.id, member.name), None
        return
    run, _ = load(journal)
    for server in run.servers.values():
        if wanted(server):
            yield _words(server.id, server.member.name), _about(server)


def _about(server: ServerState) -> str:
    said = f"{server.phase}: {server.reason}" if server.reason else str(server.phase)
    said = " ".join("".join(char if char.isprintable() else " " for char in said).split())
    return said if len(said) <= _WIDE else f"{said[: _WIDE - 1]}…"


def _completing(wanted: Callable[[ServerState], bool]) -> Complete:
    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        with contextlib.suppress(Exception):
            given = set(ctx.params.get("servers") or ())
            found = _servers(find(_before(ctx, "run"), state_folder()), wanted)
            return [
                CompletionItem(name, help=about)
                for name, about in found
                if name.startswith(incomplete) and name not in given
            ]
        return []

    return complete


complete_failed = _completing(lambda server: server.phase is Phase.FAILED)
complete_skippable = _completing(lambda server: server.phase in {Phase.WAITING, Phase.FAILED})
complete_in_flight = _completing(lambda server: server.phase in IN_FLIGHT)
complete_owed = _completing(owes)


def complete_target(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the targets of the run that stands before."""
    with contextlib.suppress(Exception):
        members = _of_first_line(find(_before(ctx, "run"), state_folder()))
        names = dict.fromkeys(member.target for member in members)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []


def complete_limit(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the servers of the newest run of the plan that stands before."""
    with contextlib.suppress(Exception):
        path = Path(_before(ctx, "plan") or "")
        named = _NAME.search(path.read_text(encoding="utf-8")) if path.is_file() else None  # a pipe waits
        found = journals_of(state_folder(), named[1] if named else path.stem)
        members = _of_first_line(found[0].journal) if found else []
        names = (_words(member.id, member.name) for member in members)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []
