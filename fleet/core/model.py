"""What a cloud shows us: servers, disks, jobs, images, key pairs.

Provider-neutral; a provider's parser makes these from its answers. A raw answer is never kept: it can
carry user data with password hashes in it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NewType

import msgspec

ServerId = NewType("ServerId", str)
JobId = NewType("JobId", str)


class Disk(msgspec.Struct, frozen=True):
    """A disk attached to a server.

    Attributes:
        id: The volume's id.
        system: True for the disk that the server boots from.
        device: ``/dev/vda``; empty when the cloud does not say.
    """

    id: str
    system: bool
    device: str = ""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one server.

    Attributes:
        status: As the cloud says: ``ACTIVE``, ``SHUTOFF``, ``ERROR``, ``REBUILD`` …; ``UNKNOWN`` when it
            does not.
        task: What is being done to it (``powering-off``), or None when nothing is.
        disks: Attached disks, in no order. Empty in the middle of a reinstall on some clouds.
        addresses: Private (fixed) addresses, the primary first.
        public_addresses: Floating addresses.
        vpcs: Ids of the networks (VPCs) it has an address in.
        tags: User tags; a tag without value maps to ``""``. System tags (leading ``_``) included.
        claims: Tags by which runs say that they work on it; they are not in `tags` (`fleet.core.claimtag`).
        image: Id of the image it was made from: what a reinstall will install.
        enterprise_project: Its id, ``"0"`` being the default one; empty where the cloud has none.
        updated, launched_at: As the cloud wrote them, or empty. Weak evidence: shown, never decided upon.
        created: As the cloud wrote it, or empty; a reinstall does not change it. It decides `older_than`.
        unfit: Reasons why the cloud itself would refuse a reinstall (``frozen``, ``order lock`` …).
        installed_by: The job that made, or is making, the present installation, where a look tells that.
        installed: A look tells that this job is over: nothing more will come by itself, no start either.
    """

    id: ServerId
    name: str = ""
    status: str = "UNKNOWN"
    task: str | None = None
    vm_state: str = ""
    power: int | None = None
    locked: bool = False
    image: str = ""
    flavor: str = ""
    zone: str = ""
    key_pair: str = ""
    enterprise_project: str = ""
    disks: tuple[Disk, ...] = ()
    addresses: tuple[str, ...] = ()
    public_addresses: tuple[str, ...] = ()
    vpcs: tuple[str, ...] = ()
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    claims: dict[str, str] = msgspec.field(default_factory=dict)
    security_groups: tuple[str, ...] = ()
    created: str = ""
    updated: str = ""
    launched_at: str = ""
    fault: str = ""
    bare_metal: bool = False
    spot: bool = False
    unfit: tuple[str, ...] = ()
    installed_by: JobId | None = None
    installed: bool = False

    @property
    def system_disk(self) -> str | None:
        """Id of the disk it boots from, or None when it has none (or two, which nobody understands).

        It is what identifies an installation: a reinstall changes it, and nothing else does. Where disks have
        no such id a provider makes one from better evidence (`fleet.cloud.openstack.installations`).
        """
        found = [disk.id for disk in self.disks if disk.system]
        return found[0] if len(found) == 1 else None

    @property
    def data_disks(self) -> tuple[str, ...]:
        """Ids of the other disks, sorted."""
        return tuple(sorted(disk.id for disk in self.disks if not disk.system))

    @property
    def is_idle(self) -> bool:
        """Nothing is being done to it, by what this one look shows."""
        return self.task is None and self.status in {"ACTIVE", "SHUTOFF", "ERROR"}

    @property
    def is_off(self) -> bool:
        """Shut off and idle. A server that is being stopped still says ACTIVE."""
        return self.status == "SHUTOFF" and self.task is None

    @property
    def is_on(self) -> bool:
        """Running and idle."""
        return self.status == "ACTIVE" and self.task is None

    @property
    def label(self) -> str:
        """Name for people: ``web-1``, or the id when it has no name."""
        return self.name or self.id

    def state(self) -> str:
        """Return the state in a few words for a message: ``SHUTOFF``, ``ACTIVE (powering-off)``."""
        return f"{self.status} ({self.task})" if self.task else self.status


class JobStatus(StrEnum):
    """How far a job is. An unknown word of the cloud's counts as RUNNING."""

    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAIL = "FAIL"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The cloud's asynchronous work.

    Attributes:
        servers: Status by server for a batch job; one entry, or none, for a single one.
        code, reason: The cloud's own words when it failed; empty otherwise.
    """

    id: JobId
    status: JobStatus
    servers: dict[ServerId, JobStatus] = msgspec.field(default_factory=dict)
    code: str = ""
    reason: str = ""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image, as far as a reinstall cares.

    Attributes:
        cloud_init: Whether the image carries cloud-init, by what it says of itself (weak: the plan may
            overrule it).
        fit: Empty, or why it cannot be installed (``status queued``, ``a data disk image`` …).
        os_type: ``Linux``, ``Windows`` or ``Other``.
    """

    id: str
    name: str = ""
    cloud_init: bool = True
    fit: str = ""
    os_type: str = "Linux"


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """A key pair; visible to its owner only.

    Attributes:
        user_id: The owner, which the reinstall call wants to know; empty when the cloud does not say.
    """

    name: str
    user_id: str = ""
    fingerprint: str = ""


class Call(StrEnum):
    """Which of the cloud's calls installs a server."""

    REINSTALL_CLOUD_INIT = "reinstall-v2"
    REINSTALL_PLAIN = "reinstall-v1"
    CHANGE_CLOUD_INIT = "changeos-v2"
    CHANGE_PLAIN = "changeos-v1"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are to the cloud.

    Attributes:
        cloud: What this is, for people and for telling runs apart: ``https://iam.… project eu-de``.
    """

    user_id: str
    user_name: str
    project_id: str
    project_name: str
    cloud: str


class ScalingGroup(msgspec.Struct, frozen=True, kw_only=True):
    """An auto-scaling group that a server is a member of.

    Attributes:
        watches: It is in service: a member that is stopped counts as unhealthy and is removed.
        made_it: The group created the server itself, so that a removed one is deleted as well.
    """

    id: str
    name: str = ""
    watches: bool = True
    made_it: bool = False


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How many disks a project may have, and has. A reinstall in flight needs one more.

    Attributes:
        limit: None: as many as it likes.
    """

    limit: int | None
    used: int

    @property
    def left(self) -> int | None:
        """Return how many more there may be."""
        return None if self.limit is None else max(0, self.limit - self.used)


class BackupPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point in time that a whole server can be brought back to.

    Attributes:
        taken: When its data was read, UTC.
    """

    id: str
    taken: datetime
