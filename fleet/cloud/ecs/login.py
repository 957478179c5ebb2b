"""Which login is meant, of all the ways in which users of these clouds log in already.

The first of these that is there: the entry of clouds.yaml that the plan names (``cloud.profile``), the one
that ``OS_CLOUD`` names, the ``OS_…`` variables, an access key in the environment (``OS_ACCESS_KEY``,
``HUAWEICLOUD_SDK_AK``, ``HW_ACCESS_KEY``), Huawei's credentials file. Nothing is mixed: a password of one
place is never used with an address of another. ``docs/logging-in.md`` has the whole table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fleet.cloud.ecs.credentials import ENVIRONMENT, Password
from fleet.cloud.ecs.endpoints import origin
from fleet.cloud.ecs.login_build import ECS_OVERRIDES, Found, access_key, built, kind_of, overrides, password
from fleet.cloud.ecs.login_files import (
    Entry,
    credentials_path,
    names_of_clouds,
    read_cloud,
    read_credentials,
)
from fleet.cloud.ecs.login_key import KeyCredentials
from fleet.cloud.ecs.signing import AccessKey
from fleet.core.settings import CloudSettings
from fleet.errors import CloudUnusable

_FAMILIES = (
    (("OS_ACCESS_KEY", "OS_AK"), ("OS_SECRET_KEY", "OS_SK"), "OS_SECURITY_TOKEN"),
    (("HUAWEICLOUD_SDK_AK",), ("HUAWEICLOUD_SDK_SK",), "HUAWEICLOUD_SDK_SECURITY_TOKEN"),
    (("HW_ACCESS_KEY",), ("HW_SECRET_KEY",), "HW_SECURITY_TOKEN"),
)
"""Variables of an access key: id, secret, security token. They belong together and are never mixed."""

_KEY_FACTS = {
    "auth_url": ("OS_AUTH_URL", "HUAWEICLOUD_SDK_IAM_ENDPOINT", "HW_AUTH_URL"),
    "project_id": ("OS_PROJECT_ID", "OS_TENANT_ID", "HUAWEICLOUD_SDK_PROJECT_ID", "HW_PROJECT_ID"),
    "project_name": ("OS_PROJECT_NAME", "OS_TENANT_NAME", "HW_PROJECT_NAME"),
    "domain_id": ("OS_DOMAIN_ID", "OS_USER_DOMAIN_ID", "HUAWEICLOUD_SDK_DOMAIN_ID", "HW_DOMAIN_ID"),
    "user_id": ("OS_USER_ID", "HW_USER_ID"),
    "region_name": ("OS_REGION_NAME", "HW_REGION_NAME"),
}


def find(settings: CloudSettings, environ: Mapping[str, str], *, keystone: bool = False) -> Found:
    """Find the login that is meant. Sends nothing.

    Args:
        settings: The plan's cloud.
        environ: The environment.
        keystone: The cloud is an OpenStack: no access keys, and a project's name needs its domain.

    Raises:
        CloudUnusable: There is none, or it is incomplete. Says what is missing, and where.
    """
    url = settings.endpoints.get("identity" if keystone else "iam")
    if name := settings.profile or environ.get("OS_CLOUD"):
        found = _of_cloud(name, environ, settings.region, url, keystone=keystone)
    else:
        found = _of_environment(environ, settings.region, url, keystone=keystone)
    if keystone and isinstance(found.credentials, KeyCredentials):
        raise CloudUnusable(
            f"{found.source}: an access key is no login for OpenStack",
            hint="give a password or an application credential; for Huawei-style clouds write provider: ecs",
        )
    return replace(found, endpoints={**found.endpoints, **settings.endpoints})


def login_from_environment(environ: Mapping[str, str], *, iam: str | None = None) -> Password:
    """Return the password login that the ``OS_…`` variables name.

    Args:
        environ: The environment.
        iam: The identity service's URL from the plan; wins over ``OS_AUTH_URL``.

    Raises:
        CloudUnusable: Some are missing; all of them are named.
    """
    return password(_environment(environ), iam, keystone=False)


def _of_cloud(
    name: str, environ: Mapping[str, str], region: str | None, url: str | None, *, keystone: bool
) -> Found:
    entry = read_cloud(name, environ)
    regions = entry.values.get("regions")
    if isinstance(regions, list) and len(regions) == 1 and isinstance(regions[0], str):
        region = region or entry.text("region_name") or regions[0]
    region = region or entry.text("region_name")

    def again() -> AccessKey:
        return access_key(read_cloud(name, environ))

    found = built(entry, kind_of(entry), region, url, keystone=keystone)
    if isinstance(found.credentials, KeyCredentials):
        found = replace(found, credentials=replace(found.credentials, reread=again))
    return found


def _of_environment(
    environ: Mapping[str, str], region: str | None, url: str | None, *, keystone: bool
) -> Found:
    entry = _environment(environ)
    kind = kind_of(entry)
    region = region or entry.text("region_name")
    if kind is None and (keys := _keys_of(environ)) is not None:
        region = region or keys.text("region_name")
        endpoints = {**overrides(entry, keystone=keystone), **_sdk_overrides(environ, region)}
        return replace(built(keys, "access key", region, url, keystone=keystone), endpoints=endpoints)
    if kind is not None or any(environ.get(name) for name in ("OS_AUTH_URL", "OS_USERNAME")):
        return built(entry, kind, region, url, keystone=keystone)
    if (path := credentials_path(environ)) and path.is_file():
        filed = read_credentials(path)
        region = region or environ.get("HW_REGION_NAME")
        # What the SDK's file has no field for, the environment may say.
        entry = replace(filed, values={"user_id": environ.get("OS_USER_ID"), **filed.values})
        found = built(entry, "access key", region, url, keystone=keystone)
        assert isinstance(found.credentials, KeyCredentials)  # noqa: S101 - as asked for
        again = replace(found.credentials, reread=lambda: access_key(read_credentials(path)))
        return replace(found, credentials=again, endpoints=_sdk_overrides(environ, region))
    raise _nothing(environ)


def _nothing(environ: Mapping[str, str]) -> CloudUnusable:
    ways = "OS_CLOUD, OS_USERNAME and OS_PASSWORD, OS_TOKEN, an application credential, an access key"
    if names := names_of_clouds(environ):
        hint = f"clouds.yaml has {', '.join(names)}: name one with OS_CLOUD or cloud.profile"
    else:
        hint = (
            "export the variables of the openrc file that the cloud's console offers"
            " (OS_AUTH_URL, OS_USERNAME, OS_PASSWORD, OS_USER_DOMAIN_NAME, OS_PROJECT_NAME)"
        )
    return CloudUnusable(
        f"no login was found: none of {ways} is set, and there is no"
        f" {credentials_path(environ) or '~/.huaweicloud/credentials'}",
        hint=f"{hint}; docs/logging-in.md has every way",
    )


def _environment(environ: Mapping[str, str]) -> Entry:
    """Return the ``OS_…`` variables in the form of an entry of clouds.yaml, as openstacksdk does."""
    values = {
        name.removeprefix("OS_").lower(): value
        for name, value in environ.items()
        if name.startswith("OS_") and value
    }
    return Entry(where=ENVIRONMENT, values=values, auth={})


def _keys_of(environ: Mapping[str, str]) -> Entry | None:
    """Return the first family of variables that names an access key, with what else is known."""
    for access_names, secret_names, token_name in _FAMILIES:
        access = next((environ[name] for name in access_names if environ.get(name)), None)
        secret = next((environ[name] for name in secret_names if environ.get(name)), None)
        if access is None and secret is None:
            continue
        if access is None or secret is None:
            missing = access_names[0] if access is None else secret_names[0]
            raise CloudUnusable(
                f"not set in the environment: {missing}",
                hint="an access key is an id and a secret: export both",
            )
        facts = {
            fact: next((environ[name] for name in names if environ.get(name)), None)
            for fact, names in _KEY_FACTS.items()
        }
        where = f"the environment ({access_names[0]})"
        cacert = {name: environ.get(f"OS_{name.upper()}") for name in ("cacert", "insecure")}
        given = {"ak": access, "sk": secret, "security_token": environ.get(token_name)}
        return Entry(where=where, values={**facts, **cacert, **given}, auth={})
    return None


def _sdk_overrides(environ: Mapping[str, str], region: str | None) -> dict[str, str]:
    """Return addresses as Huawei's SDK reads them: ``HUAWEICLOUD_SDK_REGION_ECS_EU_DE``."""
    if not region:
        return {}
    found = {}
    for service in ECS_OVERRIDES:
        variable = f"HUAWEICLOUD_SDK_REGION_{service}_{region.replace('-', '_')}".upper()
        if address := origin(environ.get(variable, "")):
            found[service] = address
    return found
