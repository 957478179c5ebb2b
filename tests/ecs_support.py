"""What the tests of the ECS client share: a scripted transport, a login without a network, answers."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from aioresponses import aioresponses

from fleet.clock import Clock, LoopClock
from fleet.cloud.ecs.auth import LoggedIn
from fleet.cloud.ecs.client import EcsCloud
from fleet.cloud.ecs.endpoints import Endpoints
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.http import Request, Response, Transport
from fleet.core.model import Identity

IAM = "https://iam.eu-de.example.com"
ECS = "https://ecs.eu-de.example.com"
IMS = "https://ims.eu-de.example.com"
PROJECT = "0123456789abcdef0123456789abcdef"
USER = "7e25b1da389f4697a79df3a0e5bd494e"
SERVER = "616fb98f-46ca-475e-917e-2563e5a8cd19"
JOB = "ff808082889bd9690189061140c235fe"
IDENTITY = Identity(user_id=USER, user_name="deploy", project_id=PROJECT, project_name="eu-de", cloud=IAM)

TOKEN_BODY = {
    "token": {
        "issued_at": "2026-12-05T20:00:00.000000Z",
        "expires_at": "2026-12-06T20:00:00.000000Z",
        "user": {"id": USER, "name": "deploy"},
        "project": {"id": PROJECT, "name": "eu-de"},
        "catalog": [
            {
                "type": "ecs",
                "endpoints": [{"interface": "public", "region": "eu-de", "url": f"{ECS}/v1/{PROJECT}"}],
            }
        ],
    }
}


def answer(status: int = 200, body: object = None, **headers: str) -> Response:
    """Return a response; a body that is no bytes is made JSON; ``retry_after`` becomes ``retry-after``."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


Step = Response | Exception | Callable[[Request], Response]


class Script:
    """A transport that gives prepared answers in order, the last one for ever, and notes what it was sent."""

    def __init__(self, *steps: Step, takes_s: float = 0.0) -> None:
        self.steps = list(steps)
        self.takes_s = takes_s
        self.sent: list[Request] = []
        self.times: list[float] = []

    async def send(self, request: Request) -> Response:
        self.sent.append(request)
        self.times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes_s)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Response) else step(request)

    async def close(self) -> None:
        pass


class Known:
    """A login that is done already; `renew` gives another token as often as *renewals* says."""

    def __init__(self, renewals: int = 1000) -> None:
        self.number = 1
        self.renewals = renewals

    async def logged_in(self) -> LoggedIn:
        return LoggedIn(IDENTITY)

    async def headers(self, request: Request) -> dict[str, str]:  # noqa: ARG002  # as the protocol
        return {"X-Auth-Token": f"token-{self.number}"}

    async def renew(self, refused: Mapping[str, str]) -> bool:  # noqa: ARG002  # as the protocol
        self.number += 1
        self.renewals -= 1
        return self.renewals >= 0

    def logins(self) -> int:
        return 0


def cloud(transport: Transport, *, login: Any = None, clock: Clock | None = None, **options: Any) -> EcsCloud:
    """Return a client on *transport*, fast unless a pacer is given."""
    pacer = options.pop("pacer", None) or Pacer(10_000.0)
    endpoints = options.pop("endpoints", None) or Endpoints(IAM)
    return EcsCloud(
        transport,
        login or Known(),
        pacer,
        endpoints,
        clock=clock or LoopClock(),
        rng=random.Random(7),
        **options,
    )


class _Answer(aiohttp.ClientResponse):
    """aiohttp 3.14 wants a ``stream_writer`` that aioresponses 0.7.9 does not give (its issue 289)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        class Writer:
            output_size = 0

        kwargs.setdefault("stream_writer", Writer())
        super().__init__(*args, **kwargs)


class mocked(aioresponses):  # noqa: N801  # as its parent
    """aioresponses that works with aiohttp 3.14."""

    def add(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("response_class", _Answer)
        super().add(*args, **kwargs)
