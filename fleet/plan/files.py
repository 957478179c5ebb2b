"""What a plan points at on this machine: files, commands, secrets' places.

Paths are relative to the plan's folder, wherever `fleet` is called from. Secrets are not read here, and
commands are not run: only that they are there is looked at.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Literal

from fleet.core import settings
from fleet.errors import Problem
from fleet.plan import model
from fleet.plan.fields import MAX_RENDERED
from fleet.plan.reader import Document, Loc

MAX_USER_DATA = 32 * 1024  # before base64 (docs: ecs-api, 2.2)

_STARTS = (b"#", b"\x1f\x8b", b"Content-Type:", b"MIME-Version:", b"From ", b"<powershell>", b"rem cmd")
"""What cloud-init and Cloudbase-Init recognise. Anything else they ignore."""


class Files:
    """Looks up what the plan points at, and notes what is missing.

    Attributes:
        problems: What is wrong.
        warnings: What is odd.
        user_data: The sources of user data by their digest.
    """

    def __init__(self, document: Document, folder: Path) -> None:
        self._document = document
        self._folder = folder
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.user_data: dict[str, bytes] = {}
        self._seen: dict[model.UserData, settings.UserData | None] = {}

    def _wrong(self, loc: Loc, message: str, hint: str) -> None:
        self.problems.append(self._document.problem(loc, message, hint))

    def path(self, given: str, loc: Loc) -> Path | None:
        """Return the absolute path of an existing readable file, or note what is wrong with it."""
        found = self._folder / given
        try:
            mode = found.stat().st_mode
        except FileNotFoundError:
            self._wrong(
                loc, f"there is no file {given}", f"looked for {found}; paths start at the plan's folder"
            )
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or "the path is not usable"
            self._wrong(loc, f"{given} cannot be read: {said}", f"looked for {found}")
        else:
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
                self._wrong(loc, f"{given} is {kind}", "name a file")
            elif not os.access(found, os.R_OK):
                self._wrong(loc, f"{given} cannot be read: permission denied", f"chmod u+r {found}")
            else:
                return found
        return None

    def command(self, argv: tuple[str, ...], loc: Loc) -> tuple[str, ...]:
        """Return *argv* with an absolute program where it is given by a path."""
        program = argv[0]
        if "/" not in program:
            return argv  # on the PATH of whoever runs the plan, which may be another machine
        if not program.startswith(("./", "../", "/")):
            self._wrong(loc, f"{program} is neither a path nor a name", f"write ./{program}")
            return argv
        found = self.path(program, loc)
        if found is not None and not os.access(found, os.X_OK):
            self._wrong(loc, f"{program} is not executable", f"chmod +x {found}")
        return (str(self._folder / program), *argv[1:])

    def inventory(self, given: model.Inventory, loc: Loc) -> dict[str, str]:
        """Return the hosts that an inventory lists, with their addresses, or note what is wrong with it."""
        from fleet.plan.inventory import MAX_INVENTORY, InventoryError, hosts_of  # noqa: PLC0415 - few use it

        place = (*loc, "file")
        found = self.path(given.file, place)
        if found is None:
            return {}
        try:
            with found.open("rb") as opened:
                content = opened.read(MAX_INVENTORY + 1)
        except OSError as error:
            self._wrong(place, f"{given.file} cannot be read: {error.strerror}", f"looked for {found}")
            return {}
        if len(content) > MAX_INVENTORY:
            self._wrong(
                place,
                f"{given.file} has more than {MAX_INVENTORY:,} bytes",
                "is this the right file? `ansible-inventory --list --limit GROUP` writes a smaller one",
            )
            return {}
        try:
            return hosts_of(content, given.file, given.group)
        except InventoryError as error:
            line = f", line {error.line}" if error.line else ""
            self._wrong(place, f"the inventory {given.file}{line}: {error.message}", error.hint)
            return {}

    def secret(self, given: model.Secret, loc: Loc) -> settings.SecretRef:
        """Return where a secret is to be had; a file must be its owner's alone."""
        if given.command is not None:
            return settings.SecretRef(command=self.command(given.command, (*loc, "command")))
        if given.file is None:
            return settings.SecretRef(env=given.env)
        found = self.path(given.file, (*loc, "file"))
        if found is not None and _is_open_to_others(found):
            self._wrong(
                (*loc, "file"),
                f"{given.file} holds a secret and others than its owner have rights on it",
                f"chmod 600 {found}",
            )
        return settings.SecretRef(file=str(self._folder / given.file))

    def read_user_data(self, given: model.UserData, loc: Loc) -> settings.UserData | None:
        """Read the source of user data, check it, keep it by its digest; once for all targets."""
        if given not in self._seen:
            self._seen[given] = self._read_user_data(given, loc)
        return self._seen[given]

    def _read_user_data(self, given: model.UserData, loc: Loc) -> settings.UserData | None:
        if given.text is not None:
            return self._keep("text", given.text.encode(), None, (*loc, "text"))
        kind: Literal["file", "template"] = "file" if given.file is not None else "template"
        name = given.file or given.template or ""
        place = (*loc, kind)
        found = self.path(name, place)
        if found is None:
            return None
        limit = MAX_USER_DATA if kind == "file" else MAX_RENDERED
        size = found.stat().st_size
        if size > limit:
            self._too_big(place, name, size, limit)
            return None
        try:
            source = found.read_bytes()
        except OSError as error:
            self._wrong(place, f"{name} cannot be read: {error.strerror}", f"looked for {found}")
            return None
        if kind == "template" and not self._check_template(source, name, place):
            return None
        return self._keep(kind, source, found, place)

    def _too_big(self, loc: Loc, name: str, size: int, limit: int) -> None:
        self._wrong(
            loc,
            f"{name} has {size:,} bytes; the cloud takes {limit:,} of user data before encoding",
            "let it fetch the rest when it runs",
        )

    def _check_template(self, source: bytes, name: str, loc: Loc) -> bool:
        # jinja2 only for those who use it: time and memory of every other run.
        from fleet.plan.template import check_template, try_template  # noqa: PLC0415 - late: start-up stays fast

        found = list(check_template(source))
        for line, message, hint in found:
            self._wrong(loc, f"{name}, line {line}: {message}", hint)
        if not found and (said := try_template(source)) is not None:
            # A warning: an expression may well fit the real names and tags and not the made-up ones. The
            # pre-flight renders for every server that is really reinstalled.
            self.warnings.append(
                self._document.problem(loc, f"{name}: {said}", "`fleet preview` tries the real servers")
            )
        return not found

    def _keep(
        self, kind: Literal["file", "text", "template"], source: bytes, path: Path | None, loc: Loc
    ) -> settings.UserData | None:
        if kind != "template" and len(source) > MAX_USER_DATA:
            self._too_big(loc, path.name if path else "this text", len(source), MAX_USER_DATA)
            return None
        if not source.lstrip().startswith((*_STARTS, *((b"{",) if kind == "template" else ()))):
            hint = "begin with #cloud-config, or #! for a script"
            self.warnings.append(
                self._document.problem(loc, "cloud-init ignores user data of this form", hint)
            )
        digest = hashlib.sha256(source).hexdigest()
        self.user_data[digest] = source
        return settings.UserData(
            kind=kind, sha256=digest, size=len(source), path=str(path) if path is not None else None
        )


def _is_open_to_others(path: Path) -> bool:
    try:
        return path.stat().st_mode & 0o077 != 0
    except OSError:  # gone since we looked: whoever reads it will say so
        return False
