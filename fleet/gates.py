"""Gates: conditions of the living service for starting, and for wiping, anything. Unreadable is red."""

from __future__ import annotations

import math
import os
from urllib.parse import urlsplit

from fleet.commands import execute, usual
from fleet.core.settings import CommandGate, Gate, HttpGate, PromqlGate
from fleet.secrets import redact

TIMEOUT_S = 10.0
LOOK_S = 10.0
"""How often the gates are read while somebody may be started."""

MAX_BYTES = 1 << 20


class Gates:
    """The gates of a plan.

    Args:
        gates: They.
        folder: The plan's, which commands run in.
    """

    def __init__(self, gates: tuple[Gate, ...], folder: str) -> None:
        self._gates = gates
        self._folder = folder

    async def red(self) -> str | None:
        """Read every gate; return the first that is red, with the reason, or None."""
        for gate in self._gates:
            if (why := await self._read(gate)) is not None:
                return why
        return None

    async def _read(self, gate: Gate) -> str | None:
        match gate:
            case CommandGate():
                ran = await execute(
                    gate.argv,
                    folder=self._folder,
                    environment=usual(os.environ),
                    stdin=b"",
                    timeout_s=gate.timeout_s,
                )
                return None if ran.why is None else f"gate is red: {ran.why}"
            case HttpGate():
                status, _ = await _get(gate.url, {})
                if status == gate.status:
                    return None
                return f"gate {_shown(gate.url)} is red: {_words(status)}, {gate.status} was expected"
            case PromqlGate():
                return await _promql(gate)


async def _promql(gate: PromqlGate) -> str | None:
    import msgspec  # noqa: PLC0415 - late: start-up stays fast

    name = f"gate {gate.query!r} is red"
    url = gate.url.rstrip("/")
    status, body = await _get(url if url.endswith("/query") else f"{url}/api/v1/query", {"query": gate.query})
    if status != 200:
        return f"{name}: {_words(status)}"
    try:
        found = msgspec.json.decode(body)["data"]
        values = (
            [found["result"]]
            if found["resultType"] == "scalar"
            else [each["value"] for each in found["result"]]
        )
        figures = [float(value[1]) for value in values]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, IndexError):
        return f"{name}: the answer is not Prometheus's"
    if not figures:
        return f"{name}: the query has no result"
    for figure in figures:
        if math.isnan(figure):
            return f"{name}: its figure is NaN"
        if gate.below is not None and not figure < gate.below:
            return f"{name}: {figure:g}, must be below {gate.below:g}"
        if gate.above is not None and not figure > gate.above:
            return f"{name}: {figure:g}, must be above {gate.above:g}"
    return None


async def _get(url: str, query: dict[str, str]) -> tuple[int | str, bytes]:
    """Return status and body of a URL, or why there is none."""
    import aiohttp  # noqa: PLC0415 - only for plans with such gates

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(url, params=query or None, allow_redirects=False) as answer,
        ):
            body = b""
            while len(body) < MAX_BYTES and (chunk := await answer.content.read(65536)):
                body += chunk
            return answer.status, body
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s", b""
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return redact(type(error).__name__), b""


def _words(status: int | str) -> str:
    return f"status {status}" if isinstance(status, int) else status


def _shown(url: str) -> str:
    """Leave out what may be secret in a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
