"""The plan's checks: is the reinstalled server good?

A check answers None, or why not, in words. It never raises for what a server does wrong. Commands get no
shell, the facts in ``FLEET_SERVER_*`` variables, and as JSON on their standard input. Of our own environment
they get what holds no secret: cloud passwords are none of their business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from typing import Protocol

import msgspec

from fleet.core.facts import facts, fill
from fleet.core.model import Server
from fleet.core.settings import Check, CommandCheck, HttpCheck, TcpCheck
from fleet.secrets import redact

CONNECT_TIMEOUT_S = 5.0
HTTP_TIMEOUT_S = 10.0
KEPT_OUTPUT = 300
"""Characters of a failed command's last output that reach the journal."""


def _without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* without the variables that a registered secret is part of.

    PATH stays, whatever it contains: without it a short secret would make every check fail.
    """
    return {name: value for name, value in environ.items() if name == "PATH" or redact(value) == value}


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
                case CommandCheck():
                    return await self._command(check, server)
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
                session.get(url, allow_redirects=False) as answer,
            ):
                if answer.status != check.status:
                    return f"http {redact(url)}: status {answer.status}, {check.status} was expected"
        except TimeoutError:
            return f"http {redact(url)}: no answer within {HTTP_TIMEOUT_S:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"http {redact(url)}: {redact(str(error)) or type(error).__name__}"
        return None

    async def _command(self, check: CommandCheck, server: Server) -> str | None:
        argv = [fill(word, server) for word in check.argv]
        known = facts(server)
        environment = _without_secrets(os.environ)
        environment |= {f"FLEET_SERVER_{key.upper()}": value for key, value in known.items()}
        name = os.path.basename(argv[0])  # noqa: PTH119 - a word for a message, no path is touched
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=self._folder,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return f"command {name}: cannot be started: {error.strerror or error}"
        try:
            async with asyncio.timeout(check.timeout_s):
                output, _ = await process.communicate(msgspec.json.encode(known))
        except TimeoutError:
            return f"command {name}: not done within {check.timeout_s:g} s"
        finally:
            # Also when we are cancelled: whatever it started must not outlive the run.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if process.returncode is None:
                await process.wait()
        if process.returncode == 0:
            return None
        lines = output.decode(errors="replace").strip().splitlines()
        said = f": {redact(lines[-1])[:KEPT_OUTPUT]}" if lines else ""
        return f"command {name}: ended with {process.returncode}{said}"
