"""Who may look and who may steer: a token that is good for one use, a cookie, and a key that no cookie holds.

Cookies do not keep ports apart: whatever else is served on this address gets ours, too, when the same browser
visits it. So the cookie only lets one look. What steers is the key, which a page is given once, in exchange
for the token, and keeps where pages of other ports cannot read it.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

_BYTES = 32


class Session:
    """One browser's, for the life of the process.

    Attributes:
        token: For the address that is printed; spent when it is first used.
        cookie: Name of the cookie: another `fleet watch` on this machine has another one.
    """

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(_BYTES)
        self.cookie = f"fleet-watch-{secrets.token_hex(4)}"
        self._value = secrets.token_urlsafe(_BYTES)
        self._key = secrets.token_urlsafe(_BYTES)
        self._spent = False

    def exchange(self, token: str) -> tuple[str, str] | None:
        """Return the cookie's value and the key for the token, once; None for anything else."""
        if self._spent or not _same(token, self.token):
            return None
        self._spent = True
        return self._value, self._key

    def may_look(self, cookies: Mapping[str, str]) -> bool:
        """Tell whether a request has the cookie."""
        return _same(cookies.get(self.cookie, ""), self._value)

    def may_steer(self, cookies: Mapping[str, str], key: str) -> bool:
        """Tell whether a request has the cookie and the key."""
        return self.may_look(cookies) and _same(key, self._key)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def is_ours(host: str) -> bool:
    """Tell whether a request's Host names this machine: a foreign name that leads here is an attack.

    The port may be any: an SSH tunnel begins at another one.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_same_origin(origin: str, host: str) -> bool:
    """Tell whether a request comes from a page of ours: browsers say where from, and always do for POST."""
    return origin == f"http://{host}"
