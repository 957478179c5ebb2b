"""What the built-in cloud has: servers, disks, jobs, images, key pairs, users."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final
from uuid import NAMESPACE_DNS, uuid5

import msgspec

from fleet.cloud.simulator import defaults


class Show(Enum):
    """What a server shows: status, vm_state, task_state, power_state (ECS API reference, section 3.1)."""

    ACTIVE = ("ACTIVE", "active", None, 1)
    STOPPING = ("ACTIVE", "active", "powering-off", 1)
    OFF = ("SHUTOFF", "stopped", None, 4)
    STARTING = ("SHUTOFF", "stopped", "powering-on", 4)
    REBOOTING = ("REBOOT", "active", "rebooting", 1)
    REBUILDING = ("REBUILD", "stopped", "rebuilding", 4)
    REBUILD_MAPPING = ("REBUILD", "stopped", "rebuild_block_device_mapping", 4)
    REBUILD_SPAWNING = ("REBUILD", "stopped", "rebuild_spawning", 4)
    SPAWNING = ("BUILD", "building", "spawning", 0)
    ERROR = ("ERROR", "error", None, 0)


class Disk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A disk that a server of a fleet starts with."""

    id: str
    system: bool = False
    device: str = ""


class ServerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A server as it is when the world begins.

    Attributes:
        id: Made up from the world's seed when empty.
        status: ACTIVE, SHUTOFF or ERROR.
        disks: Made up when None: a system disk and *data_disks* more.
        metadata: On top of what every server has.
        user_data: As text; shown as base64.
        profile: Of its reinstalls, A or B; the world's setting when None.
    """

    name: str
    id: str = ""
    status: str = "ACTIVE"
    tags: tuple[str, ...] = ()
    zone: str = defaults.ZONES[0]
    flavor: str = defaults.FLAVOR
    image: str = defaults.IMAGE_ID
    vpc: str = defaults.VPC_ID
    address: str = ""
    age_s: float | None = None  # when the world begins; all are about as old when None
    floating: str = ""
    key_name: str = defaults.KEY_PAIR
    locked: bool = False
    enterprise_project: str = "0"
    data_disks: int = 0
    disks: tuple[Disk, ...] | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    user_data: str = ""
    profile: str | None = None


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An image of the cloud.

    Attributes:
        cloud_init: Whether it carries cloud-init; without, it says ``__support_fc_inject: true``.
        kind: ``virtual_env_type``: FusionCompute is a system disk's.
    """

    name: str
    id: str
    cloud_init: bool = True
    status: str = "active"
    os_type: str = "Linux"
    kind: str = "FusionCompute"


class KeyPairRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A key pair; only its owner sees it."""

    name: str
    user_id: str
    fingerprint: str = "49:ef:73:2b:9b:7f:2e:0c:58:d3:e3:42:8e:28:04:3b"


class ScalingGroupRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An auto-scaling group.

    Attributes:
        servers: Names (globs) of its members.
        status: INSERVICE or PAUSED: a paused one removes nobody.
        made_them: It created its members itself.
    """

    name: str
    servers: tuple[str, ...]
    status: str = "INSERVICE"
    made_them: bool = True

    @property
    def id(self) -> str:
        """Made from the name."""
        return str(uuid5(NAMESPACE_DNS, f"scaling-group/{self.name}"))


class BackupRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A backup that servers have.

    Attributes:
        servers: Names (globs) of the servers; each has one of its own.
        age_s: How old it is when the world begins.
        status: ``available``, or ``protecting``, ``error`` …
    """

    servers: tuple[str, ...]
    age_s: float = 3600.0
    status: str = "available"


class User(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user of the cloud.

    Attributes:
        id: Made from the name when empty.
        access_keys: Secret keys by access key.
        application_credentials: Secrets by id.
        denied: Actions that the user's policy forbids, such as ``ecs:cloudServers:rebuild``.
    """

    name: str = defaults.USER_NAME
    id: str = ""
    password: str = defaults.USER_PASSWORD
    access_keys: dict[str, str] = msgspec.field(default_factory=dict)
    application_credentials: dict[str, str] = msgspec.field(default_factory=dict)
    denied: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.id:
            own = defaults.USER_ID if self.name == defaults.USER_NAME else uuid5(NAMESPACE_DNS, self.name).hex
            msgspec.structs.force_setattr(self, "id", own)


DEFAULT_USER: Final = User(
    access_keys={defaults.ACCESS_KEY: defaults.SECRET_KEY},
    application_credentials={defaults.APPLICATION_CREDENTIAL: defaults.APPLICATION_SECRET},
)


class Project(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The project that everything belongs to."""

    name: str = defaults.PROJECT_NAME
    id: str = defaults.PROJECT_ID
    domain: str = defaults.DOMAIN_NAME
    domain_id: str = defaults.DOMAIN_ID


@dataclass(slots=True)
class Volume:
    """A disk. *created* is seconds of the cloud's time."""

    id: str
    system: bool
    device: str
    created: float
    image: str = ""
    size_gb: int = 40


@dataclass(slots=True)
class Job:
    """Asynchronous work; a parent's state follows from its children's.

    Attributes:
        status: INIT, RUNNING, SUCCESS or FAIL.
        end: Seconds, or None while it runs.
        vanished_at: Since when nobody knows it any more, or None.
    """

    id: str
    type: str
    begin: float
    server: str = ""
    status: str = "INIT"
    end: float | None = None
    code: str | None = None
    reason: str | None = None
    children: list[Job] = field(default_factory=list)
    parent: Job | None = None
    vanished_at: float | None = None


@dataclass(slots=True, eq=False)
class Operation:
    """What the cloud is doing to one server. A transition of an operation that was replaced does nothing.

    Attributes:
        kind: ``stop``, ``start``, ``reboot`` or ``reinstall``.
        jobs: Jobs that end with it: more than one where a hard stop took over from a soft one.
        begun: A reinstall that has left the queue.
        lingers: The server is as it will be, and available; only its job still runs.
    """

    kind: str
    jobs: list[Job]
    hard: bool = False
    begun: bool = False
    lingers: bool = False


@dataclass(slots=True, eq=False)
class Server:
    """A server, as it really is.

    Attributes:
        number: Its place in the world, from 0; stable, so durations hang on it.
        show: What it shows. *operation* is what is really going on: the two may disagree.
        reinstall_failed: The last reinstall failed, which makes another one acceptable.
        temporary: Made by the platform for a reinstall of another one; nobody must touch it.
        draws: How many durations of each kind were drawn.
        waiting: Reinstalls accepted while one was queued.
        actions: Nova's log of it: action, request id, user, start, end or None.
        rendered: JSON of its description, or None when that is out of date.
        history: What it showed before: (until when, JSON); kept when somebody wants to see stale views.
        down: Counted as not available.
    """

    id: str
    name: str
    number: int
    show: Show
    disks: list[Volume]
    spec: ServerSpec
    key_name: str
    image: str
    user_data: str
    address: str
    port: str
    profile: str
    sparse: bool
    created: float
    updated: float
    launched: float
    locked: bool
    tags: list[str]
    fault: dict[str, Any] | None = None
    operation: Operation | None = None
    reinstall_failed: bool = False
    temporary: bool = False
    gone: bool = False
    down: bool = False
    draws: dict[str, int] = field(default_factory=dict)
    waiting: list[Any] = field(default_factory=list)
    actions: list[dict[str, Any]] = field(default_factory=list)
    rendered: bytes | None = None
    history: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def system_disk(self) -> Volume | None:
        """The disk that it boots from, or None when it has none just now."""
        return next((disk for disk in self.disks if disk.system), None)
