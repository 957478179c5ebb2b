"""The one seam for HTTP: a request, a response, and something that carries them.

`fleet.cloud.ecs.transport` carries them over sockets, `fleet.cloud.simulator.transport` inside the
process and on virtual time. A client written against this seam runs unchanged on both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote

import msgspec

from fleet.errors import CloudUnusable


class Request(msgspec.Struct, frozen=True):
    """One HTTP request.

    Attributes:
        url: Whole, with its query, already percent-encoded.
        body: Bytes, or None.
        timeout_s: For the whole exchange, connecting included.
        send_by: Reading of ``Clock.boottime`` after which it must not be sent any more, or None. Checked
            right before the first byte leaves. A request with a send-by time goes over a connection of
            its own: a kept-alive one that the gateway has just closed would be an unknown outcome for
            nothing.
    """

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    timeout_s: float = 30.0
    send_by: float | None = None


class Response(msgspec.Struct, frozen=True):
    """One HTTP response.

    Attributes:
        headers: With lower-case names.
        body: All of it, up to the transport's limit.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Carries requests. It never repeats one, never follows a redirect."""

    async def send(self, request: Request) -> Response:
        """Send *request*, return its response, whatever its status.

        Raises:
            fleet.errors.NotSent: Not one byte of it left this machine.
            fleet.errors.OutcomeUnknown: It was sent, at least in part, and no whole answer came back.
        """
        ...

    async def close(self) -> None:
        """Close what is open. The transport cannot be used again."""
        ...


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)


def segment(text: str) -> str:
    """Return *text* as one segment of a path; it may come from a plan, or from a damaged journal."""
    if _ID.fullmatch(text) is not None:  # nothing in it is quoted; lists name servers by the hundred
        return text
    if text in {"", ".", ".."}:
        raise CloudUnusable(f"{text!r} is no id", hint="check the ids in the plan")
    return quote(text, safe="")


def id_segment(text: str) -> str:
    """Return an id of the cloud's own making as one segment of a path.

    Quoting is not enough where a disk is wiped: a gateway that decodes ``..%2F`` before it looks who is meant
    would find another server. No cloud gives such ids.

    Raises:
        CloudUnusable: It is none.
    """
    if _ID.fullmatch(text) is None:
        raise CloudUnusable(
            f"{text[:80]!r} is no id", hint="check the ids in the plan; a run's journal may be damaged"
        )
    return text
