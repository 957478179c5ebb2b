"""What is installed on a server, by Nova's log: two answers, and what lies between them."""

from __future__ import annotations

from fleet.cloud.openstack.installations import UNFINISHED, Installations
from fleet.cloud.openstack.parse import Action, Raw
from fleet.core.model import Server, ServerId

WEB = ServerId("web")
CREATED = Action(name="create", request="req-1", ended=True)


class Log:
    """Nova's log of one server, as it is at the moment."""

    def __init__(self) -> None:
        self.lines = [CREATED]

    async def all(self, _server: ServerId) -> list[Action]:
        return self.lines

    async def one(self, _server: ServerId, request: str) -> Action:
        return next(line for line in self.lines if line.request == request)


def _raw(status: str, updated: str, task: str | None = None) -> Raw:
    server = Server(id=WEB, status=status, task=task, updated=updated)
    return Raw(server=server, from_volume=False, in_doubt=False)


async def test_a_look_older_than_the_end_of_the_rebuild_is_not_idle() -> None:
    """The server is read, ACTIVE in passing; then the rebuild ends, and the server is off; then the log is
    read. Together they would say that a finished server runs. Seen on a real Nova."""
    log = Log()
    installations = Installations(log.all, log.one)
    assert (await installations.complete(_raw("SHUTOFF", "1"))).task is None
    log.lines = [Action(name="rebuild", request="req-2"), CREATED]
    seen = await installations.complete(_raw("REBUILD", "2", "rebuild_spawning"))
    assert (seen.installed, seen.task) == (False, "rebuild_spawning")

    in_passing = _raw("ACTIVE", "3")
    log.lines = [Action(name="rebuild", request="req-2", ended=True), CREATED]
    seen = await installations.complete(in_passing)
    assert (seen.installed, seen.task) == (False, UNFINISHED)

    seen = await installations.complete(_raw("SHUTOFF", "4"))
    assert (seen.installed, seen.task, seen.status) == (True, None, "SHUTOFF")


async def test_the_same_where_nobody_saw_the_rebuild_begin() -> None:
    log = Log()
    installations = Installations(log.all, log.one)
    await installations.complete(_raw("SHUTOFF", "1"))
    log.lines = [Action(name="rebuild", request="req-2", ended=True), CREATED]
    assert (await installations.complete(_raw("ACTIVE", "2"))).task == UNFINISHED
    assert (await installations.complete(_raw("ACTIVE", "2"))).task is None


async def test_a_first_look_is_believed() -> None:
    """Servers that were rebuilt long ago are idle in the first look at them."""
    log = Log()
    log.lines = [Action(name="rebuild", request="req-2", ended=True), CREATED]
    seen = await Installations(log.all, log.one).complete(_raw("ACTIVE", "1"))
    assert (seen.installed, seen.task) == (True, None)
