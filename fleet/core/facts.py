"""What a plan may say about a server: ``{server.private_ip}`` in a URL or an argument.

Seven names and no more. `str.format` is not used on purpose: it follows attributes and indexes of
whatever it is given, and the text comes from a file.
"""

from __future__ import annotations

import hashlib
import re

from fleet.core.model import Server, ServerId

FIELDS = ("id", "name", "private_ip", "public_ip", "zone", "flavor", "image")
"""The names that can stand after ``server.``."""

_PLACEHOLDER = re.compile(r"\{server\.([^{}]*)\}")
_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def facts(server: Server) -> dict[str, str]:
    """Return what can be said about *server*, by name; what it does not have is empty."""
    return {
        "id": server.id,
        "name": server.name,
        "private_ip": next(iter(server.addresses), ""),
        "public_ip": next(iter(server.public_addresses), ""),
        "zone": server.zone,
        "flavor": server.flavor,
        "image": server.image,
    }


def placeholders(text: str) -> list[str]:
    """Return the names asked for in *text*, known or not, in their order: ``["private_ip"]``."""
    return _PLACEHOLDER.findall(text)


def fill(text: str, server: Server) -> str:
    """Put *server*'s facts into *text*. An IPv6 address in a URL gets its brackets.

    Raises:
        ValueError: A name is unknown, or this server has nothing to put there.
    """
    known = facts(server)
    url = _IN_URL.match(text) is not None

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in known:
            raise ValueError(f"{{server.{name}}} is not known; there are {', '.join(FIELDS)}")
        found = known[name]
        if not found:
            raise ValueError(f"server {server.label} has no {name.replace('_', ' ')}")
        bracketed = match.start() > 0 and text[match.start() - 1] == "["
        if url and not bracketed and name.endswith("_ip") and ":" in found:
            return f"[{found}]"
        return found

    return _PLACEHOLDER.sub(value, text)


def nonce_of(run: str, server: ServerId) -> str:
    """Return the word that a server's user data is rendered with in a run, to know its installation by.

    No secret: whoever has the journal can work it out.
    """
    return hashlib.sha256(f"fleet nonce {run} {server}".encode()).hexdigest()[:32]
