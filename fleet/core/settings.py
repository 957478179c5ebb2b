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
        preserve_ephemeral: OpenStack: the ephemeral disk is left as it is, where the hypervisor can.
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
    preserve_ephemeral: bool = False


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
    """A URL answers with a status. ``{server.…}`` fields are filled in.

    Attributes:
        body: A regular expression that is found in the first 64 KiB of the answer, or None.
        tls: Certificates are checked.
    """

    url: str
    status: int = 200
    body: str | None = None
    tls: bool = True


class CommandCheck(msgspec.Struct, frozen=True, kw_only=True, tag="command"):
    """A command ends with 0. ``{server.…}`` fields are filled in; argv[0] is absolute or on the PATH.

    Attributes:
        timeout_s: After this long it is killed and counts as not passed.
    """

    argv: tuple[str, ...]
    timeout_s: float = 60.0


class SshCheck(msgspec.Struct, frozen=True, kw_only=True, tag="ssh"):
    """A server answers on a port with an SSH banner (``SSH-2.0-…``)."""

    port: int = 22


class NonceCheck(msgspec.Struct, frozen=True, kw_only=True, tag="nonce"):
    """The server shows the word that its own user data was rendered with: it is this run that installed it.

    Attributes:
        url: Where it can be read, in the first 64 KiB; or
        argv: … a command that prints it. ``{server.…}`` fields are filled in.
        tls: Certificates are checked.
        timeout_s: Of the command.
        expected: The word, put in for each server; empty in a plan.
    """

    url: str | None = None
    argv: tuple[str, ...] | None = None
    tls: bool = True
    timeout_s: float = 60.0
    expected: str = ""


Check = TcpCheck | HttpCheck | CommandCheck | SshCheck | NonceCheck


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
        hosts: Hosts of an inventory, as it was when the plan was read, each with the address that it is
            reached by, which is its name unless the inventory says otherwise.
        older_than_s: Created at least so long before the run is opened.
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
    hosts: dict[str, str] = msgspec.field(default_factory=dict)
    older_than_s: float | None = None


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share of the target's servers at the start, in percent (above 0, at most 100)."""

    percent: float

    def __str__(self) -> str:
        return f"{self.percent:g}%"


Amount = int | Share

COVER = "cover"
"""The wave that is the smallest set with every image, flavor, zone and user data of its target."""

SHUFFLE = "shuffle"
"""The order that a seed in the journal decides."""


class NeverMoreThan(msgspec.Struct, frozen=True, kw_only=True):
    """A cap on failed and in-flight servers together, that opens as servers are verified.

    Attributes:
        at_least: So many are always allowed.
        of_verified: Percent of the verified ones, once that is more; rounds down.
    """

    at_least: int
    of_verified: float


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """How many at a time, and how many may fail.

    Attributes:
        waves: Sizes in order, or `COVER`; the last repeats. Shares round up.
        concurrency: Servers in flight at once.
        hold_after: So many may fail; one more holds. Shares round down, and to nothing is an error.
        order: Server attributes (``name``, ``availability_zone``, ``flavor``, ``image``, ``id``,
            ``tag:KEY``) that put a target's servers in their order, or `SHUFFLE`.
        max_unavailable: Servers out of service at once: in flight, or failed and left down. Shares round
            down.
        spread: Attribute (as in ``order``) to servers in flight, or failed and left down, at once per value.
        in_a_row: When so many have failed one after the other, it holds.
        never_more_than: Cap on failed + in flight.
        bake_s: Seconds between a wave's end and the next wave; then the wave is checked again.
        approve_after: Numbers of waves, from 1, after which a person must approve.
    """

    waves: tuple[Amount | Literal["cover"], ...] = (1, Share(percent=25))
    concurrency: int = 10
    hold_after: Amount = 0
    order: tuple[str, ...] = ("name",)
    max_unavailable: Amount | None = None
    spread: dict[str, int] = msgspec.field(default_factory=dict)
    in_a_row: int | None = None
    never_more_than: NeverMoreThan | None = None
    bake_s: float = 0.0
    approve_after: tuple[int, ...] = ()


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How many servers of the whole run may fail; as the fields of `Rollout` of the same names."""

    hold_after: Amount | None = None
    in_a_row: int | None = None
    never_more_than: NeverMoreThan | None = None


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """Something done before a server is touched and undone when it is given back.

    Attributes:
        do, undo: argv. They are run without a shell, in the plan's folder.
        timeout_s: For each of them; then the whole process group is killed and it has failed.
    """

    do: tuple[str, ...]
    undo: tuple[str, ...]
    timeout_s: float = 300.0


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """Commands run along the way: argv without a shell, facts in ``FLEET_*`` and as JSON on stdin.

    Attributes:
        around_server: Done in order before a server is stopped, undone in reverse when it is given back.
            A `do` that fails settles the server untouched; an `undo` that fails leaves a debt.
        before_run, before_wave: When they fail, nothing is started: the run is held.
        after_run, after_wave, on_failure, on_hold: A failure is told and changes nothing.
        timeout_s: For each of these.
        env: Names of environment variables that they get besides the usual ones.
    """

    around_server: tuple[Around, ...] = ()
    before_run: tuple[str, ...] | None = None
    after_run: tuple[str, ...] | None = None
    before_wave: tuple[str, ...] | None = None
    after_wave: tuple[str, ...] | None = None
    on_failure: tuple[str, ...] | None = None
    on_hold: tuple[str, ...] | None = None
    timeout_s: float = 300.0
    env: tuple[str, ...] = ()


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A point to go back to that must exist before a server is wiped.

    Attributes:
        younger_than_s: How old it may be at the last look.
        command: argv that ends with 0 when there is one, where the cloud cannot say; None: the cloud is
            asked.
        timeout_s: Of the command.
    """

    younger_than_s: float | None = None
    command: tuple[str, ...] | None = None
    timeout_s: float = 60.0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the plan: a selector and its parameters, defaults filled in.

    Attributes:
        expect_min, expect_max: How many servers the selector must match; None: no bound.
        leave: How a server that was off when we came is left: as found, or running.
        needs: Targets that must be through before; (): starts at once; None: the one before in the plan.
        require_backup: What must exist before a server is wiped.
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
    needs: tuple[str, ...] | None = None
    hooks: Hooks = Hooks()
    require_backup: Backup | None = None


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """When servers may be worked on: by the clock of a time zone, or from one moment to another.

    Attributes:
        days: ``mon`` … ``sun`` on which it opens; empty: every day. Only for clock times.
        nth: Which of the month's such days, 1 to 5, or -1 for the last; empty: all of them.
        start, end: ``22:00``, or a moment with its offset (ISO 8601). An end by the clock that is not after
            the start is on the next day; the window belongs to the day it opens on.
        timezone: IANA name; None for moments.
    """

    start: str
    end: str
    days: tuple[str, ...] = ()
    nth: tuple[int, ...] = ()
    timezone: str | None = None


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """Dates on which nothing is started; exactly one of the three. What cannot be read counts as frozen.

    Attributes:
        dates: First and last day, ISO, both included; in `timezone`.
        ical: A calendar's absolute path or URL; its events are frozen.
        command: argv that prints ``2026-12-24`` or ``2026-12-24/2026-12-27``, one a line.
        timezone: Of the days; the first window's, or UTC.
    """

    dates: tuple[str, str] | None = None
    ical: str | None = None
    command: tuple[str, ...] | None = None
    timezone: str = "UTC"


class HttpGate(msgspec.Struct, frozen=True, kw_only=True, tag="http"):
    """Green while a URL answers with a status."""

    url: str
    status: int = 200


class CommandGate(msgspec.Struct, frozen=True, kw_only=True, tag="command"):
    """Green while a command ends with 0."""

    argv: tuple[str, ...]
    timeout_s: float = 30.0


class PromqlGate(msgspec.Struct, frozen=True, kw_only=True, tag="promql"):
    """Green while every figure of a query is below, or above, a bound. No figure is red."""

    url: str
    query: str
    below: float | None = None
    above: float | None = None


Gate = HttpGate | CommandGate | PromqlGate


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Servers in a stage at once, over all targets; None: as many as are in flight.

    Attributes:
        draining: Running their `do` hooks.
        booting: Between the request that wipes and verified: at most so many can boot at once.
    """

    draining: int | None = None
    booting: int | None = None


NOTICES = (
    "started", "held", "failed", "needs-approval", "unfinished", "finished", "no-progress", "window-missed",
)  # fmt: skip
"""What can be told; docs/notifications.md says when each is."""


class Notify(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to tell what; exactly one of webhook and command.

    Attributes:
        on: Of `NOTICES`.
        webhook: Where its URL is to be had: the URL is a secret.
        command: argv; gets the same as a webhook on standard input.
        format: Of what a webhook is sent.
        to: Who reads it, for people: ``#web-oncall``.
        env: Names of environment variables that a command gets besides the usual ones.
    """

    on: tuple[str, ...] = NOTICES[1:]
    webhook: SecretRef | None = None
    command: tuple[str, ...] | None = None
    format: Literal["slack", "teams", "json"] = "slack"
    to: str = ""
    env: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.to:
            return self.to
        if self.command is not None:
            return f"command {self.command[0].rpartition('/')[2]}"
        return f"the webhook from {self.webhook}"


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
        windows: When servers may be worked on; empty: any time.
        freeze: When not, windows or no.
        gates: All must be green for anything to be started.
        limits: Servers in a stage at once.
        concurrency: Servers in flight at once over all targets, unless a target asks for more; None: no
            bound.
        budget: How many servers of the whole run may fail.
        claim: Whether servers in flight are tagged as ours, so that a run on another machine sees it.
        notify: Whom to tell what.
    """

    plan: str
    digest: str
    folder: str
    cloud: CloudSettings
    targets: tuple[Target, ...]
    protect: Select | None = None
    windows: tuple[Window, ...] = ()
    freeze: tuple[Freeze, ...] = ()
    gates: tuple[Gate, ...] = ()
    limits: Limits = Limits()
    concurrency: int | None = None
    budget: Budget = Budget()
    claim: bool = False
    notify: tuple[Notify, ...] = ()
