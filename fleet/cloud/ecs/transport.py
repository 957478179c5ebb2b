"""HTTP over sockets: `fleet.cloud.http.Transport` on aiohttp.

What it is careful about, since one of the requests it carries wipes a disk:

- *Sent or not* is observed, not guessed from an exception's class: until a connection (TLS included) has
  been handed over nothing can have left, from then on everything may have.
- Nothing is sent twice. aiohttp itself re-sends GET, HEAD, OPTIONS, TRACE, PUT and DELETE once when a
  kept-alive connection turns out dead (``IDEMPOTENT_METHODS`` in its ``client.py``). POST it never does;
  every call that changes something here is a POST.
- A request with a send-by time has a connection of its own, and the time is read after that connection
  stands: a slow handshake, or a machine that was suspended in it, ends in `NotSent`.
- Redirects are not followed, cookies not kept, ``.netrc`` not read, certificates always checked.
"""

from __future__ import annotations

import enum
import os
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from yarl import URL

from fleet import __version__
from fleet.clock import Clock
from fleet.cloud.ecs.endpoints import is_loopback
from fleet.cloud.http import Request, Response
from fleet.errors import CloudUnusable, NotSent, OutcomeUnknown
from fleet.secrets import redact, register

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer, unpacked. A list page of 1,000 servers has about 4 MiB."""

MAX_HEADER = 128 * 1024
"""Bytes of one header: a token with its catalog inside comes in one, and has several KB (aiohttp: 8 KB)."""

CONNECT_TIMEOUT_S = 10.0
CONNECTIONS = 32


class _Stage(enum.Enum):
    NEW = "not begun"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class _Exchange:
    """How far one request is."""

    def __init__(self, send_by: float | None) -> None:
        self.send_by = send_by
        self.stage = _Stage.NEW


_exchange: ContextVar[_Exchange] = ContextVar("fleet_exchange")


class _TooLate(Exception):
    """The send-by time passed while the connection was made. Never leaves this module."""


class _Connector(aiohttp.TCPConnector):
    """Notes when a request gets its connection, and takes it away again when it is too late to send.

    A ``TraceConfig`` hook that raises would leak the connection just made; and it is not called for
    pooled ones.
    """

    def __init__(
        self, clock: Clock, *, ssl_context: ssl.SSLContext | Literal[True], limit: int, force_close: bool
    ) -> None:
        super().__init__(ssl=ssl_context, limit=limit, force_close=force_close)
        self._clock = clock

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's signature
    ) -> Connection:
        """Return a connection for *req*; from its return on, bytes may leave.

        Raises:
            _TooLate: The send-by time has passed. Nothing was sent.
        """
        exchange = _exchange.get()
        if exchange.stage is _Stage.NEW:  # aiohttp's own second try of a GET must not look like a first
            exchange.stage = _Stage.CONNECTING
        connection = await super().connect(req, traces, timeout)
        # From here aiohttp writes within one turn of the loop.
        if exchange.send_by is not None and self._clock.boottime() > exchange.send_by:
            connection.close()
            raise _TooLate
        exchange.stage = _Stage.CONNECTED
        return connection


class AiohttpTransport:
    """Carries requests over aiohttp. Sessions are made in the first `send`, inside the running loop.

    Args:
        clock: For send-by times.
        environ: Proxies (``https_proxy``, ``no_proxy``) and ``OS_CACERT``; None: this process's own.
        cafile: Certificates to trust instead of the system's; None: ``OS_CACERT``, else the system's.
        connections: Most of them at a time.
        connect_timeout_s: For socket and TLS handshake together.
        max_body: Bytes of an answer, unpacked, after which it is given up.

    Raises:
        CloudUnusable: The certificates cannot be read.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        environ: Mapping[str, str] | None = None,
        cafile: str | None = None,
        connections: int = CONNECTIONS,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        max_body: int = MAX_BODY,
    ) -> None:
        self._clock = clock
        self._environ = os.environ if environ is None else environ
        self._connections = connections
        self._connect_timeout_s = connect_timeout_s
        self._max_body = max_body
        named = cafile or self._environ.get("OS_CACERT") or None
        # True: aiohttp's own context, which checks as ours does; it has read the system's files already.
        self._tls: ssl.SSLContext | Literal[True] = tls_context(named) if named else True
        self._proxies = getproxies_environment() if environ is None else _proxies(environ)
        for proxy in self._proxies.values():
            _register_credentials(proxy)
        self._session: aiohttp.ClientSession | None = None
        self._own: aiohttp.ClientSession | None = None
        self._closed = False

    async def send(self, request: Request) -> Response:
        """Send *request*, return its response, whatever its status.

        Raises:
            NotSent: Not one byte of it left this machine.
            OutcomeUnknown: It was sent, at least in part, and no whole answer came back.
            CloudUnusable: The URL is one that nothing is sent to: plain HTTP across a network.
        """
        parts = _checked(_origin_of(request.url))
        session = self._session_for(request)
        proxy, proxy_headers = self._proxy(parts)
        exchange = _Exchange(request.send_by)
        token = _exchange.set(exchange)
        try:
            async with session.request(
                request.method,
                URL(request.url, encoded=True),  # or yarl quotes it once more
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
                proxy=proxy,
                proxy_headers=proxy_headers,
                timeout=_timeout(request.timeout_s, self._connect_timeout_s),
            ) as response:
                return Response(
                    status=response.status,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=await self._body(response, request),
                )
        except _TooLate:
            where = _where(request)
            raise NotSent(f"{where}: not sent, its send-by time passed while connecting") from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # The cause is not chained: its attributes hold the request with its headers.
            where, text = _where(request), redact(_describe(error, request.timeout_s))
            if _is_unsent(exchange.stage, error):
                raise NotSent(f"{where}: not sent: {text}", hint=_hint(error)) from None
            raise OutcomeUnknown(f"{where}: no whole answer: {text}") from None
        finally:
            _exchange.reset(token)

    async def close(self) -> None:
        """Close all connections. The transport cannot be used again."""
        self._closed = True
        for session in (self._session, self._own):
            if session is not None:
                await session.close()

    def _session_for(self, request: Request) -> aiohttp.ClientSession:
        if self._closed:
            raise NotSent(f"{request.method}: not sent: the client is closed")
        if request.send_by is None:
            if self._session is None:
                self._session = self._open(force_close=False)
            return self._session
        if self._own is None:
            self._own = self._open(force_close=True)
        return self._own

    def _open(self, *, force_close: bool) -> aiohttp.ClientSession:
        connector = _Connector(
            self._clock, ssl_context=self._tls, limit=self._connections, force_close=force_close
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"fleet/{__version__}", "Accept": "application/json"},
            trust_env=False,  # it would read ~/.netrc too, and send what it finds there
            raise_for_status=False,
            max_field_size=MAX_HEADER,
        )

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy that a URL is asked through, without its credentials, or None."""
        return self._proxy(_checked(_origin_of(url)))[0]

    def _proxy(self, parts: SplitResult) -> tuple[str | None, dict[str, str] | None]:
        """Return the proxy for a URL, without its credentials, and the header that carries them."""
        proxy = self._proxies.get("https") or self._proxies.get("all")
        # A token must not travel in the clear to a proxy only because the simulator speaks plain HTTP.
        if not proxy or parts.scheme != "https":
            return None, None
        host = parts.hostname or ""
        if is_loopback(host) or proxy_bypass(host, self._proxies):
            return None, None
        variable = "HTTPS_PROXY" if self._proxies.get("https") else "ALL_PROXY"
        split = _checked_proxy(proxy, variable)
        bare = urlunsplit((split.scheme, split.netloc.rpartition("@")[2], "", "", ""))
        if split.username is None:
            return bare, None
        credentials = f"{unquote(split.username)}:{unquote(split.password or '')}"
        return bare, {"Proxy-Authorization": "Basic " + b64encode(credentials.encode()).decode()}

    async def _body(self, response: aiohttp.ClientResponse, request: Request) -> bytes:
        chunks = bytearray()
        async for chunk in response.content.iter_any():
            chunks += chunk
            if len(chunks) > self._max_body:
                response.close()
                raise OutcomeUnknown(
                    f"{_where(request)}: the answer is longer than {self._max_body} bytes",
                    status=response.status,
                )
        return bytes(chunks)


_ORIGIN = re.compile(r"[A-Za-z]+://[^/?#]*")


def _origin_of(url: str) -> str:
    """Return a URL's scheme and host, which say whether anything is sent there; a strange one as it is."""
    found = _ORIGIN.match(url)
    return url if found is None else found[0]


def _where(request: Request) -> str:
    """Return for messages what is asked, and where: no credentials, no query."""
    parts = urlsplit(request.url)
    return f"{request.method} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@lru_cache(maxsize=64)
def _timeout(total_s: float, connect_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total_s, sock_connect=min(connect_s, total_s))


@lru_cache(maxsize=64)
def _checked(url: str) -> SplitResult:
    """Return the parts of a URL that something may be sent to; few origins are asked again and again."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise CloudUnusable(
            "the cloud's URL cannot be read", hint="check OS_AUTH_URL and cloud.endpoints"
        ) from None
    if not host or parts.scheme not in {"http", "https"}:
        raise CloudUnusable(
            redact(f"{parts.scheme}://{host} is no https URL"), hint="check OS_AUTH_URL and cloud.endpoints"
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise CloudUnusable(
            redact(f"http://{host}: credentials are not sent in the clear"),
            hint="write https:// in OS_AUTH_URL and cloud.endpoints; plain http is for 127.0.0.1 only",
        )
    return parts


def _checked_proxy(proxy: str, variable: str) -> SplitResult:
    """Return the parts of a proxy's URL; of one that is wrong nothing is quoted, its password is in there."""
    try:
        split = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        # A raw # or / in the password ends the host there: what is left of it must not be asked for.
        rest = split.path.removeprefix("/") + split.query + split.fragment
        usable = bool(split.hostname) and (split.port is None or split.port > 0) and not rest
    except ValueError:
        split, usable = urlsplit(""), False
    if not usable:
        raise CloudUnusable(
            f"the proxy's URL in {variable} cannot be read",
            hint="write it like http://user:password@proxy.example.com:3128, and in user and password %23 for"
            " #, %2F for /, %3F for ?, %40 for @",
        )
    if split.scheme not in {"http", "https"}:
        raise CloudUnusable(
            f"the proxy in {variable} is a {split.scheme} one, which is not spoken here",
            hint="set HTTPS_PROXY to an http:// URL; or name the cloud's hosts in NO_PROXY to go without",
        )
    return split


def _is_unsent(stage: _Stage, error: Exception) -> bool:
    """Tell whether nothing can have left. In doubt: it may have."""
    if stage is _Stage.NEW:
        return isinstance(
            error,
            aiohttp.InvalidURL | aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError,
        )
    return stage is _Stage.CONNECTING


def _describe(error: Exception, timeout_s: float) -> str:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "no connection in time"
        case TimeoutError() if not str(error):
            return f"nothing within {timeout_s:g} s"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy refused with {error.status}"
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "it was refused"
            return f"the certificate of {error.host}:{error.port} is not trusted: {why}"[:300]
        case aiohttp.ClientConnectorError():
            reason = getattr(error, "os_error", "")
            return (
                f"no connection to {error.host}:{error.port}: {getattr(reason, 'strerror', None) or reason}"[
                    :300
                ]
            )
        case aiohttp.ClientResponseError():
            # Its own text has the URL and, in some versions, the headers.
            return f"not HTTP as we know it ({error.message[:100]!r})"
        case _:
            return (str(error) or type(error).__name__)[:300]


def _hint(error: Exception) -> str | None:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return CERTIFICATE_HINT
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _PROXY_HINTS.get(
            error.status, "ask whoever runs the proxy; HTTPS_PROXY and NO_PROXY say which is taken"
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "check the host's name and this machine's name servers"
    return None


CERTIFICATE_HINT = (
    "name the file of the certificate authority that signed it in OS_CACERT (cacert in clouds.yaml); a"
    " certificate of another name means another host, or a proxy in between"
)
_PROXY_HINTS = {
    407: "the proxy wants another login: export HTTPS_PROXY=http://user:password@host:port",
    403: "the proxy does not let this host through: ask whoever runs it, or name the host in NO_PROXY",
}


def tls_context(cafile: str | None) -> ssl.SSLContext:
    """Return what certificates are checked by.

    Raises:
        CloudUnusable: The file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=cafile)
    except (OSError, ssl.SSLError) as error:
        raise CloudUnusable(
            f"the certificates in {cafile} cannot be read: {error.strerror or error}",
            hint="OS_CACERT must name a file of certificates in PEM form, or be unset",
        ) from error


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return proxies by scheme, as `urllib.request.getproxies_environment` does, from a given environment."""
    found = {}
    for name in (
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ):  # lower case wins
        if value := environ.get(name):
            found[name.lower().removesuffix("_proxy")] = value
    return found


def _register_credentials(proxy: str) -> None:
    # By hand, so that it holds for a URL that nothing else can read.
    user, colon, password = proxy.rpartition("://")[2].rpartition("@")[0].partition(":")
    if colon and password:
        register(password)
        register(unquote(password))
        register(b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode())
