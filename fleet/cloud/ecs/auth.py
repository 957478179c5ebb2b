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
from fleet.cloud.ecs.endpoints import Offer, identity_base
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
class Password:
    """Credentials of a user for one project. Of every ``…_id`` and ``…_name``, one is enough.

    Whoever makes one registers the password with `fleet.secrets`, unless it is a well-known one.

    Attributes:
        url: Base URL of the identity service, without ``/v3``.
        project_id, project_name: The project; with both, the id counts.
    """

    url: str
    user: str
    password: str = field(repr=False)
    domain_id: str | None = None
    domain_name: str | None = None
    project_id: str | None = None
    project_name: str | None = None

    def body(self) -> bytes:
        """Return the request's body (Keystone v3, password, scoped to the project)."""
        domain = {"id": self.domain_id} if self.domain_id else {"name": self.domain_name}
        project = {"id": self.project_id} if self.project_id else {"name": self.project_name}
        user = {"name": self.user, "password": self.password, "domain": domain}
        return parse.as_json(
            {
                "auth": {
                    "identity": {"methods": ["password"], "password": {"user": user}},
                    "scope": {"project": project},
                }
            }
        )


@dataclass(frozen=True, slots=True)
class _Token:
    """A token and what came with it. Times are readings of ``Clock.boottime``."""

    value: str = field(repr=False)
    renew_at: float
    ends_at: float
    logged_in: LoggedIn


class PasswordLogin:
    """A token by password (Keystone v3).

    Args:
        credentials: Of whom.
        transport: Carries the login.
        clock: Tokens grow old while the machine sleeps, too.
    """

    def __init__(self, credentials: Password, transport: Transport, clock: Clock) -> None:
        self._credentials = credentials
        self._transport = transport
        self._clock = clock
        self._token: _Token | None = None
        self._refusal: CloudUnusable | None = None
        self._one = asyncio.Lock()
        self._renewals: deque[float] = deque(maxlen=RENEWALS)
        self._logins = 0

    def __repr__(self) -> str:
        return f"PasswordLogin({self._credentials.user} at {self._credentials.url})"

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
        if response.status not in {200, 201}:
            raise self._refused(response, what)
        try:
            return self._read(response)
        except parse.BadAnswer as error:
            raise Unavailable(
                f"{what}: {error}",
                hint="OS_AUTH_URL must name the identity service, and no proxy's login page",
            ) from None

    def _refused(self, response: Response, what: str) -> Unavailable | CloudUnusable:
        fault = classify.read(response)
        code = fault.codes[0] if fault.codes else None
        text = " ".join(part for part in (code, fault.message) if part) or "no explanation"
        message = f"{what}: HTTP {response.status}: {text}"
        if response.status == 429 or response.status in classify.DOUBTFUL_STATUSES or response.status >= 500:
            late = Unavailable(message, code=code, status=response.status, request_id=fault.request_id)
            late.retry_after_s = classify.retry_after(response, self._clock.now())
            return late
        hint = _LOGIN_HINTS.get(code or "") or _STATUS_HINTS.get(
            response.status, "check OS_AUTH_URL: it must name the identity service (https://iam.….…/v3)"
        )
        refusal = CloudUnusable(
            message, hint=hint, code=code, status=response.status, request_id=fault.request_id
        )
        self._refusal = refusal
        return refusal

    def _read(self, response: Response) -> _Token:
        value = response.headers.get("x-subject-token", "")
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


_LOGIN_HINTS: Mapping[str, str] = {
    "IAM.0061": "the account is locked after wrong passwords: wait 15 minutes, then check OS_PASSWORD",
    "IAM.0080": "the user is disabled: ask the account's administrator",
    "IAM.0081": "the user may use the console only: allow it programmatic access",
    "IAM.0082": "the user is disabled: ask the account's administrator",
}

_STATUS_HINTS: Mapping[int, str] = {
    401: "check OS_USERNAME, OS_PASSWORD and OS_USER_DOMAIN_NAME; it is not tried again, since wrong"
    " passwords lock the account",
    403: "the user may not log in here, or not for this project: check OS_PROJECT_NAME and its permissions",
}


def login_from_environment(environ: Mapping[str, str], *, iam: str | None = None) -> Password:
    """Return the credentials that the ``OS_…`` variables name.

    Args:
        environ: The environment.
        iam: The identity service's URL from the plan; wins over ``OS_AUTH_URL``.

    Raises:
        CloudUnusable: Some are missing; all of them are named.
    """

    def first(*names: str) -> str | None:
        return next((environ[name] for name in names if environ.get(name)), None)

    url = iam or first("OS_AUTH_URL")
    user = first("OS_USERNAME")
    password = first("OS_PASSWORD")
    domain_id = first("OS_USER_DOMAIN_ID", "OS_DOMAIN_ID")
    domain_name = first("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME")
    project_id = first("OS_PROJECT_ID", "OS_TENANT_ID")
    project_name = first("OS_PROJECT_NAME", "OS_TENANT_NAME")
    wanted = (
        (url, "OS_AUTH_URL"),
        (user, "OS_USERNAME"),
        (password, "OS_PASSWORD"),
        (domain_id or domain_name, "OS_USER_DOMAIN_NAME"),
        (project_id or project_name, "OS_PROJECT_NAME"),
    )
    if missing := [name for value, name in wanted if not value]:
        raise CloudUnusable(
            f"not set in the environment: {', '.join(missing)}",
            hint="export them, or source the openrc file that the cloud's console offers; "
            "OS_USER_DOMAIN_NAME is the account's name, OS_PROJECT_NAME the region's (eu-de)",
        )
    register(password or "")
    return Password(
        url=identity_base(url or ""),
        user=user or "",
        password=password or "",
        domain_id=domain_id,
        domain_name=domain_name,
        project_id=project_id,
        project_name=project_name,
    )


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
