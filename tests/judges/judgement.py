"""What every judge needs: say what is right, stop at what is not. Imports nothing of ours."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# As in fleet/cloud/simulator/defaults.py; written out, since that may not be importable here.
PROJECT_ID = "0123456789abcdef0123456789abcdef"
USER_ID = "7e25b1da389f4697a79df3a0e5bd494e"
ACCESS_KEY = "SIMULATORKEY00000001"
SECRET_KEY = "simulatorSecretKey00000000000000000000001"
IMAGE_ID = "c71b64e7-4767-4406-afde-2c7c7ac2242c"
PLAIN_IMAGE_ID = "0b8f2d51-93ae-4c2e-9d6a-5a1f3c7e2b90"
PATIENCE_S = 60.0


class Mismatch(Exception):
    """Ours is not what the foreign client expects."""


def expect(what: str, found: object, wanted: object) -> None:
    """Compare one thing, and say so."""
    if found != wanted:
        raise Mismatch(f"{what}: {found!r} instead of {wanted!r}")
    print(f"ok: {what}")


def until(what: str, look: Callable[[], T], good: Callable[[T], bool]) -> T:
    """Look until it is as wanted; return the last look."""
    deadline = time.monotonic() + PATIENCE_S
    while not good(found := look()):
        if time.monotonic() > deadline:
            raise Mismatch(f"{what}: not within {PATIENCE_S:.0f} s")
        time.sleep(0.05)
    return found


def plain(
    url: str, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Make a request without any client; return status, headers by lower-case name, and the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 - the caller's loopback URL
        url + path, data, {"Content-Type": "application/json", **headers}, method=method
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        read = response.read()
        found = {name.lower(): value for name, value in response.headers.items()}
        return response.status, found, json.loads(read) if read else None


def order_fault(url: str, kind: str, **fields: Any) -> None:
    """Order a fault of the built-in cloud's, as its operator."""
    plain(url, "POST", "/_simulator/faults", {"kind": kind, **fields})


def run(judge: Callable[[str], None], agreed: str) -> int:
    """Run a judge with the command line's argument; return the exit code."""
    try:
        judge(sys.argv[1].rstrip("/"))
    except Mismatch as mismatch:
        print(f"MISMATCH: {mismatch}", file=sys.stderr)
        return 1
    print(agreed)
    return 0
