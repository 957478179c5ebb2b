"""The built-in cloud in a process of its own, on the virtual time of the one that asks it.

    python tests/benchmarks/apart.py SOCKET SERVERS

So what the cloud remembers (who was asked for what, what every server shows) is not in the measured process,
and neither is its work. A request goes over a socket with the time at which it is made, and its outcome comes
back with the time that it takes; while the cloud thinks, no virtual time passes. One client after another is
served, so a run can be left half done by one process and be gone on with by the next.
"""

from __future__ import annotations

import resource
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import msgspec

from fleet.cloud.http import Request, Response
from fleet.cloud.simulator.face import Face, Outcome
from fleet.cloud.simulator.fleetfile import build_world, default_fleet

BASE_URL = "http://127.0.0.1"


class Asked(msgspec.Struct, array_like=True):
    """One request; without a method it asks for the cloud's record."""

    now: float
    method: str = ""
    url: str = ""
    headers: dict[str, str] = {}
    body: bytes | None = None


class Answered(msgspec.Struct, array_like=True):
    """What becomes of a request: see `fleet.cloud.simulator.face.Outcome`."""

    status: int
    headers: dict[str, str]
    body: bytes
    fate: str
    delay_s: float


class Record(msgspec.Struct):
    """What the cloud has on record.

    Attributes:
        calls: Requests by kind.
        reinstalls: Accepted ones: how often, and how many servers.
        cpu_s, rss_mib: Of the cloud's process.
    """

    calls: dict[str, int]
    reinstalls: dict[int, int]
    cpu_s: float
    rss_mib: float


_encode = msgspec.msgpack.Encoder().encode
_asked, _answered = msgspec.msgpack.Decoder(Asked).decode, msgspec.msgpack.Decoder(Answered).decode


def _put(file: BinaryIO, message: bytes) -> None:
    file.write(len(message).to_bytes(4, "big") + message)
    file.flush()


def _get(file: BinaryIO) -> bytes | None:
    size = file.read(4)
    return file.read(int.from_bytes(size, "big")) if len(size) == 4 else None


class CloudApart:
    """A cloud that another process is. A `SimulatedTransport` can take it for a `Face`."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 120.0
        while True:
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):  # it makes its servers up
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._file = self._socket.makefile("rwb")

    def handle(self, request: Request, now: float) -> Outcome:
        """Answer *request*; see `fleet.cloud.simulator.face.Face.handle`."""
        asked = Asked(now, request.method, request.url, dict(request.headers), request.body)
        _put(self._file, _encode(asked))
        found = _answered(self._answer())
        response = Response(found.status, found.headers, found.body)
        return Outcome(response, found.fate, found.delay_s)  # type: ignore[arg-type]  # one of its words

    def record(self, now: float) -> Record:
        """Return what it has on record."""
        _put(self._file, _encode(Asked(now)))
        return msgspec.msgpack.decode(self._answer(), type=Record)

    def _answer(self) -> bytes:
        if (answer := _get(self._file)) is None:
            raise EOFError("the cloud's process has died")
        return answer


def serve(path: Path, servers: int) -> None:
    """Answer one client after another, for ever."""
    face = Face(build_world(default_fleet(servers)), base_url=BASE_URL)
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(path))
    door.listen()
    while True:
        with door.accept()[0] as client, client.makefile("rwb") as file:
            while (asked := _get(file)) is not None:
                _put(file, _encode(_answer(face, _asked(asked))))


def _answer(face: Face, asked: Asked) -> Answered | Record:
    if asked.method:
        request = Request(asked.method, asked.url, headers=asked.headers, body=asked.body)
        found = face.handle(request, asked.now)
        answer = found.response
        return Answered(answer.status, dict(answer.headers), answer.body, found.fate, found.delay_s)
    face.world.advance(asked.now)
    return Record(
        calls=dict(sorted(face.world.ledger.requests.items())),
        reinstalls=dict(Counter(face.world.reinstalls().values())),
        cpu_s=round(time.process_time(), 3),
        rss_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
