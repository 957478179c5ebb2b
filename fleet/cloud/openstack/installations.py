"""What is installed on a server: the evidence that stands in for "a new system disk".

A server of Nova's has no system disk with an id that a rebuild changes: a local disk has no id at all, and a
root volume is written anew in place. Candidates for what tells one installation from another:

- *launched_at* changes when a rebuild has spawned; but a rescue, a resize and an unshelve change it too, it
  says nothing before the end, and nothing about a rebuild that failed.
- *image reference* and *metadata* change when a rebuild is taken, but not by one with the same image.
- *the action log* gets a line for every rebuild, with the id of its request, before Nova answers that
  request, and none for one that it refuses (``nova/compute/api.py``: the line follows the save of the task
  state). Lines of a living server are never deleted, and nothing but an installation writes such a line.

So an installation is called by the newest line that installs: ``rebuild:req-…``, ``create:req-…``. The same
on every look, another one after every rebuild that was taken, and after nothing else. A server whose log has
none (built before Nova kept one) is called by its own creation.

The log also sees through a false end: Nova shows a stopped server ACTIVE and idle in the middle of its
rebuild. While the line has no end, the look says that it is being rebuilt, whatever the state says.

It takes one call more per server, so it is only asked for when the server shows that anything was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from fleet.cloud.openstack.parse import INSTALLS, POWER, Action, Raw
from fleet.core.model import Disk, JobId, Server, ServerId
from fleet.errors import CloudUnusable, Rejected

UNFINISHED = "rebuild_unfinished"
"""Task of a server that looks idle while its rebuild has no end. Begins as Nova's own tasks of a rebuild
do."""

SETTLED_S = 2.0
"""``updated`` has whole seconds. A log that was read so long after a look first showed the present state
holds for as long as looks show the same."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What is installed, or being installed.

    Attributes:
        id: What `Server.system_disk` says.
        job: Of the rebuild that made it; None when it was built otherwise.
        over: Nothing more will come of it by itself.
    """

    id: str
    job: JobId | None = None
    over: bool = True


@dataclass(slots=True)
class _Known:
    """What was read of one server, and when (loop time)."""

    fingerprint: tuple[str, ...]
    since: float
    read_at: float
    installation: Installation


class Installations:
    """Finds out what is installed on servers, and remembers it as long as nothing can have changed.

    Args:
        read_all: Reads a server's log, the newest line first.
        read_one: Reads one line of it, with its events.
    """

    def __init__(
        self,
        read_all: Callable[[ServerId], Awaitable[list[Action]]],
        read_one: Callable[[ServerId, str], Awaitable[Action]],
    ) -> None:
        self._read_all = read_all
        self._read_one = read_one
        self._known: dict[ServerId, _Known] = {}

    async def complete(self, raw: Raw) -> Server:
        """Return the server with what is installed on it.

        Raises:
            CloudUnusable: The log is closed to us. Without it no installation can be told from another.
        """
        seen = raw.server
        known = self._known.get(seen.id)
        try:
            found = await self._of(raw)
        except CloudUnusable as error:
            if error.status != 403:
                raise
            raise CloudUnusable(
                f"server {seen.id}: its action log is closed to us: {error.message}",
                hint="fleet tells installations apart by it: allow os_compute_api:os-instance-actions:list "
                "and :show, which the project's role `reader` has by default",
                status=error.status,
                request_id=error.request_id,
            ) from error
        task = seen.task
        # The server was read before its log. If the log has ended meanwhile, then the server is as it was
        # before the end: ACTIVE, perhaps, on its way to SHUTOFF. The next look is newer than the end.
        ended_since = known is not None and known.installation != found
        if task is None and (not found.over or ended_since) and seen.status != "ERROR":
            task = UNFINISHED
        return msgspec.structs.replace(
            seen,
            task=task,
            disks=(Disk(id=found.id, system=True), *seen.disks),
            installed_by=found.job,
            installed=found.over and found.job is not None and task is None,
        )

    async def _of(self, raw: Raw) -> Installation:
        seen, now = raw.server, asyncio.get_running_loop().time()
        known = self._known.get(seen.id)
        if known is None or known.fingerprint != raw.fingerprint:
            since = now
        elif known.read_at - known.since >= SETTLED_S and (known.installation.over or seen.task is not None):
            return known.installation
        else:
            since = known.since
        found = await self._read(seen, known.installation if known else None)
        self._known[seen.id] = _Known(raw.fingerprint, since, now, found)
        return found

    async def _read(self, seen: Server, before: Installation | None) -> Installation:
        log = await self._read_all(seen.id)
        newest = next((number for number, line in enumerate(log) if line.name in INSTALLS), None)
        if newest is None:
            return Installation(f"built:{seen.created or seen.id}")
        line = log[newest]
        name = f"{line.name}:{line.request}"
        if line.name == "create":
            return Installation(name)
        job = job_id(seen.id, line.request)
        if before is not None and before.id == name and before.over:
            return before
        # Nova takes power actions when nothing else is being done: whatever has no end by then never gets
        # one.
        over = line.failed or any(later.name in POWER for later in log[:newest])
        if not over and seen.task is None:
            over = (await self._read_one(seen.id, line.request)).ended
        return Installation(name, job, over)


def job_id(server: ServerId, request: str) -> JobId:
    """Return the id of a rebuild's job: Nova finds an action by its server only."""
    return JobId(f"{server}/{request}")


def parts_of(job: JobId) -> tuple[ServerId, str]:
    """Return server and request of a job's id; see `job_id`.

    Raises:
        Rejected: It is none.
    """
    server, slash, request = job.partition("/")
    if not (server and slash and request):
        raise Rejected(f"{job!r} is no job of this cloud")
    return ServerId(server), request
