"""`SDK-HMAC-SHA256`: what makes a request one of an access key's owner. Pure.

By the vendor's API request signing guide and its Python signer (``huaweicloudsdkcore.signer``), which decides
where the two differ: the path is decoded as a whole before it is encoded again, so an encoded slash counts as
one. The signature covers a slash at the end of the path that is never sent.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import SplitResult, quote, unquote, urlsplit

from fleet.cloud.http import Request

ALGORITHM = "SDK-HMAC-SHA256"
STAMP = "%Y%m%dT%H%M%SZ"
"""Of ``X-Sdk-Date``, UTC. The cloud refuses what is more than 15 minutes off its own clock."""

_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key. Whoever makes one registers both secrets with `fleet.secrets`.

    Attributes:
        access: Its id, which is no secret: it travels in the clear, and in the cloud's own messages.
        security_token: Of a temporary key; sent along with each request.
    """

    access: str
    secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)


def sign(
    request: Request,
    key: AccessKey,
    now: datetime,
    *,
    project_id: str | None = None,
    domain_id: str | None = None,
) -> dict[str, str]:
    """Return the headers that *request* has to be sent with, besides its own ones, unchanged.

    Args:
        request: As it will be sent; every header of it is signed.
        key: Whose it is.
        now: The time of day, aware.
        project_id: For services of a project (all but the identity service); sub-projects need it.
        domain_id: For global services, in its place.
    """
    parts = urlsplit(request.url)
    # `Host` is spelled out, so that the transport cannot write it another way than it was signed.
    added = {"Host": _host(parts), "X-Sdk-Date": now.astimezone(UTC).strftime(STAMP)}
    if project_id:
        added["X-Project-Id"] = project_id
    if domain_id:
        added["X-Domain-Id"] = domain_id
    if key.security_token:
        added["X-Security-Token"] = key.security_token
    covered = _covered({**request.headers, **added})
    canonical = "\n".join(
        (
            request.method.upper(),
            _path(parts.path),
            _query(parts.query),
            "".join(f"{name}:{value}\n" for name, value in covered.items()),
            ";".join(covered),
            hashlib.sha256(request.body or b"").hexdigest(),
        )
    )
    text = f"{ALGORITHM}\n{added['X-Sdk-Date']}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(key.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    added["Authorization"] = (
        f"{ALGORITHM} Access={key.access}, SignedHeaders={';'.join(covered)}, Signature={signature}"
    )
    return added


def _host(parts: SplitResult) -> str:
    """Return the host as it is sent: catalogs write ``:443``, clients leave a usual port out."""
    host = parts.netloc.rpartition("@")[2]
    return host.removesuffix(f":{_PORTS.get(parts.scheme, '')}")


def _covered(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers as they are signed, sorted; the vendor leaves out names with an underscore."""
    lowered = {name.lower(): value.strip() for name, value in headers.items() if "_" not in name}
    return dict(sorted(lowered.items()))


def _path(path: str) -> str:
    encoded = "/".join(_quote(segment) for segment in unquote(path or "/").split("/"))
    return encoded if encoded.endswith("/") else encoded + "/"


def _query(query: str) -> str:
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    decoded = sorted((unquote(name), unquote(value)) for name, value in pairs)
    return "&".join(f"{_quote(name)}={_quote(value)}" for name, value in decoded)


def _quote(text: str) -> str:
    return quote(text, safe="~")
