"""The plan's checks: is the reinstalled server good?

A check answers None, or why not, in words. It never raises for what a server does wrong. Commands get the
facts in ``FLEET_SERVER_*`` variables, and as JSON on their standard input; the rest: see `fleet.commands`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from typing import Protocol

import msgspec

from fleet.commands import execute, run_command, without_secrets
from fleet.core.facts import facts, fill
from fleet.core.model import Server
from fleet.core.settings import Check, CommandCheck, HttpCheck, NonceCheck, SshCheck, TcpCheck
from fleet.secrets import redact

CONNECT_TIMEOUT_S = 5.0
HTTP_TIMEOUT_S = 10.0
READ_BODY = 65536
"""Bytes of an answer's body that a regular expression is looked for in."""

_BANNER, _BANNER_LINES = 8192, 20


class Checker(Protocol):
    """Runs checks. A seam: on virtual time there is no network to check."""

    async def run(self, check: Check, server: Server) -> str | None:
        """Return None when *check* passes on *server*, else why not."""
        ...


class NetworkChecker:
    """Runs checks for real.

    Args:
        folder: Where commands run: the plan's folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    async def run(self, check: Check, server: Server) -> str | None:
        """Run one check."""
        try:
            match check:
                case TcpCheck(port=port):
                    return await self._tcp(port, server)
                case HttpCheck():
                    return await self._http(check, server)
                case SshCheck(port=port):
                    return await self._ssh(port, server)
                case CommandCheck():
                    return await self._command(check, server)
                case NonceCheck():
                    return await self._nonce(check, server)
        except ValueError as error:  # a fact that the check asks for and this server has not
            return str(error)

    async def _tcp(self, port: int, server: Server) -> str | None:
        if not server.addresses:
            return f"tcp {port}: the server shows no private address"
        address = server.addresses[0]
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(address, port)
        except TimeoutError:
            return f"tcp {address}:{port}: no answer within {CONNECT_TIMEOUT_S:g} s"
        except OSError as error:
            return f"tcp {address}:{port}: {error.strerror or error}"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return None

    async def _http(self, check: HttpCheck, server: Server) -> str | None:
        import aiohttp  # noqa: PLC0415 - a third of a second that most plans need not pay

        url = fill(check.url, server)
        timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(url, allow_redirects=False, ssl=check.tls) as answer,
            ):
                if answer.status != check.status:
                    return f"http {redact(url)}: status {answer.status}, {check.status} was expected"
                if check.body is not None:
                    body = b""
                    while len(body) < READ_BODY and (chunk := await answer.content.read(READ_BODY)):
                        body += chunk
                    if re.search(check.body, body.decode(errors="replace")) is None:
                        return f"http {redact(url)}: nothing in the answer matches {check.body!r}"
        except TimeoutError:
            return f"http {redact(url)}: no answer within {HTTP_TIMEOUT_S:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"http {redact(url)}: {redact(str(error)) or type(error).__name__}"
        return None

    async def _ssh(self, port: int, server: Server) -> str | None:
        if not server.addresses:
            return f"ssh {port}: the server shows no private address"
        address = server.addresses[0]
        line = b""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(address, port, limit=_BANNER)
                try:
                    # A server may say other lines first (RFC 4253, section 4.2).
                    for _ in range(_BANNER_LINES):
                        line = await reader.readline()
                        if not line or line.startswith(b"SSH-"):
                            break
                finally:
                    writer.close()
        except TimeoutError:
            return f"ssh {address}:{port}: no banner within {CONNECT_TIMEOUT_S:g} s"
        except (OSError, ValueError) as error:
            return f"ssh {address}:{port}: {getattr(error, 'strerror', None) or error}"
        return None if line.startswith(b"SSH-") else f"ssh {address}:{port}: what answers is no SSH server"

    async def _nonce(self, check: NonceCheck, server: Server) -> str | None:
        if check.url is not None:
            shown = HttpCheck(url=check.url, body=re.escape(check.expected), tls=check.tls)
            why = await self._http(shown, server)
            return None if why is None else f"nonce: {why}"
        known = facts(server)
        ran = await execute(
            [fill(word, server) for word in check.argv or ()],
            folder=self._folder,
            environment=without_secrets(os.environ)
            | {f"FLEET_SERVER_{key.upper()}": value for key, value in known.items()},
            stdin=msgspec.json.encode(known),
            timeout_s=check.timeout_s,
        )
        if ran.why is not None:
            return f"nonce: {ran.why}"
        if check.expected.encode() in ran.output:
            return None
        return "nonce: the server shows another one, or none: it is not this run that has installed it"

    async def _command(self, check: CommandCheck, server: Server) -> str | None:
        known = facts(server)
        return await run_command(
            [fill(word, server) for word in check.argv],
            folder=self._folder,
            variables={f"FLEET_SERVER_{key.upper()}": value for key, value in known.items()},
            stdin=msgspec.json.encode(known),
            timeout_s=check.timeout_s,
        )
