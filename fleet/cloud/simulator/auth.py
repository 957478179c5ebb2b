"""Who is calling: Keystone tokens and SDK-HMAC-SHA256 signatures (ECS API reference, section 1). Pure."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from fleet.cloud.simulator.refusals import Refused
from fleet.cloud.simulator.things import User
from fleet.cloud.simulator.world import World

ALGORITHM: Final = "SDK-HMAC-SHA256"
MAX_SKEW_S: Final = 900.0
"""Of the signer's clock, wall time."""
BAD_SIGNATURES: Final = 5
"""More in a row lock the access key for `KEY_LOCK_S`."""
KEY_LOCK_S: Final = 300.0
BAD_PASSWORDS: Final = 5
"""In a row; then the account is locked for `ACCOUNT_LOCK_S`. IAM's defaults."""
ACCOUNT_LOCK_S: Final = 900.0
TEMPORARY_KEY_S: Final = 900.0
"""Of a temporary access key when the caller names no duration (IAM API reference: 15 minutes to 24 hours)."""
_TOKEN_HEX: Final = 480
"""Real tokens have several KB; long enough to be taken for one, short enough to be cheap."""


@dataclass(slots=True)
class Token:
    """An issued token. *expires* is seconds of the cloud's time."""

    user: User
    issued: float
    expires: float
    project: bool


@dataclass(frozen=True, slots=True)
class Key:
    """An access key. A temporary one has a security token, and an end in seconds of the cloud's time."""

    user: User
    secret: str
    security_token: str = ""
    expires: float = math.inf


@dataclass(slots=True)
class Tries:
    """Failed tries in a row, and until when nothing is accepted."""

    failed: int = 0
    locked_until: float = 0.0


class SignedRequest(msgspec.Struct, frozen=True):
    """What a signature covers. Header names are lower-case; the URL's parts are as they were sent."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class _Named(msgspec.Struct):
    id: str = ""
    name: str = ""


class _Password(msgspec.Struct):
    password: str = ""
    id: str = ""
    name: str = ""
    domain: _Named = msgspec.field(default_factory=_Named)


class _PasswordMethod(msgspec.Struct):
    user: _Password


class _TokenMethod(msgspec.Struct):
    id: str = ""
    duration_seconds: float = TEMPORARY_KEY_S


class _ApplicationCredential(msgspec.Struct):
    id: str = ""
    secret: str = ""


class _Identity(msgspec.Struct):
    methods: list[str]
    password: _PasswordMethod | None = None
    token: _TokenMethod | None = None
    application_credential: _ApplicationCredential | None = None


class _Scope(msgspec.Struct):
    project: _Named | None = None
    domain: _Named | None = None


class _Auth(msgspec.Struct):
    identity: _Identity
    scope: _Scope | None = None


class _LogIn(msgspec.Struct):
    auth: _Auth


_LOG_IN: Final = msgspec.json.Decoder(_LogIn)


class Gatekeeper:
    """Issues tokens, and says who is behind a request."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tokens: dict[str, Token] = {}
        self._tries: dict[str, Tries] = {}
        users = world.estate.users
        self._by_name = {user.name: user for user in users}
        self._by_id = {user.id: user for user in users}
        self._keys = {
            access: Key(user, secret) for user in users for access, secret in user.access_keys.items()
        }

    # tokens

    def log_in(self, body: bytes, now: float) -> tuple[str, Token]:
        """Issue a token for a password, or for another token.

        Raises:
            Refused: Wrong password, locked account, unknown scope, unreadable body.
        """
        try:
            auth = _LOG_IN.decode(body).auth
        except msgspec.DecodeError as error:
            message = f"Expecting to find valid JSON in request body. {error}"
            raise Refused("", message, status=400, form="keystone") from None
        expires = now + self._world.behaviour.token_life_s
        if (application := auth.identity.application_credential) is not None:
            # It carries its project itself, and Keystone refuses a scope beside it.
            user, project = self._by_application(application), auth.scope is None
        elif auth.identity.token is not None:
            first = self.by_token(auth.identity.token.id, now)
            # A token made from another one ends when that one does.
            user, expires, project = first.user, first.expires, self._scope(auth.scope)
        else:
            user, project = self._by_password(auth.identity, now), self._scope(auth.scope)
        text = f"MII{self._world.new_hex(_TOKEN_HEX)}"
        token = Token(user, now, expires, project)
        self._tokens[text] = token
        return text, token

    def _by_password(self, identity: _Identity, now: float) -> User:
        if identity.password is None:
            raise Refused("", "The request has no password.", status=400, form="keystone")
        given = identity.password.user
        user = self._by_id.get(given.id) or self._by_name.get(given.name)
        domain = self._world.estate.project
        known = not (given.domain.name or given.domain.id) or (
            given.domain.name == domain.domain or given.domain.id == domain.domain_id
        )
        tries = self._tries.setdefault(f"user {given.id or given.name}", Tries())
        if now < tries.locked_until:
            raise Refused(
                "IAM.0061", "The account is locked. Try again 15 minutes later.", status=401, form="keystone"
            )
        if (
            user is None
            or not known
            or not hmac.compare_digest(user.password.encode(), given.password.encode())
        ):
            tries.failed += 1
            if tries.failed >= BAD_PASSWORDS:
                tries.failed, tries.locked_until = 0, now + ACCOUNT_LOCK_S
            raise Refused("", "The username or password is wrong.", status=401, form="keystone")
        tries.failed = 0
        return user

    def _by_application(self, given: _ApplicationCredential) -> User:
        for user in self._world.estate.users:
            secret = user.application_credentials.get(given.id)
            if secret is not None and hmac.compare_digest(secret.encode(), given.secret.encode()):
                return user
        raise Refused("", "The application credential is wrong.", status=401, form="keystone")

    def _scope(self, scope: _Scope | None) -> bool:
        """Tell whether it is our project's; any other project is unknown."""
        if scope is None or scope.project is None:
            return False
        project = self._world.estate.project
        if (scope.project.id or project.id) != project.id or (
            scope.project.name or project.name
        ) != project.name:
            raise Refused("", "Could not find the project.", status=401, form="keystone")
        return True

    def by_token(self, text: str, now: float) -> Token:
        """Return a token that is good now."""
        token = self._tokens.get(text)
        if token is None or token.expires <= now:
            raise Refused("APIGW.0307", "The token must be updated.")
        return token

    def revoke_all(self) -> None:
        """Make every token worthless, as a changed password does."""
        self._tokens.clear()

    def temporary_key(self, body: bytes, user: User, now: float) -> tuple[str, Key]:
        """Issue a temporary access key for *user*; the body may say for how many seconds.

        Raises:
            Refused: Unreadable body.
        """
        try:
            wanted = _LOG_IN.decode(body).auth.identity.token or _TokenMethod()
        except msgspec.DecodeError:
            raise Refused("", "Invalid request body.", status=400, form="keystone") from None
        made = Key(
            user,
            secret=self._world.new_hex(40),
            security_token=self._world.new_hex(_TOKEN_HEX),
            expires=now + wanted.duration_seconds,
        )
        access = f"HST{self._world.new_hex(17).upper()}"
        self._keys[access] = made
        return access, made

    # every request

    def who(self, request: SignedRequest, now: float) -> tuple[User, bool]:
        """Return who is calling, and whether in the scope of our project.

        Raises:
            Refused: Nobody whom we know.
        """
        text = request.headers.get("x-auth-token")
        if text:
            token = self.by_token(text, now)
            return token.user, token.project
        authorization = request.headers.get("authorization", "")
        if authorization.startswith(ALGORITHM):
            return self._by_signature(request, authorization, now), True
        raise _incorrect("x-auth-token not found")

    def _by_signature(self, request: SignedRequest, authorization: str, now: float) -> User:
        parts = dict(
            part.strip().partition("=")[::2] for part in authorization.removeprefix(ALGORITHM).split(",")
        )
        access = parts.get("Access", "")
        if access not in self._keys:
            raise _incorrect(f"Get secretKey failed,ak:{access},err:ak not exist")
        tries = self._tries.setdefault(f"key {access}", Tries())
        if now < tries.locked_until:
            raise _incorrect("AK access failed to reach the limit,forbidden")
        key = self._keys[access]
        stamp = request.headers.get("x-sdk-date", "")
        try:
            signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise _incorrect("x-sdk-date is missing or malformed") from None
        if abs(signed_at - self._world.calendar.timestamp(now)) > MAX_SKEW_S:
            raise _incorrect("the time difference between the client and the server is more than 15 minutes")
        signed_headers = parts.get("SignedHeaders", "")
        if "x-sdk-date" not in signed_headers.split(";"):
            raise _incorrect("x-sdk-date is not signed")
        canonical = canonical_request(request, signed_headers)
        if not hmac.compare_digest(sign(canonical, stamp, key.secret), parts.get("Signature", "")):
            tries.failed += 1
            if tries.failed > BAD_SIGNATURES:
                tries.failed, tries.locked_until = 0, now + KEY_LOCK_S
            shown = canonical.replace("\n", "|")
            raise _incorrect(f"verify aksk signature fail, canonicalRequest:{shown}")
        tries.failed = 0
        if key.security_token:
            given = request.headers.get("x-security-token", "")
            if not hmac.compare_digest(key.security_token.encode(), given.encode()):
                raise _incorrect("the security token is missing or wrong")
            if key.expires <= now:
                raise _incorrect("the security token has expired")
        return key.user

    def secret_owner(self, access: str) -> User | None:
        """Return whose access key it is; a temporary one is nobody's."""
        found = self._keys.get(access)
        return found.user if found and not found.security_token else None


def _incorrect(why: str) -> Refused:
    return Refused("APIGW.0301", f"Incorrect IAM authentication information: {why}")


def canonical_request(request: SignedRequest, signed_headers: str) -> str:
    """Write a request down as signer and verifier both see it."""
    # Decoded as a whole, as the vendor's signers do: an encoded slash is one.
    path = "/".join(quote(part, safe="-_.~") for part in unquote(request.path).split("/"))
    if not path.endswith("/"):
        path += "/"
    pairs = sorted(
        (unquote(name), unquote(value))
        for name, _, value in (part.partition("=") for part in request.query.split("&") if part)
    )
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    names = [name for name in signed_headers.split(";") if name]
    headers = "".join(f"{name}:{request.headers.get(name, '').strip()}\n" for name in names)
    digest = request.headers.get("x-sdk-content-sha256") or hashlib.sha256(request.body).hexdigest()
    return f"{request.method.upper()}\n{path}\n{query}\n{headers}\n{signed_headers}\n{digest}"


def sign(canonical: str, stamp: str, secret: str) -> str:
    """Return the signature of a canonical request: the secret key is used as it is."""
    text = f"{ALGORITHM}\n{stamp}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def token_body(token: Token, world: World, base_url: str) -> dict[str, Any]:
    """Describe a token, with the catalogue of services, all of them at *base_url*."""
    project = world.estate.project
    domain = {"id": project.domain_id, "name": project.domain}
    calendar = world.calendar
    body: dict[str, Any] = {
        "methods": ["password"],
        "issued_at": calendar.micros(token.issued) + "Z",
        "expires_at": calendar.micros(token.expires) + "Z",
        "user": {"id": token.user.id, "name": token.user.name, "password_expires_at": "", "domain": domain},
        "roles": [{"id": "0", "name": "te_admin"}],
        "catalog": catalog_body(world, base_url),
    }
    if token.project:
        body["project"] = {"id": project.id, "name": project.name, "domain": domain}
    else:
        body["domain"] = domain
    return body


def catalog_body(world: World, base_url: str) -> list[dict[str, Any]]:
    """Describe the services."""
    project = world.estate.project
    services = (
        ("ecs", "ecs", f"/v1/{project.id}"),
        ("compute", "nova", f"/v2.1/{project.id}"),
        ("image", "ims", ""),
        ("volumev2", "evs", f"/v2/{project.id}"),
        ("identity", "iam", "/v3"),
    )
    return [
        {
            "type": kind,
            "name": name,
            "id": f"{number:032x}",
            "endpoints": [
                {
                    "id": f"{number:032x}",
                    "interface": "public",
                    "region": project.name,
                    "region_id": project.name,
                    "url": base_url + path,
                }
            ],
        }
        for number, (kind, name, path) in enumerate(services, start=1)
    ]
