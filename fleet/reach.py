"""How far a host can be reached: name, connection, TLS, and the clock behind it. For `fleet doctor`.

Looks only: it connects, shakes hands and reads a header. Nobody is logged in.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from fleet.clock import Clock
from fleet.cloud.ecs.auth import clock_skew_s
from fleet.cloud.ecs.transport import CERTIFICATE_HINT, AiohttpTransport, tls_context
from fleet.cloud.http import Request
from fleet.errors import CloudUnusable

TIMEOUT_S = 10.0
SOON_DAYS = 14
"""A certificate that ends sooner is mentioned: the next maintenance may be later than that."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What was learnt.

    Attributes:
        said: In words.
        skew_s: How far our clock is ahead of the host's, seconds; None: it does not say.
    """

    said: str
    skew_s: float | None = None


async def reach(url: str, clock: Clock, cafile: str | None) -> Reached:
    """Try a URL's host, step by step.

    Raises:
        CloudUnusable: The first step that failed, with what to do about it.
    """
    transport = AiohttpTransport(clock, cafile=cafile)
    try:
        if (proxy := transport.proxy_for(url)) is not None:
            await _connect(proxy, None, "the proxy ")
            said = f"through the proxy {proxy}"
        else:
            said = await _connect(url, cafile)
        response = await transport.send(Request("GET", url, timeout_s=TIMEOUT_S))
    finally:
        await transport.close()
    return Reached(said, clock_skew_s(response, clock.now()))


async def _connect(url: str, cafile: str | None, what: str = "") -> str:
    """Look up a name, connect, and for https shake hands; return what was found."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    addresses = await _look_up(host, port, what)
    said = "connected" if addresses == [host] else f"{host} is {', '.join(addresses)}"
    tls = tls_context(cafile) if parts.scheme == "https" and not what else None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=tls)
    except ssl.SSLCertVerificationError as error:
        raise CloudUnusable(
            f"{host}:{port}: its certificate is not trusted: {error.verify_message}",
            hint=CERTIFICATE_HINT,
        ) from None
    except ssl.SSLError as error:
        raise CloudUnusable(
            f"{host}:{port}: no TLS: {error.reason or error}", hint="check the port, and what answers there"
        ) from None
    except TimeoutError:
        raise CloudUnusable(
            f"{what}{host}:{port}: no connection within {TIMEOUT_S:g} s", hint=_NETWORK
        ) from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise CloudUnusable(f"{what}{host}:{port}: no connection: {why}", hint=_NETWORK) from None
    session = writer.get_extra_info("ssl_object")
    writer.transport.abort()
    return said if session is None else f"{said}; {session.version()}, {_certificate(session)}"


_NETWORK = "check routes and firewalls from this machine; behind a proxy export HTTPS_PROXY"


async def _look_up(host: str, port: int, what: str) -> list[str]:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        why = getattr(error, "strerror", None) or "no answer in time"
        raise CloudUnusable(
            f"{what}{host}: the name is not known: {why}",
            hint="check the address and the region in it, and this machine's name servers (/etc/resolv.conf)",
        ) from None
    return _once(str(each[4][0]) for each in found)


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _certificate(session: ssl.SSLObject) -> str:
    found = session.getpeercert() or {}
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)
    left = (ends - datetime.now(UTC)).days
    return f"certificate until {ends:%Y-%m-%d}" + (f", in {left} days" if left < SOON_DAYS else "")
