"""What an error answer of Nova, Glance or Keystone lets the caller do.

Nova has no codes of its own: the HTTP status says what happened, and a body such as
``{"conflictingRequest": {"code": 409, "message": …}}`` says that Nova itself, and no proxy, has said it. For
the call that wipes a disk only such an answer proves that nothing was done. Read in Nova's source
(``nova/compute/api.py``, ``rebuild``): every refusal below 500 is raised before the task state is saved, and
the line of the action log is written after that.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto

from fleet.cloud.ecs import classify as shared
from fleet.cloud.ecs.parse import clean, error_body
from fleet.cloud.http import Response
from fleet.errors import (
    Busy,
    CloudError,
    CloudUnusable,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Throttled,
    Unavailable,
)


class Purpose(Enum):
    """What kind of call an answer belongs to."""

    WIPE = auto()
    """Must not happen twice: what is not proved not to have happened may have."""

    SWITCH = auto()
    """Stop, start: safe to repeat."""

    READ = auto()
    LOOKUP = auto()
    """A read for the pre-flight, of a service that answers in HTML: Glance says its 404 so."""


REBUILDING = "rebuild"
"""In a 409's sentence: ``Cannot 'rebuild' instance … while it is in task_state rebuilding``."""

_HINTS = {
    403: "the user lacks a permission, or a quota is spent: ask for the role `member` in this project",
    406: "this Nova is too old: fleet needs microversion 2.58 (OpenStack Queens, 2018)",
}


def message_of(response: Response) -> str:
    """Return what an error says, clean and short; empty when the service itself has not said it."""
    for value in error_body(response.body).values():
        if isinstance(value, dict) and isinstance(text := value.get("message"), str):
            return clean(text) or "no explanation"
        if isinstance(value, list):  # the form of microversion errors: {"errors": [{"detail": …}]}
            for item in value:
                if isinstance(item, dict) and isinstance(text := item.get("detail"), str):
                    return clean(text) or "no explanation"
    return ""


def is_of_the_gate(response: Response) -> bool:
    """Tell whether a 401 comes from Keystone's gate in front of Nova, which has not passed the request on."""
    asked = response.headers.get("www-authenticate", "").lower()
    return bool(message_of(response)) or asked.startswith("keystone")


def request_id(response: Response) -> str | None:
    """Return the id of the request; Nova's own one is also the id of the action that it begins."""
    for name in ("x-compute-request-id", "x-openstack-request-id"):
        if value := clean(response.headers.get(name), 80):
            return value
    return None


def error(response: Response, purpose: Purpose, what: str, *, now: datetime) -> CloudError:
    """Return the exception for an answer that is no success.

    Args:
        response: The answer.
        purpose: What was asked.
        what: The call, for the message.
        now: The time of day, for a ``Retry-After`` that is a date.
    """
    status, text = response.status, message_of(response)
    kind = _kind(status, text, purpose)
    made = kind(
        f"{what}: HTTP {status}: {text or 'no explanation'}",
        hint=_hint(status, text),
        status=status,
        request_id=request_id(response),
    )
    if isinstance(made, Unavailable):
        made.retry_after_s = shared.retry_after(response, now)
    if isinstance(made, Rejected):
        made.everybody = purpose is Purpose.WIPE and (
            status == 403 or "key_name" in text or "Keypair" in text
        )
    return made


def _kind(status: int, text: str, purpose: Purpose) -> type[CloudError]:
    wipe = purpose is Purpose.WIPE
    if status == 429 or (status == 413 and text):
        return Throttled
    if status == 409 and text:
        if "locked" in text:
            return Rejected
        # We saw it idle a moment ago. If it is being rebuilt now, somebody on the way may have sent our
        # request twice: what is refused here is the second one.
        if wipe and f"task_state {REBUILDING}" in text:
            return OutcomeUnknown
        return Busy
    if status >= 500 or status < 300 or status in shared.DOUBTFUL_STATUSES or (wipe and not text):
        return OutcomeUnknown if purpose in {Purpose.WIPE, Purpose.SWITCH} else Unavailable
    if status < 400 or status in {401, 406}:
        return CloudUnusable
    if status == 404:
        # A proxy's page says nothing about a server.
        return NotFound if text or purpose is Purpose.LOOKUP else Unavailable
    if status == 403 and purpose in {Purpose.READ, Purpose.LOOKUP}:
        return CloudUnusable
    return Rejected


def _hint(status: int, text: str) -> str | None:
    if "locked" in text and status == 409:
        return "its owner unlocks it: openstack server unlock"
    if "key_name" in text or "Keypair" in text:
        return "Nova takes a key pair of the authenticated user only"
    return _HINTS.get(status)
