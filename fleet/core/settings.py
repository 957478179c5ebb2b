"""The plan as resolved: what the engine works from, and what the journal keeps.

Everything here can be written down: secrets are references, user data is a digest. The reader of plan
files (`fleet.plan`) makes these; a resume reads them back from the journal and needs no plan file.
Durations are seconds. These structs are part of the journal's format: add fields with defaults only.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class SecretRef(msgspec.Struct, frozen=True, kw_only=True):
    """Where a secret is to be had; exactly one is set.

    Attributes:
        env: Name of an environment variable.
        file: Absolute path of a file that only its owner may read; its first line without the line break.
        command: argv of a command whose first line of output it is.
    """

    env: str | None = None
    file: str | None = None
    command: tuple[str, ...] | None = None

    def __str__(self) -> str:
        if self.env is not None:
            return f"environment variable {self.env}"
        if self.file is not None:
            return f"file {self.file}"
        return f"command {(self.command or ('?',))[0]}"


class UserData(msgspec.Struct, frozen=True, kw_only=True):
    """User data, by digest; the content stays out of the journal, since it may hold secrets.

    Attributes:
        kind: How the plan gave it; a template is rendered for each server.
        path: Absolute path of the file, or None for text.
        sha256: Hex digest of the source (of a template: before rendering).
        size: Bytes of the source.
    """

    kind: Literal["file", "text", "template"]
    sha256: str
    size: int
    path: str | None = None


class Reinstall(msgspec.Struct, frozen=True, kw_only=True):
    """With what a server is reinstalled.

    Attributes:
        user_id: Owner of the key pair; None: the authenticated user.
        mode: ``stop-first``: fleet stops the server, so that the cloud refuses a second wipe;
            ``with-stop-server``: the cloud stops it.
        cloud_init: None: the image says; else which call is used.
        image: Another image's id: the server's OS is changed, not reinstalled.
        timeout_s: Watched time for each of: being accepted, the job.
        attempts: How many reinstalls may be accepted for one server, counting those that failed.
        settle_s: How long an unanswered request is watched before it is concluded upon. Longer than any
            request can live: client and gateway time-outs together.
    """

    key_pair: str | None = None
    user_id: str | None = None
    admin_password: SecretRef | None = None
    user_data: UserData | None = None
    byol: bool = False
    mode: Literal["stop-first", "with-stop-server"] = "stop-first"
    cloud_init: bool | None = None
    image: str | None = None
    timeout_s: float = 2700.0
    attempts: int = 2
    settle_s: float = 300.0


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is stopped.

    Attributes:
        soft_timeout_s: Watched time that the guest gets to shut down.
        then: What follows: power off, or give the server up untouched.
    """

    soft_timeout_s: float = 300.0
    then: Literal["hard", "fail"] = "hard"


class TcpCheck(msgspec.Struct, frozen=True, kw_only=True, tag="tcp"):
    """A port of the server's private address accepts connections."""

    port: int


class HttpCheck(msgspec.Struct, frozen=True, kw_only=True, tag="http"):
    """A URL answers with a status. ``{server.…}`` fields are filled in."""

    url: str
    status: int = 200


class CommandCheck(msgspec.Struct, frozen=True, kw_only=True, tag="command"):
    """A command ends with 0. ``{server.…}`` fields are filled in; argv[0] is absolute or on the PATH.

    Attributes:
        timeout_s: After this long it is killed and counts as not passed.
    """

    argv: tuple[str, ...]
    timeout_s: float = 60.0


Check = TcpCheck | HttpCheck | CommandCheck


class Verify(msgspec.Struct, frozen=True, kw_only=True):
    """When a reinstalled server counts as verified.

    Attributes:
        timeout_s: Watched time for all of it.
        checks: All must pass,
        stable_for_s: … and go on passing for this long.
    """

    timeout_s: float = 900.0
    checks: tuple[Check, ...] = ()
    stable_for_s: float = 0.0


class Select(msgspec.Struct, frozen=True, kw_only=True):
    """Which servers: every given field must match, a tuple means any of.

    As ``protect`` and ``exclude`` any one field is enough: those use `fleet.core.select.removed_by`.

    Attributes:
        ids: Server ids.
        name: Globs (``web-*``, case-sensitive, the whole name).
        name_regex: Regular expressions, matched against the whole name.
        tags: Tag to its allowed values; an empty tuple: the tag is there, whatever its value.
        zone, status, flavor, image, vpc, enterprise_project: Exact values.
        ip: Addresses or networks in CIDR form; any address of the server in any of them.
    """

    ids: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    name_regex: tuple[str, ...] = ()
    tags: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    zone: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    flavor: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    vpc: tuple[str, ...] = ()
    enterprise_project: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share of the target's servers at the start, in percent (above 0, at most 100)."""

    percent: float

    def __str__(self) -> str:
        return f"{self.percent:g}%"


Amount = int | Share


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """How many at a time, and how many may fail.

    Attributes:
        waves: Sizes in order; the last repeats. Shares round up.
        concurrency: Servers in flight at once.
        hold_after: So many may fail; one more holds. Shares round down, and to nothing is an error.
        order: Server attributes (``name``, ``availability_zone``, ``flavor``, ``image``, ``id``,
            ``tag:KEY``) that put a target's servers in their order.
    """

    waves: tuple[Amount, ...] = (1, Share(percent=25))
    concurrency: int = 10
    hold_after: Amount = 0
    order: tuple[str, ...] = ("name",)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the plan: a selector and its parameters, defaults filled in.

    Attributes:
        expect_min, expect_max: How many servers the selector must match; None: no bound.
        leave: How a server that was off when we came is left: as found, or running.
    """

    name: str
    select: Select
    exclude: Select | None = None
    expect_min: int | None = None
    expect_max: int | None = None
    rollout: Rollout = Rollout()
    stop: Stop = Stop()
    reinstall: Reinstall = Reinstall()
    verify: Verify = Verify()
    leave: Literal["as-found", "running"] = "as-found"


class CloudSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which cloud, and how it is spoken to.

    Attributes:
        endpoints: Overrides by service (``ecs``, ``iam``, ``ims``).
        requests_per_second: Ceiling of all calls together; the client slows down further by itself.
    """

    provider: str
    profile: str | None = None
    region: str | None = None
    endpoints: dict[str, str] = msgspec.field(default_factory=dict)
    requests_per_second: float = 10.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A whole plan, resolved.

    Attributes:
        plan: Its name.
        digest: sha256 of the plan file's bytes.
        folder: Absolute path of the plan's folder, which relative commands run in.
        protect: Servers that are never touched, whatever a selector says; None: none.
    """

    plan: str
    digest: str
    folder: str
    cloud: CloudSettings
    targets: tuple[Target, ...]
    protect: Select | None = None
