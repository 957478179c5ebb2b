"""What a provider implements. It speaks of servers, jobs and outcomes, not of URLs.

Every method may raise the classes of `fleet.errors.CloudError`; which of them a method raises in
addition to ``Unavailable`` (retries are spent) and ``CloudUnusable`` is said beside it. Reads, stops and
starts are retried inside; `reinstall` never is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from fleet.core.model import (
    BackupPoint,
    Call,
    Identity,
    Image,
    Job,
    JobId,
    KeyPair,
    Room,
    ScalingGroup,
    Server,
    ServerId,
)


@dataclass(frozen=True, slots=True)
class ReinstallOrder:
    """Everything the destructive call carries.

    Attributes:
        admin_password, user_data: Secret; kept out of ``repr``.
        user_data: Before base64; at most 32 KiB (`MAX_USER_DATA`).
        stop_first: The cloud is to stop a running server by itself. Takes away the cloud's own guard
            against a second wipe; never set where the call may be a repeat.
        image: For the change-OS calls, else None.
        preserve_ephemeral: Leave the ephemeral disk as it is, where the cloud has such a thing.
    """

    server: ServerId
    call: Call
    key_pair: str | None = None
    user_id: str | None = None
    admin_password: str | None = field(default=None, repr=False)
    user_data: bytes | None = field(default=None, repr=False)
    byol: bool = False
    stop_first: bool = False
    image: str | None = None
    preserve_ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The cloud took the call.

    Attributes:
        job: Its job's id.
        request_id: The cloud's id of the request, or None.
    """

    job: JobId
    request_id: str | None = None


MAX_USER_DATA = 32 * 1024
"""Bytes of user data before base64 (ECS API reference, field ``metadata.user_data``)."""


@runtime_checkable
class CanTag(Protocol):
    """A cloud whose servers can be tagged, so that runs on other machines see whose they are.

    Both calls are safe to repeat, and are repeated inside, also where no answer came.
    """

    async def tag(self, server: ServerId, tags: Mapping[str, str]) -> None:
        """Set tags of a server; others keep theirs. When this returns, every later read shows them.

        Raises:
            Unavailable: It may or may not have been done.
            Rejected: The server has too many tags, or we lack the permission (*everybody*).
        """
        ...

    async def untag(self, server: ServerId, keys: Sequence[str]) -> None:
        """Take tags off a server. Those that are not there are no error. Raises as `tag`."""
        ...


@runtime_checkable
class TakesTurns(Protocol):
    """A cloud whose calls wait for their turn, and that lets some wait before it is known what to ask.

    An announcement is good for seconds only (`send_by`). Where many servers want to be wiped at once, and the
    cloud takes few calls, a queue behind the announcement would let them expire one after another. And
    whoever begins to wait while a poll waits for its turn can be read along.
    """

    async def turn_to_wipe(self) -> None:
        """Wait until a wipe may be sent at once. The next `reinstall`, if it comes soon, waits no more.

        Raises:
            Unavailable, CloudUnusable: The login did not work out.
        """
        ...

    async def turn_to_poll(self) -> None:
        """Wait until a poll would be in nobody's way, or has waited long enough."""
        ...


@runtime_checkable
class KnowsScaling(Protocol):
    """A cloud that can say which servers an auto-scaling group watches over."""

    async def scaling_groups(self) -> Mapping[ServerId, ScalingGroup]:
        """Return the group of every server that is a member of one.

        Raises:
            Rejected: We may not read that, or this cloud has no such service.
        """
        ...


@runtime_checkable
class KnowsRoom(Protocol):
    """A cloud that can say how many disks there may be."""

    async def disk_room(self) -> Room:
        """Return it. Raises as `KnowsScaling.scaling_groups`."""
        ...


@runtime_checkable
class KnowsBackups(Protocol):
    """A cloud that can say to which points its servers can be brought back.

    Snapshots of a system disk do not count: they are deleted with the disk that a reinstall replaces.
    """

    async def backup(self, server: ServerId) -> BackupPoint | None:
        """Return the latest usable one of a server, or None. Raises as `KnowsScaling.scaling_groups`."""
        ...

    async def backups(self, since: datetime) -> Mapping[ServerId, BackupPoint]:
        """Return the latest usable one of every server that has one begun since then, or later ones only."""
        ...


@runtime_checkable
class KnowsAddresses(Protocol):
    """A cloud that can say where its services are, for `fleet doctor`."""

    async def addresses(self) -> Mapping[str, tuple[str, str]]:
        """Return, by service, its base URL and in words what told it; the ones that a run needs come first.

        Raises:
            CloudUnusable: The address of one that a run needs is not known.
        """
        ...


@dataclass(frozen=True, slots=True)
class Wipe:
    """A request for a reinstall, as the cloud's own record has it, whoever made it.

    Attributes:
        at: When it was made, UTC.
        by: Who made it: a user's name, or the id.
        call: What the record calls it.
        accepted: The cloud took it.
        job: Its job, where the record has it.
        name: The server's, as the record has it, or empty.
    """

    server: ServerId
    at: datetime
    by: str
    call: str
    accepted: bool
    job: JobId | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Trail:
    """The cloud's own record of who was reinstalled.

    Attributes:
        source: What it is called.
        wipes: In no order.
        back_to: Nothing older is on record; None: it goes back as far as was asked for.
        late_s: What is younger may not be on record yet.
    """

    source: str
    wipes: tuple[Wipe, ...]
    back_to: datetime | None = None
    late_s: float = 0.0


@runtime_checkable
class KeepsTrail(Protocol):
    """A cloud that can say, by a record that is not ours, which servers were reinstalled and by whom."""

    async def trail(self, servers: Sequence[ServerId], since: datetime) -> Trail:
        """Return what is on record of these servers since then, and perhaps of others as well.

        Raises:
            Rejected: We may not read it, or it is not switched on.
            CloudUnusable: Nobody knows where it is.
        """
        ...


@runtime_checkable
class KnowsPace(Protocol):
    """A client that finds out how fast it may ask."""

    def slowed(self) -> Mapping[str, float]:
        """Return calls a second by kind of call, of the kinds that throttling has slowed down."""
        ...


class Cloud(Protocol):
    """A cloud's servers."""

    async def whoami(self) -> Identity:
        """Log in if need be, and say as whom."""
        ...

    async def servers(self, only: AbstractSet[ServerId] | None = None) -> list[Server]:
        """Return every server of the project, all pages, each once, in the cloud's order.

        Args:
            only: Return these and no others, in the fewest calls that can show them. Whoever is missing
                from the answer may still be there, since lists lag: `server` tells.
        """
        ...

    async def server(self, server: ServerId) -> Server:
        """Return one server, read now.

        Raises:
            NotFound: There is no such server (any more).
        """
        ...

    async def stop(self, servers: Sequence[ServerId], *, force: bool) -> JobId | None:
        """Ask for servers to be stopped, in one call; *force* cuts the power. Safe to repeat.

        Give it running servers only: one that is off already may spoil the batch.

        Raises:
            Unavailable: Provably not taken.
            Rejected, Busy: The batch was refused as a whole.
            OutcomeUnknown: It may have been taken, or may land yet.
        """
        ...

    async def start(self, servers: Sequence[ServerId]) -> JobId | None:
        """Ask for servers to be started, in one call. Safe to repeat; as `stop`."""
        ...

    async def reinstall(self, order: ReinstallOrder, *, send_by: float, timeout_s: float) -> Accepted:
        """Wipe one server's system disk and install it anew. The one call that must not be made twice.

        Args:
            order: What to do.
            send_by: Reading of ``Clock.boottime`` after which it is not sent any more.
            timeout_s: How long to wait for the answer.

        Raises:
            Unavailable: Provably not taken.
            Rejected, Busy, NotFound: Refused, nothing happened.
            OutcomeUnknown: It may have been taken. Look; do not ask again.
        """
        ...

    async def job(self, job: JobId) -> Job:
        """Return a job.

        Raises:
            NotFound: Not known: not yet, or forgotten (a day after its end), or never was.
        """
        ...

    async def image(self, image: str) -> Image:
        """Return an image. Raises NotFound when it does not exist or is hidden from us."""
        ...

    async def key_pair(self, name: str) -> KeyPair:
        """Return one of our own key pairs. Raises NotFound for another user's as well."""
        ...

    def calls(self) -> Mapping[str, int]:
        """Return how many requests were sent so far, by kind (``list``, ``show``, ``job``, …)."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
