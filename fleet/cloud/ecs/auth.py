"""Logging in: the headers that make a request ours.

`Login` is the seam: a password gives a token for a day, an access key signs every request instead.

The account is locked after some wrong passwords (IAM API reference, ``IAM.0061``), so nothing here ever
tries a refused one again: the refusal is remembered for the life of the process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from fleet.clock import Clock
from fleet.cloud.ecs import classify, parse
from fleet.cloud.ecs.credentials import Credentials, GivenToken
from fleet.cloud.ecs.endpoints import Offer
from fleet.cloud.http import Request, Response, Transport
from fleet.core.model import Identity
from fleet.errors import CloudUnusable, OutcomeUnknown, Unavailable
from fleet.secrets import register

USE_OF_LIFE = 0.8
SPARE_S = 600.0
"""A token is renewed after `USE_OF_LIFE` of its life, or this long before its end, whichever is first."""

UNKNOWN_LIFE_S = 3600.0
"""Assumed when the cloud does not say; the documented life is 24 hours."""

RENEWALS = 5
RENEWALS_WITHIN_S = 60.0
"""So many refused tokens in so short a time are no accident: renewing on would go on for ever."""

LOGIN_TIMEOUT_S = 30.0

MAX_SKEW_S = 840.0
"""The cloud allows 15 minutes between its clock and a signature's (API request signing guide), less a minute
for the way."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """What a login tells.

    Attributes:
        identity: Who we are.
        catalog: Where the services are; empty when the cloud does not say.
    """

    identity: Identity
    catalog: tuple[Offer, ...] = ()


class Login(Protocol):
    """Makes requests ours."""

    async def logged_in(self) -> LoggedIn:
        """Log in if need be, and say as whom.

        Raises:
            CloudUnusable: The credentials are refused.
            Unavailable: The identity service does not answer; safe to repeat.
        """
        ...

    async def headers(self, request: Request) -> dict[str, str]:
        """Return the headers to add to *request*. Raises as `logged_in`."""
        ...

    async def renew(self, refused: Mapping[str, str]) -> bool:
        """After a 401: tell whether the request is worth repeating, with new `headers`.

        Args:
            refused: The headers that were refused.

        Raises: as `logged_in`.
        """
        ...

    def logins(self) -> int:
        """Return how many requests this made itself."""
        ...


@dataclass(frozen=True, slots=True)
class _Token:
    """A token and what came with it. Times are readings of ``Clock.boottime``."""

    value: str = field(repr=False)
    renew_at: float
    ends_at: float
    logged_in: LoggedIn


class TokenLogin:
    """A token (Keystone v3), for a day or so.

    Args:
        credentials: What it is asked for with.
        transport: Carries the login.
        clock: Tokens grow old while the machine sleeps, too.
    """

    def __init__(self, credentials: Credentials, transport: Transport, clock: Clock) -> None:
        self._credentials = credentials
        self._transport = transport
        self._clock = clock
        self._token: _Token | None = None
        self._refusal: CloudUnusable | None = None
        self._one = asyncio.Lock()
        self._renewals: deque[float] = deque(maxlen=RENEWALS)
        self._logins = 0

    def __repr__(self) -> str:
        return f"TokenLogin({self._credentials.source} at {self._credentials.url})"

    async def logged_in(self) -> LoggedIn:
        """Log in if need be, and say as whom; see `Login`."""
        return (await self._current()).logged_in

    async def headers(self, request: Request) -> dict[str, str]:  # noqa: ARG002  # a signature would need it
        """Return the token's header; see `Login`."""
        return {"X-Auth-Token": (await self._current()).value}

    async def renew(self, refused: Mapping[str, str]) -> bool:
        """Replace a refused token, once for all who were refused with it; see `Login`."""
        async with self._one:
            if self._token is not None and refused.get("X-Auth-Token") != self._token.value:
                return True  # somebody else was quicker
            now = self._clock.boottime()
            if len(self._renewals) == RENEWALS and now - self._renewals[0] < RENEWALS_WITHIN_S:
                return False
            self._renewals.append(now)
            self._token = None
            self._token = await self._log_in()
            return True

    def logins(self) -> int:
        """Return how many logins were asked for."""
        return self._logins

    async def _current(self) -> _Token:
        token = self._token
        if token is not None and self._clock.boottime() < token.renew_at:
            return token
        async with self._one:  # one login, however many wait for it
            token = self._token
            now = self._clock.boottime()
            if token is not None and now < token.renew_at:
                return token
            try:
                self._token = await self._log_in()
            except Unavailable:
                if token is not None and now < token.ends_at:
                    return token  # not renewed in good time, and still good
                raise
            return self._token

    async def _log_in(self) -> _Token:
        if (known := self._refusal) is not None:
            raise CloudUnusable(known.message, hint=known.hint, code=known.code, status=known.status)
        self._logins += 1
        request = Request(
            method="POST",
            url=f"{self._credentials.url}/v3/auth/tokens",
            headers={"Content-Type": "application/json;charset=utf8"},
            body=self._credentials.body(),
            timeout_s=LOGIN_TIMEOUT_S,
        )
        what = f"logging in at {self._credentials.url}"
        try:
            response = await self._transport.send(request)
        except OutcomeUnknown as error:
            # A login changes nothing: it never makes the call that waits for it doubtful.
            raise Unavailable(f"{what}: {error.message}", hint=error.hint, status=error.status) from None
        try:
            if response.status in {200, 201}:
                return self._read(response)
            if response.status in {401, 403} and isinstance(self._credentials, GivenToken):
                as_it_is = await self._given(self._credentials)
                if as_it_is is not None:
                    return as_it_is
            raise self._refused(response, what)
        except parse.BadAnswer as error:
            raise Unavailable(
                f"{what}: {error}",
                hint="OS_AUTH_URL must name the identity service, and no proxy's login page",
            ) from None

    async def _given(self, given: GivenToken) -> _Token | None:
        """Return a token that is not changed for another one, if it is good as it is, and for our project.

        Keystones may be told not to give a token for one that has a project (``allow_rescope_scoped_token``).
        """
        self._logins += 1
        request = Request(
            method="GET",
            url=f"{given.url}/v3/auth/tokens",
            headers={"X-Auth-Token": given.token, "X-Subject-Token": given.token},
            timeout_s=LOGIN_TIMEOUT_S,
        )
        try:
            response = await self._transport.send(request)
        except OutcomeUnknown as error:
            raise Unavailable(f"looking at the token: {error.message}", hint=error.hint) from None
        if response.status != 200:
            return None
        found = self._read(response, given.token)
        us = found.logged_in.identity
        if given.project_id:
            return found if us.project_id == given.project_id else None
        project = _mapping(_mapping(parse.decode(response.body, dict[str, Any]).get("token")).get("project"))
        domain = _mapping(project.get("domain"))
        ours = (
            us.project_name == given.project_name
            and given.project_domain_id in {None, domain.get("id")}
            and given.project_domain_name in {None, domain.get("name")}
        )
        return found if ours else None

    def _refused(self, response: Response, what: str) -> Unavailable | CloudUnusable:
        fault = classify.read(response)
        code = fault.codes[0] if fault.codes else None
        text = " ".join(part for part in (code, fault.message) if part) or "no explanation"
        message = f"{what}: HTTP {response.status}: {text}"
        if response.status == 429 or response.status in classify.DOUBTFUL_STATUSES or response.status >= 500:
            late = Unavailable(message, code=code, status=response.status, request_id=fault.request_id)
            late.retry_after_s = classify.retry_after(response, self._clock.now())
            return late
        hint = _LOGIN_HINTS.get(code or "") or self._hint(response.status, fault.message)
        refusal = CloudUnusable(
            message, hint=hint, code=code, status=response.status, request_id=fault.request_id
        )
        self._refusal = refusal
        return refusal

    def _hint(self, status: int, said: str) -> str:
        match status:
            case 401 if "project" in said.lower():
                return f"check the project's name or id ({_PROJECT}), and that the user may work in it"
            case 401:
                return self._credentials.remedy()
            case 403:
                return (
                    f"the user may not log in here, or not for this project: check {_PROJECT} and its rights"
                )
            case _:
                return (
                    "check OS_AUTH_URL (auth_url in clouds.yaml): it must name the identity service"
                    " (https://iam.….…/v3)"
                )

    def _read(self, response: Response, given: str = "") -> _Token:
        value = given or response.headers.get("x-subject-token", "")
        if not value:
            raise parse.BadAnswer("the answer has no token")
        register(value)
        raw = _mapping(parse.decode(response.body, dict[str, Any]).get("token"))
        user, project = _mapping(raw.get("user")), _mapping(raw.get("project"))
        if not isinstance(user.get("id"), str) or not isinstance(project.get("id"), str):
            raise parse.BadAnswer("the token names no user, or no project")
        life = _life(raw)
        now = self._clock.boottime()
        project_name = _text(project.get("name"))
        return _Token(
            value=value,
            renew_at=now + min(USE_OF_LIFE * life, max(life - SPARE_S, life / 2)),
            ends_at=now + life,
            logged_in=LoggedIn(
                identity=Identity(
                    user_id=user["id"],
                    user_name=_text(user.get("name")),
                    project_id=project["id"],
                    project_name=project_name,
                    cloud=f"{self._credentials.url} project {project_name or project['id']}",
                ),
                catalog=_catalog(raw.get("catalog")),
            ),
        )


_PROJECT = "OS_PROJECT_NAME or OS_PROJECT_ID; project_name or project_id in clouds.yaml"

_LOGIN_HINTS: Mapping[str, str] = {
    "IAM.0061": "the account is locked after wrong passwords: wait 15 minutes, then check the password",
    "IAM.0080": "the user is disabled: ask the account's administrator",
    "IAM.0081": "the user may use the console only: allow it programmatic access",
    "IAM.0082": "the user is disabled: ask the account's administrator",
}


def refusal_of(response: Response, what: str, now: datetime, *, again: bool = False) -> CloudUnusable:
    """Return the error for a 401 that nothing can be done about.

    Args:
        response: The cloud's answer.
        what: What was tried, for the message.
        now: Our time of day; the cloud's own is in its answer.
        again: It was tried with a new login as well.
    """
    fault = classify.read(response)
    # A wrong signature is answered with all that the cloud has seen signed, a security token included.
    said = fault.message.partition("canonicalRequest")[0].rstrip(" ,;:")
    text = " ".join([*fault.codes[:1], said]).strip()
    return CloudUnusable(
        f"{what}: HTTP 401{', also with a new login' if again else ''}: {text or 'no explanation'}",
        hint=_refusal_hint(said.lower(), response, now),
        code=fault.codes[0] if fault.codes else None,
        status=401,
        request_id=fault.request_id,
    )


def _refusal_hint(said: str, response: Response, now: datetime) -> str:
    skew = clock_skew_s(response, now)
    if skew is not None and abs(skew) > MAX_SKEW_S:
        return (
            f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the cloud's;"
            " a signature may be 15 minutes off: set the clock"
        )
    for words, hint in _REFUSALS:
        if words in said:
            return hint
    return (
        "check that the user may work in this project and region, and that cloud.endpoints name the same"
        " cloud as the login"
    )


def clock_skew_s(response: Response, now: datetime) -> float | None:
    """Return how far *now* is ahead of the cloud's ``Date``, seconds; None when it does not say."""
    theirs = classify.http_date(response.headers.get("date", ""))
    return None if theirs is None else (now - theirs).total_seconds()


_REFUSALS: tuple[tuple[str, str], ...] = (
    ("signature", "check the secret key; six wrong signatures lock the access key for five minutes"),
    ("reach the limit", "the access key is locked by wrong signatures: wait 5 minutes, check the secret key"),
    ("ak not exist", "check the access key: it is unknown here, disabled, or of another cloud"),
    ("security token", "the temporary access key has ended, or its security token is missing: get a new one"),
    ("15 minutes", "set this machine's clock: a signature may be 15 minutes off"),
)
"""What the gateway says (API request signing guide, IAM authentication errors), and what to do."""


def _life(raw: Mapping[str, Any]) -> float:
    """Return a token's life in seconds, by the cloud's own clock; ours may be wrong."""
    try:
        issued = datetime.fromisoformat(_text(raw.get("issued_at")))
        life = (datetime.fromisoformat(_text(raw.get("expires_at"))) - issued).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return UNKNOWN_LIFE_S
    return life if life > 0 else UNKNOWN_LIFE_S


def _catalog(value: object) -> tuple[Offer, ...]:
    """Return the public endpoints of a catalog of any quality."""
    return tuple(
        Offer(
            type=_text(service.get("type")),
            region=_text(endpoint.get("region")),
            url=_text(endpoint.get("url")),
        )
        for service in _list(value)
        for endpoint in _list(service.get("endpoints"))
        if _text(endpoint.get("interface")) in {"", "public"}
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
