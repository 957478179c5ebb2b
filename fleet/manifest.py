"""The list that was approved is the list that is done: `preview --save` and `run --manifest`.

A manifest names every server with what identifies it, every parameter by a digest, and the worst case and
the forecast that whoever approved it was shown. Its own digest is over all of that. A run of it does those
servers or fewer, never others, and never with anything else; it uses the manifest up.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from fleet import __version__
from fleet.core.events import Member
from fleet.core.model import ServerId
from fleet.core.select import NOT_IN_MANIFEST
from fleet.core.settings import CommandCheck, CommandGate, Settings, Target
from fleet.errors import PlanError, Problem
from fleet.survey import Pin, Survey

FORMAT = 1
MAX_BYTES = 256 * 1024 * 1024
SHOWN = 12
"""Characters of a digest that people are shown, and have to type."""

_PLAIN = ("status", "wave")
"""Fields of a member that do not identify it: it may be on or off, and its wave is the manifest's."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server of a manifest.

    Attributes:
        server: As it was, with its wave.
        user_data: Digest of what it is sent; empty: nothing.
        fingerprint: Digest of both, for people to compare.
    """

    server: Member
    user_data: str = ""
    fingerprint: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in the file.

    Attributes:
        manifest: Its format.
        made_at: ISO 8601, UTC: two previews make two manifests.
        seed: What a shuffled order was drawn from.
        parameters: Digest of every parameter, by its place in the plan; of the programs that it names too.
        worst_case, forecast: As previewed. For people; nothing is decided by them.
        digest: Of everything else.
    """

    manifest: int
    fleet: str
    made_at: str
    plan: str
    cloud: str
    project: str
    user: str
    limit: tuple[str, ...]
    seed: int
    parameters: dict[str, str]
    servers: tuple[Entry, ...]
    worst_case: dict[str, Any]
    forecast: dict[str, Any]
    digest: str = ""

    @property
    def pin(self) -> Pin:
        """What a survey has to keep to."""
        return Pin(seed=self.seed, only=frozenset(entry.server.id for entry in self.servers))


def _sha256(value: object, folder: str = "") -> str:
    text = msgspec.json.encode(value, order="sorted")
    if folder:  # the same plan in another folder, on the machine that runs it, is the same plan
        text = text.replace(msgspec.json.encode(folder)[:-1] + b"/", b'"./')
    return hashlib.sha256(text).hexdigest()


def _fingerprint(server: Member, user_data: str) -> str:
    return _sha256([msgspec.structs.replace(server, status="", wave=0), user_data])


def parameters(settings: Settings) -> dict[str, str]:
    """Return the digest of everything that the plan says, by place; comments are not in it."""
    found: dict[str, str] = {}
    for name in settings.__struct_fields__:
        if name not in {"digest", "folder", "targets", "plan"}:
            found[name] = _sha256(getattr(settings, name), settings.folder)
    for target in settings.targets:
        for name in target.__struct_fields__:
            if name != "name":
                found[f"targets.{target.name}.{name}"] = _sha256(getattr(target, name), settings.folder)
    for path in sorted(set(_programs(settings))):
        shown = os.path.relpath(path, settings.folder) if path.startswith(f"{settings.folder}/") else path
        found[f"program {shown}"] = _file_digest(Path(path))
    return found


def _programs(settings: Settings) -> Iterator[str]:
    """Yield the programs that the plan names by a path: what they do was approved as well."""
    for argv in _commands(settings):
        if argv and argv[0].startswith("/"):
            yield argv[0]


def _commands(settings: Settings) -> Iterator[tuple[str, ...]]:
    for gate in settings.gates:
        if isinstance(gate, CommandGate):
            yield gate.argv
    for freeze in settings.freeze:
        yield freeze.command or ()
    for target in settings.targets:
        yield from _commands_of(target)


def _commands_of(target: Target) -> Iterator[tuple[str, ...]]:
    for check in target.verify.checks:
        if isinstance(check, CommandCheck):
            yield check.argv
    hooks = target.hooks
    for around in hooks.around_server:
        yield around.do
        yield around.undo
    for name in hooks.__struct_fields__:
        if name not in {"around_server", "timeout_s"}:
            yield getattr(hooks, name) or ()
    if target.require_backup is not None:
        yield target.require_backup.command or ()


def _file_digest(path: Path) -> str:
    try:
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        pass
    return "unreadable"


def make(
    found: Survey, *, limit: tuple[str, ...], worst: dict[str, Any], forecast: dict[str, Any], now: datetime
) -> Manifest:
    """Make the manifest of what was surveyed. Skipped servers are not in it."""
    bare = Manifest(
        manifest=FORMAT,
        fleet=__version__,
        made_at=now.astimezone(UTC).isoformat(timespec="milliseconds"),
        plan=found.settings.plan,
        cloud=found.identity.cloud,
        project=found.identity.project_id,
        user=found.identity.user_name,
        limit=limit,
        seed=found.seed,
        parameters=parameters(found.settings),
        servers=tuple(
            Entry(
                server=member,
                user_data=(sent := found.sent.get(member.id, "")),
                fingerprint=_fingerprint(member, sent),
            )
            for member in found.started
        ),
        worst_case=worst,
        forecast=forecast,
    )
    return msgspec.structs.replace(bare, digest=digest_of(bare))


def digest_of(manifest: Manifest) -> str:
    """Return the digest that a manifest ought to have."""
    return _sha256(msgspec.structs.replace(manifest, digest=""))


def write(manifest: Manifest, path: Path) -> None:
    """Write a manifest for people and tools. It names servers and holds no secret.

    Raises:
        PlanError: It cannot be written.
    """
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        said = error.strerror or error
        raise PlanError(
            Problem(f"the manifest cannot be written: {said}", hint="check the path", file=str(path))
        ) from error


def read(path: Path) -> Manifest:
    """Read a manifest, and hold it against its own digest.

    Raises:
        PlanError: It cannot be read, is none, or was changed after it was made.
    """

    def wrong(message: str, hint: str) -> PlanError:
        return PlanError(Problem(message, hint=hint, file=str(path)))

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise wrong("a manifest is a regular file, and this is none", "name the file of `preview --save`")
        content = path.read_bytes()
    except OSError as error:
        raise wrong(f"the manifest cannot be read: {error.strerror or error}", "check the path") from error
    try:
        found = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise wrong(
            f"this is no manifest: {error}", "make one with `fleet preview PLAN --save FILE`"
        ) from error
    if found.manifest != FORMAT:
        raise wrong(
            f"this manifest has format {found.manifest}; this fleet reads format {FORMAT}", "make a new one"
        )
    if digest_of(found) != found.digest:
        raise wrong("the manifest was changed after it was made: its digest does not fit", "make a new one")
    return found


def check(manifest: Manifest, settings: Settings, limit: tuple[str, ...]) -> None:
    """Refuse a plan that says something else than the one that was approved.

    Raises:
        PlanError: With every difference.
    """
    problems = []
    if manifest.plan != settings.plan:
        problems.append(f"it is of plan {manifest.plan!r}, not of {settings.plan!r}")
    if limit and limit != manifest.limit:
        problems.append("--limit narrows what was approved to something else")
    now = parameters(settings)
    for name in sorted({*manifest.parameters, *now}):
        then, found = manifest.parameters.get(name, "none"), now.get(name, "none")
        if then != found:
            problems.append(f"{name} has changed: {then[:SHOWN]} was approved, {found[:SHOWN]} is there now")
    if problems:
        hint = "undo the change, or preview again and have the new manifest approved"
        raise PlanError(
            *(Problem(f"manifest {manifest.digest[:SHOWN]}: {each}", hint=hint) for each in problems)
        )


def pinned(found: Survey, manifest: Manifest) -> Survey:
    """Return a survey of the manifest's servers, in its waves; who is not as approved is skipped.

    Args:
        found: Surveyed with the manifest's `pin`.
        manifest: Checked against the plan.

    Raises:
        PlanError: It is of another cloud or project.
    """
    if (manifest.cloud, manifest.project) != (found.identity.cloud, found.identity.project_id):
        raise PlanError(
            Problem(
                f"the manifest is of {manifest.cloud} (project {manifest.project}), and this login is for "
                f"{found.identity.cloud} (project {found.identity.project_id})",
                hint="log in to the cloud that it was made on",
            )
        )
    now = {member.id: member for member in found.members}
    skipped = dict(found.skipped)
    members: list[Member] = []
    for entry in manifest.servers:
        server = entry.server
        seen = now.get(server.id)
        why = "; ".join(_changes(entry, seen, found.sent.get(server.id, ""), found.resolution.left_out))
        if why:
            skipped[server.id] = f"changed since the manifest: {why}"
        members.append(server if seen is None else msgspec.structs.replace(server, status=seen.status))
    joined = [
        found.servers[server].label
        for server, reason in found.resolution.left_out.items()
        if reason == NOT_IN_MANIFEST and server in found.servers
    ]
    differences = [
        f"{_label(entry.server)}: {skipped[entry.server.id]}"
        for entry in manifest.servers
        if entry.server.id in skipped
    ]
    if joined and not manifest.limit:  # what was limited away then is no news
        names = ", ".join(joined[:5]) + (", …" if len(joined) > len(joined[:5]) else "")
        verb = "is" if len(joined) == 1 else "are"
        differences.append(f"{len(joined)} selected now {verb} not in the manifest, and not done: {names}")
    return replace(
        found,
        members=tuple(members),
        skipped=skipped,
        manifest=manifest.digest,
        differences=tuple(differences),
    )


def _label(server: Member) -> str:
    return server.name or server.id


def _changes(entry: Entry, seen: Member | None, sent: str, left_out: Mapping[ServerId, str]) -> Iterator[str]:
    """Yield what is not as it was approved."""
    then = entry.server
    if seen is None:
        yield left_out.get(then.id, "the cloud shows it no more")
        return
    for name in then.__struct_fields__:
        was, now = getattr(then, name), getattr(seen, name)
        if name not in _PLAIN and was != now:
            yield f"{name.replace('_', ' ')} {_shown(was)} → {_shown(now)}"
    if entry.user_data != sent:
        yield f"user data {entry.user_data[:SHOWN] or 'none'} → {sent[:SHOWN] or 'none'}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={text}" for key, text in sorted(value.items())) or "none"
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value) or "none"
    return str(value) if value else "none"
