"""From what a source says to a login that is complete: which kind it is, and what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.clock import Clock
from fleet.cloud.ecs.auth import Login, TokenLogin
from fleet.cloud.ecs.credentials import (
    ENVIRONMENT,
    ApplicationCredential,
    Credentials,
    GivenToken,
    KeystonePassword,
    Password,
)
from fleet.cloud.ecs.endpoints import identity_base, identity_of_region, origin
from fleet.cloud.ecs.login_files import Entry
from fleet.cloud.ecs.login_key import KeyCredentials, KeyLogin
from fleet.cloud.ecs.signing import AccessKey
from fleet.cloud.http import Transport
from fleet.errors import CloudUnusable
from fleet.secrets import register

ECS_OVERRIDES: Mapping[str, tuple[str, ...]] = {
    "ecs": ("ecs", "compute"),
    "ims": ("ims", "image"),
    "evs": ("evs", "block_storage", "volume", "volumev3", "volumev2"),
    "as": ("as",),
    "cbr": ("cbr",),
    "cts": ("cts",),
}
KEYSTONE_OVERRIDES: Mapping[str, tuple[str, ...]] = {"compute": ("compute",), "image": ("image",)}
"""Our services, and what openstacksdk and its extensions call them in ``…_endpoint_override``."""

_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

_KINDS = {
    "password": "password",
    "v3password": "password",
    "token": "token",
    "v3token": "token",
    "v3applicationcredential": "application credential",
    "application_credential": "application credential",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A login.

    Attributes:
        kind: In words.
        source: Where it was found, for people.
        region: Of the plan, else of where the login was found.
        endpoints: Base URLs by service: of where the login was found, with the plan's over them.
        cafile: Certificates to trust instead of the system's; None: the system's.
        warnings: What is odd, though it may work.
    """

    credentials: Credentials | KeyCredentials
    kind: str
    source: str
    region: str | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    cafile: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Base URL of the identity service."""
        return self.credentials.url

    def login(self, transport: Transport, clock: Clock) -> Login:
        """Return what makes requests ours."""
        if isinstance(self.credentials, KeyCredentials):
            return KeyLogin(self.credentials, transport, clock)
        return TokenLogin(self.credentials, transport, clock)


def kind_of(entry: Entry) -> str | None:
    """Return what kind of login an entry is; None: it does not say."""
    if (given := entry.text("auth_type", "auth_plugin")) is not None:
        if given not in _KINDS:
            raise CloudUnusable(
                f"{entry.where}: auth_type {given!r} is not known here",
                hint=f"known: {', '.join(_KINDS)}; an access key (ak, sk) needs none",
            )
        return _KINDS[given]
    if entry.text("application_credential_secret"):
        return "application credential"
    for key in ("password", "token"):
        if entry.text(key):
            return key
    if entry.where != ENVIRONMENT and entry.text("ak", "access_key"):
        return "access key"
    return None


def built(entry: Entry, kind: str | None, region: str | None, url: str | None, *, keystone: bool) -> Found:
    """Return the login that an entry describes; *url* is the plan's own address of the identity service.

    Raises:
        CloudUnusable: Something is missing, or not to be used.
    """
    if url is None and kind != "access key" and (template := entry.text("auth_url")):
        if "{region_name}" in template and not region:
            raise CloudUnusable(
                f"{entry.where}: auth_url has {{region_name}} in it, and no region is named",
                hint="write cloud.region into the plan, or region_name into the entry",
            )
        url = template.replace("{region_name}", region or "")
        url = url if "://" in url else f"https://{url}"
    credentials: Credentials | KeyCredentials
    match kind:
        case "token":
            credentials = _token(entry, url)
        case "application credential":
            credentials = _application(entry, url)
        case "access key":
            credentials = _access(entry, region, url)
            # `eu-de_web` is a sub-project of the region eu-de.
            region = region or (credentials.project_name or "").partition("_")[0] or None
        case _:
            kind = "password"
            credentials = password(entry, url, keystone=keystone)
    return Found(
        credentials=credentials,
        kind=kind,
        source=entry.where,
        region=region,
        endpoints=overrides(entry, keystone=keystone),
        cafile=_trusted(entry),
        warnings=entry.warnings,
    )


def password(entry: Entry, url: str | None, *, keystone: bool) -> Password:
    """Return a password login; raises as `built`."""
    url = url or entry.text("auth_url")
    user, user_id = entry.text("username", "user_name"), entry.text("user_id")
    password = entry.text("password")
    domain_id = entry.text("user_domain_id", "domain_id", "default_domain_id")
    domain_name = entry.text("user_domain_name", "domain_name", "default_domain_name", "default_domain")
    project_id, project_name = _project(entry)
    _complete(
        entry,
        (url, "auth_url"),
        (user or user_id, "username"),
        (password, "password"),
        (domain_id or domain_name or user_id, "user_domain_name"),
        (project_id or project_name, "project_name"),
    )
    register(password or "")
    made = KeystonePassword(
        url=_base(url or "", entry),
        user=user or "",
        password=password or "",
        domain_id=domain_id,
        domain_name=domain_name,
        project_id=project_id,
        project_name=project_name,
        user_id=user_id,
        source=entry.where,
        project_domain_id=entry.text("project_domain_id"),
        project_domain_name=entry.text("project_domain_name"),
    )
    if keystone:
        _complete(entry, (_has_project_domain(made), "project_domain_name"))
        return made
    # A Huawei-style identity service knows the project's domain, and is asked in its documented form.
    fields = {name: getattr(made, name) for name in Password.__slots__}
    return Password(**fields)


def _project(entry: Entry) -> tuple[str | None, str | None]:
    return entry.text("project_id", "tenant_id"), entry.text("project_name", "tenant_name")


def _has_project_domain(made: KeystonePassword) -> bool:
    return bool(
        made.project_id
        or made.project_domain_id
        or made.project_domain_name
        or made.domain_id
        or made.domain_name
    )


def _token(entry: Entry, url: str | None) -> GivenToken:
    token = entry.text("token")
    project_id, project_name = _project(entry)
    _complete(entry, (url, "auth_url"), (token, "token"), (project_id or project_name, "project_name"))
    register(token or "")
    return GivenToken(
        url=_base(url or "", entry),
        token=token or "",
        project_id=project_id,
        project_name=project_name,
        project_domain_id=entry.text("project_domain_id", "default_domain_id"),
        project_domain_name=entry.text("project_domain_name", "default_domain_name", "default_domain"),
        source=entry.where,
    )


def _application(entry: Entry, url: str | None) -> ApplicationCredential:
    id_, name = entry.text("application_credential_id"), entry.text("application_credential_name")
    secret = entry.text("application_credential_secret")
    user, user_id = entry.text("username", "user_name"), entry.text("user_id")
    domain_id = entry.text("user_domain_id", "domain_id")
    domain_name = entry.text("user_domain_name", "domain_name", "default_domain_name", "default_domain")
    _complete(
        entry,
        (url, "auth_url"),
        (id_ or name, "application_credential_id"),
        (secret, "application_credential_secret"),
        (id_ or user or user_id, "username"),
        (id_ or user_id or domain_id or domain_name, "user_domain_name"),
    )
    register(secret or "")
    return ApplicationCredential(
        url=_base(url or "", entry),
        id=id_ or "",
        secret=secret or "",
        name=name or "",
        user_id=user_id,
        user=user,
        domain_id=domain_id,
        domain_name=domain_name,
        source=entry.where,
    )


def _access(entry: Entry, region: str | None, url: str | None) -> KeyCredentials:
    url = url or entry.text("auth_url", "iam_endpoint")
    project_id, project_name = _project(entry)
    if not url and not region:
        raise CloudUnusable(
            f"{entry.where}: neither the region nor the identity service's address is known",
            hint="write cloud.region into the plan, or export OS_REGION_NAME or OS_AUTH_URL",
        )
    if not (project_id or project_name or region):
        raise CloudUnusable(
            f"{entry.where}: the project is not known",
            hint="give its id or name (HUAWEICLOUD_SDK_PROJECT_ID, OS_PROJECT_NAME, project_id in the file),"
            " or the region: a region's first project is called like it",
        )
    url = (url or identity_of_region(region or "")).replace("{region_name}", region or "")
    return KeyCredentials(
        url=_base(url if "://" in url else f"https://{url}", entry),
        key=access_key(entry),
        project_id=project_id,
        project_name=project_name or region,
        user_id=entry.text("user_id"),
        domain_id=entry.text("domain_id", "user_domain_id"),
        source=entry.where,
    )


def access_key(entry: Entry) -> AccessKey:
    """Return an access key; raises as `built`."""
    access, secret = entry.text("ak", "access_key"), entry.text("sk", "secret_key")
    security_token = entry.text("security_token")
    _complete(entry, (access, "ak"), (secret, "sk"))
    register(secret or "")
    register(security_token or "")
    return AccessKey(access or "", secret or "", security_token)


def _complete(entry: Entry, *wanted: tuple[object, str]) -> None:
    """Raise with everything that is missing, in the words of where it should have been."""
    missing = [name for value, name in wanted if not value]
    if not missing:
        return
    if entry.where == ENVIRONMENT:
        raise CloudUnusable(
            f"not set in the environment: {', '.join(f'OS_{name.upper()}' for name in missing)}",
            hint="export them, or source the openrc file that the cloud's console offers; "
            "OS_USER_DOMAIN_NAME is the account's name, OS_PROJECT_NAME the region's (eu-de)",
        )
    raise CloudUnusable(
        f"{entry.where}: missing: {', '.join(missing)}",
        hint="add what is missing there; secrets may stand in secure.yaml: in the current folder, in"
        " ~/.config/openstack, in /etc/openstack, or where OS_CLIENT_SECURE_FILE says",
    )


def _base(url: str, entry: Entry) -> str:
    try:
        return identity_base(url)
    except CloudUnusable as error:
        if entry.where == ENVIRONMENT:
            raise
        message = error.message.replace("OS_AUTH_URL", "auth_url")
        raise CloudUnusable(f"{entry.where}: {message}", hint=error.hint) from None


def _trusted(entry: Entry) -> str | None:
    """Return the file of certificates to trust.

    Raises:
        CloudUnusable: Certificates are not to be checked: whoever stands between would get the login.
    """
    verify = str(entry.values.get("verify", True)).lower()
    insecure = str(entry.values.get("insecure") or False).lower()
    if verify in _NO or insecure in _YES:
        what = "verify: false" if verify in _NO else "insecure"
        raise CloudUnusable(
            f"{entry.where}: {what}: certificates are always checked",
            hint="take it out; where the cloud has a certificate authority of its own, name its file in"
            " cacert (OS_CACERT)",
        )
    cacert = entry.text("cacert", "ca_file")
    return str(Path(cacert).expanduser()) if cacert else None


def overrides(entry: Entry, *, keystone: bool) -> dict[str, str]:
    """Return the addresses of services that an entry gives."""
    found = {}
    for service, names in (KEYSTONE_OVERRIDES if keystone else ECS_OVERRIDES).items():
        keys = [f"{name}_{ending}" for name in names for ending in ("endpoint_override", "endpoint")]
        given = entry.text(*keys)
        if given is None:
            continue
        for mark in ("%(project_id)s", "%(tenant_id)s", "$(project_id)s", "$(tenant_id)s"):
            given = given.replace(mark, "").rstrip("/")
        if not (address := origin(given)):
            raise CloudUnusable(
                f"{entry.where}: the address of {service} is no URL",
                hint=f"write {names[0]}_endpoint_override: https://…",
            )
        # The documented paths of an ECS cloud begin at the root; Nova may live below one.
        found[service] = given if keystone else address
    return found
