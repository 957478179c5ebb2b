"""What an error answer lets the caller do: by the cloud's code first, by the HTTP status second.

The reference itself says that the statuses of ECS errors "may not be accurate". What is asked here of a
code is one thing only: *does it prove that nothing was done?* For the call that wipes a disk everything
else is an unknown outcome; a read or a stop may be asked again.

Tables: ECS API reference, "Error codes" and "Returned values"; API Gateway, "Error codes".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any

from fleet.cloud.ecs.parse import clean, error_body, nested_object
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
    """A read that the run cannot do without: list, server, job."""

    TAG = auto()
    """Tags: safe to repeat, also where no answer came."""

    LOOKUP = auto()
    """A read for the pre-flight: image, key pair."""


class Meaning(Enum):
    """What a code says."""

    REFUSED = auto()
    EVERYBODY = auto()
    """Refused, and so would every server of the plan be."""

    FORBIDDEN = auto()
    """Refused for want of a permission."""

    BUSY = auto()
    ABSENT = auto()
    THROTTLED = auto()
    UNPROCESSED = auto()
    """Not done, may work later."""

    DOUBT = auto()
    """May have been done, or begun."""

    UNUSABLE = auto()


def _codes(meaning: Meaning, prefix: str, numbers: str) -> Iterator[tuple[str, Meaning]]:
    return ((f"{prefix}.{number}", meaning) for number in numbers.split())


CODES: Mapping[str, Meaning] = dict(
    [
        *_codes(
            Meaning.REFUSED,
            "Ecs",
            "0000 0007 0015 0030 0031 0032 0034 0048 0105 0118 0119 0120 0122 0123 0124 0301 0304"
            " 0510 0605 0610 0611 0612 0613 0905 0906 0907 0908 0089 1520",
        ),
        *_codes(Meaning.EVERYBODY, "Ecs", "0001 0005 0011 0021 0025 0066 0067 0068 0069 0070 0071 0090 0314"),
        *_codes(Meaning.FORBIDDEN, "Ecs", "0003 0110"),
        *_codes(Meaning.BUSY, "Ecs", "0073 0100 0101 0102 0603"),
        *_codes(Meaning.ABSENT, "Ecs", "0114 0614"),
        # "Failed to submit the task", internal errors, and what OpenStack said or failed to say in time:
        # by then something may have begun.
        *_codes(Meaning.DOUBT, "Ecs", "0002 0615 1000 1001 1002 1201"),
        *_codes(Meaning.UNPROCESSED, "Ecs", "0004"),
        *_codes(Meaning.UNUSABLE, "Ecs", "0023"),
        *_codes(Meaning.REFUSED, "Common", "0002"),
        *_codes(Meaning.ABSENT, "Common", "0011"),
        *_codes(Meaning.UNUSABLE, "Common", "0018"),
        *_codes(Meaning.THROTTLED, "Common", "0024 1503"),
        *_codes(Meaning.DOUBT, "Common", "0001 0020 0021 0022 0025 0026 0999"),
        *_codes(Meaning.FORBIDDEN, "Pdp", "0001"),
        *_codes(Meaning.UNUSABLE, "APIGW", "0101 0302 0304 0306 0310 0401 0402 0404 0801 0802"),
        *_codes(Meaning.THROTTLED, "APIGW", "0308"),
        # The gateway could not check who we are, so it did not pass the request on.
        *_codes(Meaning.UNPROCESSED, "APIGW", "0613"),
    ]
)
"""A code that is in here means the same with every status. 401 is treated before; see the client."""

GENERIC = frozenset({"Ecs.0000", "Ecs.0005", "Ecs.0611", "Ecs.1000", "Ecs.1001"})
"""Outer codes that may only wrap the real one in ``details``."""

_PROJECT = (
    "the project is not one of this login in this region: check its id or name (OS_PROJECT_ID,"
    " OS_PROJECT_NAME, HUAWEICLOUD_SDK_PROJECT_ID, project_id in the file) and the region"
)

HINTS: Mapping[str, str] = {
    "Ecs.0003": "the account may be suspended or in arrears, or the user lacks a permission",
    "Ecs.0011": "8 to 26 characters, three of: upper case, lower case, digits, special characters",
    "Ecs.0021": "raise the EVS disk quota or lower the concurrency: each reinstall needs a disk more",
    "Ecs.0023": _PROJECT,
    "Ecs.0030": "the server is frozen: settle the account's bill first",
    "Ecs.0031": "the image the server was made from is gone: the server cannot be reinstalled from it",
    "Ecs.0032": "the image is not active",
    "Ecs.0105": "the server has no system disk: only the cloud's support can help",
    "Ecs.0089": "a server takes ten tags; without `claim` in the plan fleet sets none",
    "Ecs.0905": "a server takes ten tags; without `claim` in the plan fleet sets none",
    "Ecs.0314": "a key pair is visible to its owner only: name it in key_pair and its owner in user_id",
    "Ecs.0605": "the server is locked: its owner unlocks it",
    "Common.0018": _PROJECT,
    "Pdp.0001": "grant the user ecs:cloudServers:list, showServer, stop, start and rebuild for this project",
    "APIGW.0101": "the address knows no such call: check cloud.endpoints and the region",
}

DOUBTFUL_STATUSES = frozenset({408, 409, 425, 499})
"""Statuses below 500 that do not say "refused": somebody on the way gave up, or it is being done."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error answer, read.

    Attributes:
        codes: The cloud's codes, the most specific first; empty when it gives none.
        message: For people: clean and short.
        readable: The body was an object with an error in it, so it comes from the cloud itself.
    """

    codes: tuple[str, ...]
    message: str
    readable: bool
    request_id: str | None


def read(response: Response) -> Fault:
    """Read an error answer of any of the shapes that the cloud's services use."""
    body = error_body(response.body)
    found = list(_pairs(body, depth=0))
    pairs = [(code, text) for code, text in found if not code.isdigit()]
    ordered = [code for code, _ in pairs if code]
    if ordered and ordered[0] in GENERIC:
        ordered = [*ordered[1:], ordered[0]]
    # Dedicated gateways write APIG.0308 for APIGW.0308.
    codes = tuple(dict.fromkeys(re.sub(r"^APIG\.", "APIGW.", code) for code in ordered))
    texts = dict.fromkeys(text for _, text in found if text)
    return Fault(
        codes=codes,
        message=clean("; ".join(texts)),
        readable=bool(found),
        request_id=request_id(response, body),
    )


def request_id(response: Response, body: Mapping[str, Any] | None = None) -> str | None:
    """Return the cloud's id of a request, which its support will ask for."""
    for name in ("x-request-id", "x-compute-request-id", "x-openstack-request-id", "x-iam-trace-id"):
        if value := clean(response.headers.get(name), 80):
            return value
    return clean((body or {}).get("request_id"), 80) or None


def _pairs(value: object, depth: int) -> Iterator[tuple[str, str]]:
    """Find code and message, outer before inner; in the order of the vendor's own client."""
    if not isinstance(value, dict) or depth > 4:
        return
    for code_key, text_key in (
        ("error_code", "error_msg"),
        ("errorCode", "errorMsg"),
        ("error_code", "error_message"),
        ("code", "message"),
    ):
        code, text = value.get(code_key), value.get(text_key)
        if isinstance(code, int) and not isinstance(code, bool):
            code = str(code)
        if isinstance(code, str) or (isinstance(text, str) and depth):
            message = clean(text)
            yield clean(code, 40), message
            if depth < 4 and message.find("{") >= 0:
                yield from _pairs(nested_object(str(text)), depth + 1)
            break
    for key, inner in value.items():
        if key == "details" and isinstance(inner, list):
            for item in inner[:5]:
                yield from _pairs(item, depth + 1)
        elif isinstance(inner, dict):
            yield from _pairs(inner, depth + 1)


def meaning(fault: Fault, purpose: Purpose) -> Meaning | None:
    """Return what the codes say, or None when none of them is known."""
    known = [CODES[code] for code in fault.codes if code in CODES]
    if not known:
        return None
    if purpose is Purpose.WIPE and Meaning.DOUBT in known:
        return Meaning.DOUBT  # one code that proves nothing outweighs another that does
    return known[0]


def is_of_the_gate(response: Response) -> bool:
    """Tell whether a 401 comes from the gate, which has not passed the request on.

    One without a word of the cloud's may come from anywhere; one with a code of ECS's own, from behind it.
    """
    fault = read(response)
    return fault.readable and not any(code.startswith("Ecs.") for code in fault.codes)


def error(response: Response, purpose: Purpose, what: str, *, now: datetime) -> CloudError:
    """Return the exception for an answer that is no success.

    Args:
        response: The answer; for `Purpose.WIPE` also one with a 2xx status that accepts nothing.
        purpose: What was asked.
        what: The call, for the message: ``reinstall of server 616f…``.
        now: The time of day, for a ``Retry-After`` that is a date.
    """
    fault = read(response)
    said = meaning(fault, purpose) or _by_status(response.status, fault, purpose)
    code = fault.codes[0] if fault.codes else None
    details = " ".join(part for part in (code, fault.message) if part) or "no explanation"
    text = f"{what}: HTTP {response.status}: {details}"
    hint = next((HINTS[name] for name in fault.codes if name in HINTS), None)
    kind, everybody = _class(said, purpose)
    if said is Meaning.UNUSABLE and hint is None:
        hint = _unusable_hint(response.status)
    made = kind(text, hint=hint, code=code, status=response.status, request_id=fault.request_id)
    if isinstance(made, Unavailable):
        made.retry_after_s = retry_after(response, now)
    if isinstance(made, Rejected):
        made.everybody = everybody
    return made


def _by_status(status: int, fault: Fault, purpose: Purpose) -> Meaning:
    if status == 429:
        return Meaning.THROTTLED
    if status < 300 or status >= 500 or status in DOUBTFUL_STATUSES:
        # Another operation is under way, says Nova's 409. About a stop that is a state, not a doubt.
        return Meaning.BUSY if status == 409 and purpose is Purpose.SWITCH else Meaning.DOUBT
    if status < 400:
        return Meaning.DOUBT if purpose is Purpose.WIPE else Meaning.UNUSABLE
    if status == 401:
        return Meaning.UNUSABLE
    if status == 403:
        return Meaning.FORBIDDEN
    if status == 404:
        # A proxy's page says nothing about a server. An image service's may (Glance answers in HTML).
        if purpose in {Purpose.READ, Purpose.SWITCH, Purpose.TAG} and not fault.readable:
            return Meaning.DOUBT
        return Meaning.ABSENT
    return Meaning.REFUSED


def _class(said: Meaning, purpose: Purpose) -> tuple[type[CloudError], bool]:
    """Return the exception's class, and whether every server would meet it."""
    match said:
        case Meaning.THROTTLED:
            return Throttled, False
        case Meaning.UNPROCESSED:
            return Unavailable, False
        case Meaning.DOUBT:
            unknown = purpose not in {Purpose.READ, Purpose.TAG}
            return (OutcomeUnknown if unknown else Unavailable), False
        case Meaning.UNUSABLE:
            return CloudUnusable, False
        case Meaning.FORBIDDEN:
            return (CloudUnusable, False) if purpose is Purpose.READ else (Rejected, True)
        case Meaning.BUSY:
            return (Unavailable if purpose is Purpose.TAG else Busy), False
        case Meaning.ABSENT:
            return NotFound, False
        case Meaning.EVERYBODY:
            return Rejected, True
        case _:
            return Rejected, False


def _unusable_hint(status: int) -> str:
    if 300 <= status < 400:
        return "the address redirects, which is not followed: check OS_AUTH_URL and cloud.endpoints"
    return "check the user's permissions for this project and region, and cloud.endpoints"


MAX_RETRY_AFTER_S = 3600.0


def retry_after(response: Response, now: datetime) -> float | None:
    """Return the seconds of ``Retry-After``, from either form, within 0 and an hour; None without one.

    A date is compared with the answer's own ``Date``: our clock may be wrong.
    """
    text = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII):
        return min(float(text), MAX_RETRY_AFTER_S)
    if (until := http_date(text)) is None:
        return None
    since = http_date(response.headers.get("date", "")) or now
    return min(max((until - since).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


def http_date(text: str) -> datetime | None:
    """Return the moment that a header such as ``Date`` names, or None."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


_LIMIT = re.compile(r"limit:(\d{1,9}),time:(\d{1,6})? ?(second|minute|hour|day)", re.ASCII)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def allowed_rate(message: str) -> float | None:
    """Return calls a second from the gateway's message (``…limit:60,time:1 minute``), or None.

    APIGW.0308: the limit is that of one call, of a user, an address or everybody together.
    """
    if not (match := _LIMIT.search(message)):
        return None
    count, span, unit = int(match[1]), int(match[2] or 1), _SECONDS[match[3]]
    return count / (span * unit) if count and span else None
