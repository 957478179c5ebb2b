"""Logging in with an access key: every request is signed, and nothing is asked for first.

What a token would have told is looked up: the project's id by its name, and whose key it is, since a
reinstall with a key pair has to name the pair's owner. More than five wrong signatures in a row lock the
key for five minutes (API request signing guide), so a refused key is not used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from fleet.clock import Clock
from fleet.cloud.ecs import classify, parse
from fleet.cloud.ecs.auth import LoggedIn, refusal_of
from fleet.cloud.ecs.signing import STAMP, AccessKey, sign
from fleet.cloud.http import Request, Response, Transport
from fleet.core.model import Identity
from fleet.errors import CloudUnusable, OutcomeUnknown, Unavailable

T = TypeVar("T")

LOOKUP_TIMEOUT_S = 30.0

STALE_S = 300.0
"""A refused signature that is older than this is made anew once: the machine may have been asleep."""


@dataclass(frozen=True, slots=True)
class KeyCredentials:
    """An access key and what is known besides it.

    Attributes:
        url: Base URL of the identity service, without ``/v3``.
        project_id, project_name: One is enough; with both, the id counts.
        user_id: Whose key it is, when somebody said so; None: it is looked up.
        domain_id: Of the account; the identity service may want it.
        source: Where the key was found, for people.
        reread: Reads the key again where it was found: temporary ones are replaced there. None: it cannot be.
    """

    url: str
    key: AccessKey
    project_id: str | None = None
    project_name: str | None = None
    user_id: str | None = None
    domain_id: str | None = None
    source: str = ""
    reread: Callable[[], AccessKey] | None = field(default=None, repr=False, compare=False)


class KeyLogin:
    """Signs requests; see `fleet.cloud.ecs.auth.Login`.

    Args:
        credentials: The key.
        transport: Carries the look-ups.
        clock: Signatures carry the time of day.
    """

    def __init__(self, credentials: KeyCredentials, transport: Transport, clock: Clock) -> None:
        self._credentials = credentials
        self._key = credentials.key
        self._transport = transport
        self._clock = clock
        self._replaced: datetime | None = None
        self._logged_in: LoggedIn | None = None
        self._refusal: CloudUnusable | None = None
        self._one = asyncio.Lock()
        self._lookups = 0

    def __repr__(self) -> str:
        return f"KeyLogin({self._key.access} of {self._credentials.source} at {self._credentials.url})"

    async def logged_in(self) -> LoggedIn:
        """Look up project and user if need be; see `fleet.cloud.ecs.auth.Login`."""
        if self._logged_in is None:
            async with self._one:
                if self._logged_in is None:
                    self._logged_in = await self._look_up()
        return self._logged_in

    async def headers(self, request: Request) -> dict[str, str]:
        """Return the signature's headers, made now."""
        project = (await self.logged_in()).identity.project_id
        return self._signed(request, project_id=project)

    async def renew(self, refused: Mapping[str, str]) -> bool:
        """After a 401: sign again when the signature was old, or when the key has been replaced since."""
        async with self._one:  # many may be refused at the same time, and one of them finds the new key
            signed_at = self._signed_at(refused)
            if self._replaced is not None and signed_at is not None and signed_at <= self._replaced:
                return True  # it was replaced while this request was under way
            if self._credentials.reread is not None:
                fresh = await asyncio.to_thread(self._credentials.reread)
                if fresh != self._key:
                    self._key, self._replaced = fresh, self._clock.now()
                    return True
        if signed_at is not None and abs((self._clock.now() - signed_at).total_seconds()) > STALE_S:
            return True
        self._refusal = CloudUnusable(
            f"the access key {self._key.access} of {self._credentials.source} was refused",
            hint="it is not tried again, since wrong signatures lock it; `fleet doctor` says what is wrong",
        )
        return False

    def logins(self) -> int:
        """Return how many look-ups were made."""
        return self._lookups

    @staticmethod
    def _signed_at(refused: Mapping[str, str]) -> datetime | None:
        """Return when a request was signed, to the second; None when it does not say."""
        try:
            return datetime.strptime(refused.get("X-Sdk-Date", ""), STAMP).replace(tzinfo=UTC)
        except ValueError:
            return None

    def _signed(
        self, request: Request, *, project_id: str | None = None, domain_id: str | None = None
    ) -> dict[str, str]:
        if (known := self._refusal) is not None:
            raise CloudUnusable(known.message, hint=known.hint, code=known.code, status=known.status)
        return sign(request, self._key, self._clock.now(), project_id=project_id, domain_id=domain_id)

    async def _look_up(self) -> LoggedIn:
        project_id, project_name = await self._project()
        user_id = self._credentials.user_id or await self._owner()
        return LoggedIn(
            identity=Identity(
                user_id=user_id,
                user_name=f"access key {self._key.access}",
                project_id=project_id,
                project_name=project_name,
                # As a token's login writes it: a run that began with the one goes on with the other.
                cloud=f"{self._credentials.url} project {project_name or project_id}",
            )
        )

    async def _project(self) -> tuple[str, str]:
        """Return the project's id and name; the name is empty where we may not know it."""
        given = self._credentials
        if given.project_id:
            found = await self._ask("/v3/auth/projects", "looking up the project's name", _projects)
            return given.project_id, dict(found or ()).get(given.project_id, "")
        name = given.project_name or ""
        what = f"looking up project {name!r}"
        found = await self._ask(f"/v3/projects?{urlencode({'name': name}, quote_via=quote)}", what, _projects)
        ids = [id_ for id_, called in found or () if called == name]
        if len(ids) == 1:
            return ids[0], name
        raise CloudUnusable(
            f"{what}: {len(ids) or 'no'} projects of that name are shown to {given.source}",
            hint="give the project's id: HUAWEICLOUD_SDK_PROJECT_ID, OS_PROJECT_ID, or project_id in the file"
            " that the key is in (console: My Credentials)",
        )

    async def _owner(self) -> str:
        """Return the user's id, or nothing where the cloud does not say: temporary keys are not listed."""
        path = f"/v3.0/OS-CREDENTIAL/credentials/{quote(self._key.access, safe='')}"
        return await self._ask(path, "looking up whose access key it is", _user) or ""

    async def _ask(self, path: str, what: str, read: Callable[[bytes], T]) -> T | None:
        """Read something of the identity service; None when we may not, or when there is no such thing.

        Raises:
            CloudUnusable: The key is refused.
            Unavailable: No usable answer; safe to repeat.
        """
        url = f"{self._credentials.url}{path}"
        bare = Request("GET", url, {"Content-Type": "application/json"}, timeout_s=LOOKUP_TIMEOUT_S)
        ours = self._signed(bare, domain_id=self._credentials.domain_id)
        self._lookups += 1
        what = f"{what} at {self._credentials.url}"
        try:
            response = await self._transport.send(
                Request("GET", url, {**bare.headers, **ours}, timeout_s=LOOKUP_TIMEOUT_S)
            )
        except OutcomeUnknown as error:
            raise Unavailable(f"{what}: {error.message}", hint=error.hint, status=error.status) from None
        if response.status in {403, 404}:
            return None
        if response.status != 200:
            raise self._refused(response, what)
        try:
            return read(response.body)
        except parse.BadAnswer as error:
            raise Unavailable(
                f"{what}: {error}", hint="the URL must name the identity service, and no proxy's login page"
            ) from None

    def _refused(self, response: Response, what: str) -> Unavailable | CloudUnusable:
        if response.status == 401:
            self._refusal = refusal_of(response, what, self._clock.now())
            return self._refusal
        fault = classify.read(response)
        text = " ".join([*fault.codes[:1], fault.message]).strip() or "no explanation"
        late = Unavailable(f"{what}: HTTP {response.status}: {text}", status=response.status)
        late.retry_after_s = classify.retry_after(response, self._clock.now())
        return late


def _projects(body: bytes) -> list[tuple[str, str]]:
    found = parse.decode(body, dict[str, Any]).get("projects")
    if not isinstance(found, list):
        raise parse.BadAnswer("the answer has no list of projects")
    return [
        (each["id"], str(each.get("name") or ""))
        for each in found
        if isinstance(each, dict) and isinstance(each.get("id"), str)
    ]


def _user(body: bytes) -> str:
    found = parse.decode(body, dict[str, Any]).get("credential")
    user = found.get("user_id") if isinstance(found, dict) else None
    return user if isinstance(user, str) else ""
