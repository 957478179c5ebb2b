"""A whole provider to copy from, and the laboratory that holds it to the contract: docs/providers.md.

`TinyProvider` is what a stranger writes: one method a call, errors by what the caller may do next.
`TinyCloud` is the cloud that it speaks to, as small as one can be that is not kind: jobs take a while, a
second call is refused while one is at work, and a disk has another id after each. A real laboratory has a
real cloud in its place.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from contract.lab import Lab, Lossy

from fleet.clock import Clock, SystemClock
from fleet.cloud.api import Accepted, Cloud, ReinstallOrder
from fleet.cloud.http import Request, Response, Transport, id_segment, segment
from fleet.core.model import Disk, Identity, Image, Job, JobId, JobStatus, KeyPair, Server, ServerId
from fleet.errors import (
    Busy,
    CloudError,
    CloudUnusable,
    NotFound,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Unavailable,
)

TINY = "https://tiny.example"


class TinyProvider:
    """The servers of one account of the tiny cloud. A real one repeats what is `Unavailable`, with pauses."""

    def __init__(self, transport: Transport, token: str) -> None:
        self._transport = transport
        self._token = token
        self._calls: Counter[str] = Counter()

    async def whoami(self) -> Identity:
        """Say as whom we are logged in."""
        found = await self._read("whoami", "/me")
        return Identity(
            user_id=found["user"], user_name=found["user"], project_id="tiny", project_name="tiny", cloud=TINY
        )

    async def servers(self, only: AbstractSet[ServerId] | None = None) -> list[Server]:
        """Return every server, or *only* some."""
        found = [_server(each) for each in (await self._read("list", "/servers"))["servers"]]
        return [server for server in found if only is None or server.id in only]

    async def server(self, server: ServerId) -> Server:
        """Return one server, read now."""
        seen = _server(await self._read("show", f"/servers/{id_segment(server)}"))
        if seen.id != server:  # never believe an answer about somebody else
            raise Unavailable(f"reading server {server}: the answer is about another one")
        return seen

    async def stop(self, servers: Sequence[ServerId], *, force: bool) -> None:
        """Ask for servers to be stopped."""
        await self._switch("stop", servers, force=force)

    async def start(self, servers: Sequence[ServerId]) -> None:
        """Ask for servers to be started."""
        await self._switch("start", servers)

    async def reinstall(self, order: ReinstallOrder, *, send_by: float, timeout_s: float) -> Accepted:
        """Wipe one server. One request, whatever comes of it."""
        what = f"reinstall of server {order.server}"
        body = {"key": order.key_pair, "image": order.image}
        path = f"/servers/{id_segment(order.server)}/reinstall"
        response = await self._send("reinstall", "POST", path, body, send_by=send_by, timeout_s=timeout_s)
        said = _object(response)
        if response.status == 202 and isinstance(said.get("job"), str):
            return Accepted(job=JobId(said["job"]))
        raise _refusal(response, what, wipes=True)

    async def job(self, job: JobId) -> Job:
        """Return a job; a word that is not known is "still at it"."""
        found = await self._read("job", f"/jobs/{id_segment(job)}")
        words = {"done": JobStatus.SUCCESS, "failed": JobStatus.FAIL}
        return Job(id=job, status=words.get(found["status"], JobStatus.RUNNING), reason=found.get("why", ""))

    async def image(self, image: str) -> Image:
        """Return an image."""
        return Image(id=(await self._read("image", f"/images/{segment(image)}"))["id"])

    async def key_pair(self, name: str) -> KeyPair:
        """Return a key pair of ours."""
        return KeyPair(name=(await self._read("key-pair", f"/keys/{segment(name)}"))["name"])

    def calls(self) -> Mapping[str, int]:
        """Return how many requests were sent, by kind."""
        return dict(self._calls)

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    async def _switch(self, kind: str, servers: Sequence[ServerId], **more: object) -> None:
        for server in servers:
            response = await self._send(kind, "POST", f"/servers/{id_segment(server)}/{kind}", more)
            if response.status != 202:
                raise _refusal(response, f"{kind} of server {server}", wipes=False)

    async def _read(self, kind: str, path: str) -> dict[str, Any]:
        try:
            response = await self._send(kind, "GET", path)
        except OutcomeUnknown as error:  # of a read: it may be asked again
            raise Unavailable(error.message) from None
        if response.status != 200:
            raise _refusal(response, f"GET {path}", wipes=False)
        return _object(response)

    async def _send(
        self,
        kind: str,
        method: str,
        path: str,
        body: object = None,
        *,
        send_by: float | None = None,
        timeout_s: float = 30.0,
    ) -> Response:
        self._calls[kind] += 1
        data = None if body is None else json.dumps(body).encode()
        return await self._transport.send(
            Request(method, TINY + path, {"X-Token": self._token}, data, timeout_s, send_by)
        )


def _server(raw: Mapping[str, Any]) -> Server:
    """Read a server. What the cloud does not say stays empty; nothing raw is kept."""
    return Server(
        id=ServerId(raw["id"]),
        name=raw["name"],
        status=raw["status"],
        task=raw["task"],
        flavor=raw["flavor"],
        image=raw["image"],
        disks=(Disk(id=raw["disk"], system=True),),
    )


def _refusal(response: Response, what: str, *, wipes: bool) -> CloudError:
    """Return what an answer that is no success lets the caller do; in doubt, nothing was proved."""
    said = str(_object(response).get("error", ""))
    text = f"{what}: HTTP {response.status}: {said or 'no explanation'}"
    if wipes and not said:
        return OutcomeUnknown(text)  # not in the cloud's own words: a proxy's, perhaps
    match response.status:
        case 401 | 403:
            return CloudUnusable(text, hint="check the token")
        case 404:
            return NotFound(text)
        case 409:
            return Busy(text)
        case 429:
            return Unavailable(text)
        case status if 400 <= status < 500:
            refused = Rejected(text)
            refused.everybody = "key" in said  # every server of the plan would meet it
            return refused
    return OutcomeUnknown(text) if wipes else Unavailable(text)


def _object(response: Response) -> dict[str, Any]:
    try:
        found = json.loads(response.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# -- the laboratory ---------------------------------------------------------------------------------------


@dataclass
class _Machine:
    id: str
    name: str
    image: str
    status: str = "ACTIVE"
    disk: str = field(default_factory=lambda: str(uuid4()))
    reinstalls: int = 0
    job: str = ""
    looks_left: int = 0
    """How often the job still says that it runs."""


class TinyCloud:
    """The cloud, as a transport: what a real laboratory has on the other side of the network."""

    def __init__(self, clock: Clock, count: int) -> None:
        self._clock = clock
        self.image, self.other_image = str(uuid4()), str(uuid4())
        made = (_Machine(str(uuid4()), f"web-{number}", self.image) for number in range(count))
        self.machines = {machine.id: machine for machine in made}

    async def send(self, request: Request) -> Response:
        """Answer one request."""
        if request.send_by is not None and self._clock.boottime() > request.send_by:
            raise NotSent("the send-by time has passed")
        assert request.headers["X-Token"] == "t0ken"
        words = request.url.removeprefix(TINY).strip("/").split("/")
        body = json.loads(request.body) if request.body else {}
        status, said = self._answer(words, body)
        return Response(status, {}, json.dumps(said).encode())

    async def close(self) -> None:
        """Nothing is open."""

    async def reinstalls(self, server: ServerId) -> int:
        """Return the cloud's own record: the laboratory's judge."""
        return self.machines[server].reinstalls

    def _answer(self, words: list[str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        for machine in self.machines.values():
            self._go_on(machine)
        match words:
            case ["me"]:
                return 200, {"user": "somebody"}
            case ["servers"]:
                return 200, {"servers": [self._shown(machine) for machine in self.machines.values()]}
            case ["servers", name] if name in self.machines:
                return 200, self._shown(self.machines[name])
            case ["servers", name, action] if name in self.machines:
                return self._act(self.machines[name], action, body)
            case ["jobs", name]:
                for machine in self.machines.values():
                    if machine.job == name:
                        return 200, {"status": "running" if machine.looks_left else "done"}
            case ["images", name] if name in {self.image, self.other_image}:
                return 200, {"id": name}
            case ["keys", "deploy"]:
                return 200, {"name": "deploy"}
        return 404, {"error": "there is no such thing"}

    def _act(self, machine: _Machine, action: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if machine.looks_left:
            return 409, {"error": "a reinstall is at work"}
        if action in {"stop", "start"}:
            machine.status = "SHUTOFF" if action == "stop" else "ACTIVE"
            return 202, {}
        if machine.status != "SHUTOFF":
            return 409, {"error": "it runs"}
        if body["key"] != "deploy":
            return 400, {"error": "there is no such key"}
        machine.image = body["image"] or machine.image
        machine.reinstalls, machine.looks_left = machine.reinstalls + 1, 6
        machine.job, machine.disk = str(uuid4()), str(uuid4())
        return 202, {"job": machine.job}

    def _go_on(self, machine: _Machine) -> None:
        if machine.looks_left:
            machine.looks_left -= 1
            if not machine.looks_left:
                machine.status = "ACTIVE"

    def _shown(self, machine: _Machine) -> dict[str, Any]:
        shown = {"id": machine.id, "name": machine.name, "status": machine.status, "image": machine.image}
        task = "rebuilding" if machine.looks_left else None
        return shown | {"task": task, "disk": machine.disk, "flavor": "tiny"}


@asynccontextmanager
async def tiny_lab() -> AsyncIterator[Lab]:
    """Return the laboratory: ``FLEET_CONTRACT=contract.template:tiny_lab``."""
    clock = SystemClock()
    there = TinyCloud(clock, count=4)
    wire = Lossy(there, lambda request: request.url.endswith("/reinstall"))
    cloud: Cloud = TinyProvider(wire, "t0ken")  # mypy says here whether it is one
    yield Lab(
        cloud=cloud,
        wire=wire,
        judge=there,
        servers=[ServerId(name) for name in there.machines],
        key_pair="deploy",
        image=there.other_image,
        pause_s=0.0,
        boottime=clock.boottime,
    )
    await cloud.close()
