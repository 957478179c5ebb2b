"""Pre-flight: what would go wrong, found before anything is touched. Values in, findings out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from fleet.core.model import Call, Image, KeyPair, Room, ScalingGroup, Server
from fleet.core.settings import Reinstall, Target

SPECIAL_CHARACTERS = "!@$%^-_=+[{}]:,./?~#*"
"""Special characters that some cloud accepts; the cloud itself judges ``~#*`` (ECS API reference)."""


NAMED = 5
"""Servers that a finding about many of them names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found before the run.

    Attributes:
        server: Whom it is about, or None for the whole target.
        stops: The run may not be opened; else it is a warning.
        unfit: This one server cannot be reinstalled: leaving it out would do.
    """

    message: str
    hint: str = ""
    target: str = ""
    server: str | None = None
    stops: bool = True
    unfit: bool = False

    def __str__(self) -> str:
        who = ": ".join(part for part in (self.target, self.server) if part)
        text = f"{who}: {self.message}" if who else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text


@dataclass(frozen=True, slots=True)
class Objection:
    """What speaks against a server that neither the plan nor the server itself shows.

    Attributes:
        message: What it is.
        hint: What to do, but for leaving the server out.
    """

    message: str
    hint: str = ""

    def about(self, target: Target, server: Server) -> Finding:
        """Make a finding of it."""
        hint = "; ".join(part for part in (self.hint, "--skip-unfit leaves it out") if part)
        return Finding(self.message, hint, target.name, server.label, unfit=True)


def grouped(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield findings, those that say the same of many servers as one: a missing image hits a thousand."""
    groups: dict[Finding, list[str]] = {}
    for finding in findings:
        groups.setdefault(replace(finding, server=None), []).extend(
            [finding.server] if finding.server else []
        )
    for finding, servers in groups.items():
        if not servers:
            yield finding
        elif len(servers) <= NAMED:
            yield replace(finding, server=", ".join(servers))
        else:
            yield replace(finding, server=f"{', '.join(servers[:NAMED])} and {len(servers) - NAMED} more")


def call_for(reinstall: Reinstall, image: Image | None) -> Call:
    """Return which call installs a server: the plan says, or its image does, or cloud-init is assumed."""
    cloud_init = reinstall.cloud_init
    if cloud_init is None:
        cloud_init = image.cloud_init if image else True
    if reinstall.image is not None:
        return Call.CHANGE_CLOUD_INIT if cloud_init else Call.CHANGE_PLAIN
    return Call.REINSTALL_CLOUD_INIT if cloud_init else Call.REINSTALL_PLAIN


OURSELVES = "it is the machine that fleet runs on"


def unfit(server: Server, own_ids: Collection[str] = ()) -> list[str]:
    """Say why this server must not, or cannot, be reinstalled as it is now.

    Args:
        server: As the list shows it.
        own_ids: Ids that the machine we run on may have.
    """
    reasons = list(server.unfit)
    if server.id.lower() in own_ids:
        reasons.append(OURSELVES)
    if server.locked:
        reasons.append("it is locked")
    if server.system_disk is None:
        reasons.append("it shows no system disk")
    if server.task is not None:
        reasons.append(f"something is being done to it: {server.state()}")
    elif not server.is_idle:
        reasons.append(f"it is {server.status}")
    return reasons


def check_server(
    target: Target, server: Server, image: Image | None, own_ids: Collection[str] = ()
) -> list[Finding]:
    """Look at one server of a target; *own_ids* as for `unfit`."""
    findings = [
        Finding(
            reason, "exclude it, mend it, or run with --skip-unfit", target.name, server.label, unfit=True
        )
        for reason in unfit(server, own_ids)
    ]
    if image is None:
        findings.append(
            Finding(
                f"its image {target.reinstall.image or server.image or '(unknown)'} does not exist any more, "
                "or is not shared with this project",
                "name another one with `reinstall: {image: …}`",
                target.name,
                server.label,
                unfit=True,
            )
        )
    elif image.fit:
        findings.append(
            Finding(f"image {image.name or image.id}: {image.fit}", "", target.name, server.label, unfit=True)
        )
    if server.spot:
        findings.append(
            Finding(
                "it is a spot server, which some clouds refuse to reinstall",
                "",
                target.name,
                server.label,
                stops=False,
            )
        )
    if server.status == "ERROR":
        findings.append(
            Finding("it is in ERROR; a reinstall may mend it", "", target.name, server.label, stops=False)
        )
    if image and target.reinstall.user_data and call_for(target.reinstall, image) in {
        Call.REINSTALL_PLAIN,
        Call.CHANGE_PLAIN,
    }:  # fmt: skip
        findings.append(
            Finding(
                f"image {image.name or image.id} carries no cloud-init, so the user data would be ignored",
                "`cloud_init: true` if it does after all",
                target.name,
                server.label,
            )
        )
    return findings


def check_key_pair(target: Target, found: KeyPair | None) -> list[Finding]:
    """Look at a target's key pair; *found* is None when the cloud does not show it to us."""
    name = target.reinstall.key_pair
    if name is None or found is not None:
        return []
    if target.reinstall.user_id is not None:
        return [
            Finding(
                f"key pair {name!r} is not shown to us; only its owner sees it, so this may be right",
                "",
                target.name,
                stops=False,
            )
        ]
    return [
        Finding(
            f"key pair {name!r} does not exist, or belongs to somebody else",
            "a key pair is visible to its owner only: name the owner with `user_id`",
            target.name,
        )
    ]


def check_password(target: Target, password: str) -> list[Finding]:
    """Hold a password against the cloud's rules. The finding says the rule, never the password."""
    classes = [
        any(char.isascii() and char.isupper() for char in password),
        any(char.isascii() and char.islower() for char in password),
        any(char.isascii() and char.isdigit() for char in password),
        any(char in SPECIAL_CHARACTERS for char in password),
    ]
    legal = all(char.isascii() and (char.isalnum() or char in SPECIAL_CHARACTERS) for char in password)
    if 8 <= len(password) <= 26 and sum(classes) >= 3 and legal:
        return []
    return [
        Finding(
            "the admin password breaks the cloud's rules",
            "8 to 26 characters; three of upper case, lower case, digit, special "
            f"({SPECIAL_CHARACTERS}); nothing else",
            target.name,
        )
    ]


ADMINISTRATOR = "administrator"
"""Whom the cloud sets a password for on Windows; root everywhere else."""


def check_windows(target: Target, server: Server, image: Image | None, password: str | None) -> list[Finding]:
    """Look at what is different about Windows (ECS API reference: passwords, v1 calls)."""
    if image is None or image.os_type != "Windows":
        return []
    name = image.name or image.id

    def about(message: str, hint: str, *, stops: bool = True) -> Finding:
        return Finding(message, hint, target.name, server.label, stops=stops, unfit=stops)

    if target.reinstall.key_pair is None:
        folded = (password or "").lower()
        parts = {ADMINISTRATOR[place : place + 3] for place in range(len(ADMINISTRATOR) - 2)}
        if any(part in folded or part[::-1] in folded for part in parts):
            return [
                about(
                    f"image {name} is Windows, and the admin password has three characters in a row of the "
                    "user name Administrator",
                    "the cloud refuses it: choose another one",
                )
            ]
        return []
    if call_for(target.reinstall, image) in {Call.REINSTALL_PLAIN, Call.CHANGE_PLAIN}:
        return [
            about(
                f"image {name} is Windows without cloud-init, which takes a password and no key pair",
                "admin_password instead of key_pair",
            )
        ]
    return [
        about(
            f"image {name} is Windows: with a key pair its password has to be read from the cloud first",
            "admin_password sets it",
            stops=False,
        )
    ]


def check_scaling(target: Target, server: Server, group: ScalingGroup | None) -> list[Finding]:
    """Look at a server's auto-scaling group: it takes a stopped member for a broken one."""
    if group is None or not group.watches:
        return []
    then = "removed and deleted, since the group created it" if group.made_it else "removed from it"
    return [
        Finding(
            f"it is a member of auto-scaling group {group.name or group.id}: as soon as it is stopped it "
            f"counts as unhealthy, and would be {then}",
            "disable the group, or move the server to standby; --skip-unfit leaves it out",
            target.name,
            server.label,
            unfit=True,
        )
    ]


def check_room(room: Room, in_flight: int) -> list[Finding]:
    """Hold the disks that the project may still have against what is in flight: each needs one more."""
    if room.left is None or room.left >= in_flight:
        return []
    return [
        Finding(
            f"each reinstall in flight needs a disk more: up to {in_flight} at once, and the quota of "
            f"{room.limit} leaves {room.left}",
            f"raise the disk quota, or write concurrency: {room.left}"
            if room.left
            else "raise the disk quota: not a single server could be reinstalled",
        )
    ]
